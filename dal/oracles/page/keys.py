"""Which key means which answer on the labeling page."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase, digits

UNSURE, UNDO, NEXT = " ", "Backspace", "Enter"
_OWN = frozenset(ascii_lowercase + digits)


def class_keys(names: Sequence[str]) -> list[str | None]:
    """A key for each class: None for those that are more than there are keys.

    Names that are all one letter or digit are their own keys, else 1 to 9 and then the letters are
    given in order. ``n`` is left out, which means "none of these".

    Args:
        names: The C class names.

    Returns:
        C keys as a browser names them; letters are small, and meant in either case.
    """
    own = [name.casefold() for name in names]
    if len(set(own)) == len(own) and set(own) <= _OWN:
        return list(own)
    keys = [*digits[1:], *(letter for letter in ascii_lowercase if letter != "n")]
    return [*keys[: len(names)], *[None] * (len(names) - len(keys))]


def none_keys(names: Sequence[str]) -> list[str]:
    """The keys that mean "none of these": ``n`` and ``0`` where no class has them, and ``-``."""
    taken = class_keys(names)
    return [key for key in ("n", "0", "-") if key not in taken]
