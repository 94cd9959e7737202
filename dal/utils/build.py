"""Objects from settings such as ``{"_target_": "dal.models.LeNet5"}``, checked beforehand."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

TARGET = "_target_"

PUBLIC = {
    "committee": ("dal.learners.committees",),
    "data": ("dal.data",),
    "features": ("dal.features",),
    "setting": ("dal.runs", "dal.streams"),
    "cooperative": ("dal.cooperation",),
    "initial": ("dal.data.initial", "dal.data.initial_by_strategy", "dal.query"),
    "model": ("dal.models", "dal.models.estimators"),
    "oracle": ("dal.oracles",),
    "difficulty": ("dal.data",),
    "stopping": ("dal.stopping",),
    "strategy": ("dal.query",),
    "trainer": ("dal.training",),
}
"""Modules whose ``__all__`` are what may be built, by the part of a run that they are for.

Settings may come from a run directory of somebody else's. So nothing else of the package can be
named by them: what builds, loads or runs something named by its arguments must not stand there.
"""


def build(
    settings: Mapping[str, Any], part: str | None = None, *, allow: Sequence[str] = (), **extra: Any
) -> Any:
    """Call the target of some settings with the rest of them; nested targets first.

    Args:
        settings: ``_target_`` (a dotted name) and the keyword arguments for it, which may be
            settings of their own, or lists and dicts that hold some.
        part: Which part of a run it is, a key of `PUBLIC`; None for any.
        allow: Packages besides ``dal`` that targets may come from. Only whoever runs the command
            may say so, never a file that is being read.
        **extra: Keyword arguments that settings cannot hold, such as data.

    Returns:
        What the target returns.

    Raises:
        ValueError: The target is not allowed, or does not exist.
        TypeError: An argument is unknown (with a suggestion), missing, or of the wrong type.
    """
    return factory(settings, part, allow=allow)(**extra)


def factory(
    settings: Mapping[str, Any],
    part: str | None = None,
    *,
    allow: Sequence[str] = (),
    deep: bool = False,
) -> partial[Any]:
    """Like `build`, but not called yet: a partial to which the extra arguments are given.

    Args:
        settings: See `build`.
        part: See `build`.
        allow: See `build`.
        deep: Nested targets are not called either, since they take extra arguments too: see `call`.
    """
    if not isinstance(settings, Mapping) or TARGET not in settings:
        raise ValueError(
            f"the settings of {part or 'an object'} are {settings!r:.60}; name a class or function "
            f"in {TARGET}"
        )
    target = find(str(settings[TARGET]), part, allow)
    given = {key: value for key, value in settings.items() if key != TARGET}
    make = partial(factory, deep=True) if deep else build
    make = partial(make, part=part, allow=allow)
    arguments = {key: _built(value, make) for key, value in given.items()}
    check_arguments(target, arguments, str(settings[TARGET]), f"{part}." if part else "")
    return partial(target, **arguments)


def call(made: Any, at_hand: Mapping[str, Any]) -> Any:
    """Call what `factory` gave, and the factories nested in it before, with what they name.

    Args:
        made: A partial; or a list, a dict, or any other value that may stand among its arguments.
        at_hand: Arguments by name; each factory is given those that it has a parameter for, unless
            its settings say something else.
    """
    if isinstance(made, Mapping):
        return {key: call(inner, at_hand) for key, inner in made.items()}
    if isinstance(made, list):
        return [call(inner, at_hand) for inner in made]
    if not isinstance(made, partial):
        return made
    given = {key: call(inner, at_hand) for key, inner in made.keywords.items()}
    wanted = inspect.signature(made.func).parameters
    return made.func(**{key: at_hand[key] for key in wanted if key in at_hand} | given)


def find(name: str, part: str | None = None, allow: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or function of a dotted name.

    Args:
        name: Of ``dal`` whatever is public for the part, under any name that leads to it; of other
            packages what they define themselves, or list in ``__all__``.
        part: See `build`.
        allow: See `build`.

    Raises:
        ValueError: It is not allowed, or does not exist.
    """
    package = name.partition(".")[0]
    if package != "dal" and not _inside(name, allow):
        raise ValueError(
            f"{name} is outside the packages that may be built ({', '.join(('dal', *allow))}); "
            f"add {package} to plugins (dal.load: to allow) if you trust it"
        )
    path, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(path)
        target = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        install = f"install {package}, or name its folder in PYTHONPATH"
        remedy = install if missing else "check the _target_"
        raise ValueError(f"there is no {name} ({error}); {remedy}") from error
    if not callable(target):
        raise ValueError(f"{name} is no class or function; check the _target_")
    own = package != "dal" and _inside(f"{getattr(target, '__module__', '')}.", allow)
    listed = package != "dal" and attribute in getattr(module, "__all__", ())
    if not (own or listed or _is_public(target, part)):
        raise ValueError(f"{name} may not be built: {_remedy(path, part, package)}")
    return target  # type: ignore[no-any-return]


def _inside(name: str, packages: Sequence[str]) -> bool:
    return any(name.startswith(f"{package}.") for package in packages)


def _is_public(target: Any, part: str | None) -> bool:
    """Whether it is a public class or function of the package, for a part or for any."""
    if not (inspect.isclass(target) or inspect.isfunction(target)):
        return False
    modules = map(importlib.import_module, _modules(part))
    return any(target is getattr(module, name) for module in modules for name in module.__all__)


def _modules(part: str | None) -> Sequence[str]:
    return PUBLIC[part] if part else [name for names in PUBLIC.values() for name in names]


def _remedy(path: str, part: str | None, package: str) -> str:
    if package == "dal":
        named = ", ".join(dict.fromkeys(_modules(part)))
        return f"it is no public name of {named}; check the _target_"
    return f"{path} only imports it; name the package it is from, or list it in {path}.__all__"


def spec_of(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Settings from which `build` makes the same object; None for what no module names."""
    if isinstance(function, partial):
        inner = spec_of(function.func)
        plain = not function.args and _is_plain(function.keywords)
        return {**inner, **function.keywords} if inner and plain else None
    name = getattr(function, "__qualname__", "<")
    if "<" in name or "." in name or getattr(function, "__module__", "__main__") == "__main__":
        return None
    return {TARGET: f"{function.__module__}.{name}"}


def check_arguments(
    target: Callable[..., Any], arguments: Mapping[str, Any], name: str, prefix: str = ""
) -> None:
    """Refuse arguments that the target does not take, or of another type than it says.

    Args:
        target: Shall be called with them.
        arguments: By name.
        name: What to call the target in errors.
        prefix: Stands before the name of an argument on a command line.

    Raises:
        TypeError: Naming target and argument.
    """
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    constructor: Any = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(constructor)
    for key, value in arguments.items():
        if key not in parameters and not takes_any:
            close = difflib.get_close_matches(key, parameters, 1)
            remedy = f"did you mean {close[0]}?" if close else f"it takes {', '.join(parameters)}"
            raise TypeError(f"{name} has no setting {key}; {remedy}")
        if key in hints and not fits(value, hints[key]):
            wanted = getattr(hints[key], "__name__", None) or str(hints[key])
            if get_origin(hints[key]) is Mapping:
                wanted = f"{wanted} of names to {get_args(hints[key])[1].__name__}"
            fact = f"{name}: {key}={value!r} is not of type {wanted}"
            raise TypeError(fact + _in_quotes(f"{prefix}{key}", value, hints[key]))


def _in_quotes(key: str, value: Any, hint: Any) -> str:
    """How values that were read as numbers are written as texts, where these would do."""
    listed = isinstance(value, list | tuple)
    parts = [str(part) for part in value] if listed else [str(value)]
    if value is None or not fits(parts if listed else parts[0], hint):
        return ""
    text = ",".join(f"'{part}'" for part in parts)
    return f'; texts stand in quotes: "{key}={f"[{text}]" if listed else text}"'


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of an annotated type; unknown annotations fit everything."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return True  # the target names its choices in a better error
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        holds = not isinstance(value, int) or abs(value) <= sys.float_info.max
        return isinstance(value, int | float) and not isinstance(value, bool) and holds
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin is Mapping:
        part = get_args(hint)[1]
        return isinstance(value, Mapping) and all(fits(v, part) for v in value.values())
    if origin in (list, tuple, Sequence):
        parts = [part for part in get_args(hint) if part is not Ellipsis]
        listed = isinstance(value, list | tuple)
        return listed and (len(set(parts)) != 1 or all(fits(v, parts[0]) for v in value))
    if origin is Iterable:
        return isinstance(value, Iterable)
    if inspect.isclass(hint) and hint.__module__.startswith("dal.") and _is_plain(value):
        return isinstance(value, hint)  # what is built may have another class, and do as well
    return True


def _is_plain(value: Any) -> bool:
    """Whether a value can be written down, as loading wants it: no object that was built."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _built(value: Any, make: Callable[[Mapping[str, Any]], Any]) -> Any:
    """A value with the settings that it is, or holds, made into what they name."""
    if isinstance(value, Mapping):
        if TARGET in value:
            return make(value)
        return {key: _built(inner, make) for key, inner in value.items()}
    return [_built(inner, make) for inner in value] if isinstance(value, list) else value
