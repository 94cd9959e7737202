"""Objects from settings such as ``{"_target_": "dal.models.LeNet5"}``, checked beforehand."""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

TARGET = "_target_"


def build(settings: Mapping[str, Any], *, allow: Sequence[str] = (), **extra: Any) -> Any:
    """Call the target of some settings with the rest of them; nested targets first.

    Args:
        settings: ``_target_`` (a dotted name) and the keyword arguments for it, which may be
            settings of their own, or lists and dicts that hold some.
        allow: Packages besides ``dal`` that targets may come from.
        **extra: Keyword arguments that settings cannot hold, such as data.

    Returns:
        What the target returns.

    Raises:
        ValueError: The target is not allowed, or does not exist.
        TypeError: An argument is unknown (with a suggestion), missing, or of the wrong type.
    """
    return factory(settings, allow=allow)(**extra)


def factory(settings: Mapping[str, Any], *, allow: Sequence[str] = ()) -> partial[Any]:
    """Like `build`, but not called yet: a partial to which the extra arguments are given."""
    target = find(str(settings[TARGET]), allow)
    arguments = {key: _built(value, allow) for key, value in settings.items() if key != TARGET}
    check_arguments(target, arguments, str(settings[TARGET]))
    return partial(target, **arguments)


def find(name: str, allow: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or function of a dotted name.

    Raises:
        ValueError: It is not allowed, or does not exist.
    """
    package = name.partition(".")[0]
    if package not in ("dal", *allow):
        raise ValueError(
            f"{name} is outside the packages that may be built ({', '.join(('dal', *allow))}); "
            f"add {package} to plugins if you trust it"
        )
    module, _, attribute = name.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no {name} ({error}); check the _target_") from error
    if not callable(target):
        raise ValueError(f"{name} is no class or function; check the _target_")
    return target  # type: ignore[no-any-return]


def spec_of(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Settings from which `build` makes the same object; None for what no module names."""
    if isinstance(function, partial):
        inner = spec_of(function.func)
        return None if inner is None or function.args else {**inner, **function.keywords}
    name = getattr(function, "__qualname__", "<")
    if "<" in name or "." in name or getattr(function, "__module__", "__main__") == "__main__":
        return None
    return {TARGET: f"{function.__module__}.{name}"}


def check_arguments(target: Callable[..., Any], arguments: Mapping[str, Any], name: str) -> None:
    """Refuse arguments that the target does not take, or of another type than it says.

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
            raise TypeError(f"{name}: {key}={value!r} is not of type {wanted}")


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
        return isinstance(value, int | float) and not isinstance(value, bool)
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
    return True


def _built(value: Any, allow: Sequence[str]) -> Any:
    """A value with the settings that it is, or holds, built."""
    if isinstance(value, Mapping):
        if TARGET in value:
            return build(value, allow=allow)
        return {key: _built(part, allow) for key, part in value.items()}
    return [_built(part, allow) for part in value] if isinstance(value, list) else value
