"""What tells groups of one data set and model apart, in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_SETTINGS = 4
"""So many settings stand in a title at most."""


def flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings as one level of dotted names."""
    found: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def told_apart(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """How the settings of each group differ from those of the others, in words.

    Args:
        settings: The settings of each group, nested or by dotted names; empty where they are not
            known.

    Returns:
        One text a group, such as ``pool noisy, query_size=5``: what makes its pool harder, where
        groups differ in that, then the settings in which they differ. Empty texts where they do
        not, or where the settings of one are not known.
    """
    every = [flat(one) for one in settings]
    if not all(every):
        return [""] * len(every)
    pools = [_pools(one) for one in every]
    keys = sorted({key for one in every for key in one})
    differing = [key for key in keys if _differs(key, every)]
    return [
        ", ".join([*_pool_words(pool, pools), *_words(one, differing)])
        for one, pool in zip(every, pools, strict=True)
    ]


def _differs(key: str, every: Sequence[Mapping[str, object]]) -> bool:
    """Whether groups differ in a setting.

    A setting of what makes pools harder is compared among the groups whose pools it makes harder.
    """
    parts = key.split(".")
    if parts[0] == "difficulty":
        every = [one for one in every if len(parts) > 2 and parts[1] in _pools(one)]
    return len({repr(one.get(key)) for one in every}) > 1


def _pools(settings: Mapping[str, object]) -> tuple[str, ...]:
    """What makes the pool harder: ``("noisy", "ood")``."""
    parts = [key.split(".") for key in settings]
    return tuple(sorted({part[1] for part in parts if part[0] == "difficulty" and len(part) > 2}))


def _pool_words(pool: Sequence[str], pools: Sequence[Sequence[str]]) -> list[str]:
    if len(set(map(tuple, pools))) == 1:
        return []
    return [f"pool {' and '.join(pool)}" if pool else "pool as it is"]


def _words(settings: Mapping[str, object], keys: Sequence[str]) -> list[str]:
    """Some settings as people write them, those of another class by its name."""
    shown = [key for key in keys if key in settings]
    words = [f"{_name(key)}={_value(settings[key])}" for key in shown]
    more = len(words) - MOST_SETTINGS
    return words if more <= 0 else [*words[:MOST_SETTINGS], f"{more} settings more"]


def _name(key: str) -> str:
    return key.removesuffix("._target_").removeprefix("difficulty.")


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, str):
        return value.rpartition(".")[2] if value.startswith(("dal.", "torch.")) else value
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"
    )
