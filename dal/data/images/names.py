"""Names of files and folders: which are read, and how people see them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

PICTURE = re.compile(
    r"\.(?:jpe?g|jpe|jfif|mpo|png|webp|bmp|dib|gif|tiff?|p[pgbn]m|jp2|j2[kc]|jp[cfx]|avif|hei[cf])\Z",
    re.IGNORECASE,
)
"""Names that end like a picture's; HEIC, which is not read, so that it is told of."""
IGNORED = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"})
"""What systems put beside pictures, in lower case; whatever begins with a dot as well."""
_BAD = ("Cc", "Cs", "Zl", "Zp")


def is_ignored(name: str) -> bool:
    """Whether a file or folder is the system's, not the user's."""
    return name[0] == "." or name.lower() in IGNORED


def shown(name: str) -> str:
    r"""A name as people see it, on one line and in UTF-8.

    Args:
        name: As the system gives it; bytes that are no UTF-8 are lone surrogates
            (``surrogateescape``).

    Returns:
        The name itself; where it holds control characters, line separators or bytes that are no
        UTF-8, these and backslashes are written as in a Python string, bytes as ``\xe9``.
    """
    if name.isprintable() or not any(unicodedata.category(letter) in _BAD for letter in name):
        return name
    return "".join(_escaped(letter) for letter in name)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    if letter == "\\" or unicodedata.category(letter) in _BAD:
        return letter.encode("unicode_escape").decode()
    return letter


def class_name(folder: str) -> str:
    """The name of a class whose pictures lie in a folder of that name.

    In the composed normal form (NFC), so that two spellings that look and mean the same are one.
    """
    return unicodedata.normalize("NFC", shown(folder)).strip()


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names, for a line."""
    return ", ".join(map(shown, names[:most])) + ", ..." * (len(names) > most)


def counted(number: int, noun: str) -> str:
    """Such as ``1 picture`` or ``1,234 pictures``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def fact(names: Sequence[str], noun: str, words: str, rest: str = "") -> str:
    """A phrase of the log: how many, what, the first few of them in brackets, and the rest."""
    return f"{counted(len(names), noun)} {words} ({some(names)}){rest}"
