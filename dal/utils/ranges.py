"""Numbers among the settings: refused by name where they are out of range."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

MOST_WHOLE = 2**63 - 1
"""The largest number that a tensor of int64 can hold."""


def check_number(name: str, value: Any, *, positive: bool = False, below: float = math.inf) -> None:
    """Refuse what is no finite number of 0 or more, or positive, and below ``below``.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    wanted = "a positive number" if positive else "a number of 0 or more"
    wanted += f" and below {below:g}" if math.isfinite(below) else ""
    if not _is(Real, value):
        raise TypeError(f"{name}={value!r}; give {wanted}")
    large = _is(Integral, value) and value > MOST_WHOLE  # beyond what a float may hold
    low = value <= 0 if positive else value < 0
    if large or low or value >= below or not math.isfinite(value):
        raise ValueError(f"{name}={value}; give {wanted}")


def check_whole(
    name: str, value: Any, least: int, otherwise: str = "", most: int = MOST_WHOLE
) -> None:
    """Refuse what is no whole number of at least ``least`` that int64 can hold.

    Args:
        name: The setting.
        value: Its value.
        least: The smallest that is allowed.
        otherwise: What else may be given, for the error.
        most: The largest that is allowed.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is out of range.
    """
    if not _is(Integral, value):
        raise TypeError(f"{name}={value!r}; give a whole number of at least {least}{otherwise}")
    if value < least:
        raise ValueError(f"{name}={value}; give at least {least}{otherwise}")
    if value > most:
        raise ValueError(f"{name}={value}; give at most {most}")


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
