"""What lies in a folder: its pictures, its other files and its folders, at any depth."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dal.data.images.names import PICTURE, is_ignored, shown


@dataclass(frozen=True)
class Tree:
    """Paths as seen from the folder, with ``/`` between their parts, each list sorted.

    Attributes:
        names: Files whose names end like a picture's; links to such that lead nowhere as well.
        others: All other files.
        folders: Folders at any depth.
        skipped: Links to folders that are read in another place already, as those in a circle.
    """

    names: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def walk(root: Path) -> Tree:
    """Find all files below a folder; none of them is opened.

    Each folder is read once, wherever links lead to it; in its own place rather than by a link.
    Hidden files and those that systems make are left out.

    Raises:
        FileNotFoundError: There is nothing at the path.
        NotADirectoryError: It is a file.
        OSError: A folder cannot be read.
    """
    if not root.exists():
        raise FileNotFoundError(f"{shown(str(root))} does not exist; set data.path to a folder")
    if not root.is_dir():
        raise NotADirectoryError(
            f"{shown(str(root))} is a file; set data.path to the folder that the pictures lie in "
            "(data.metadata names a table of labels)"
        )
    tree, seen, links = Tree(), {_identity(root)}, [""]
    while links:  # all that is reached without another link, then what the next link leads to
        links.sort(reverse=True)
        link = links.pop()
        if link and (identity := _identity(root / link)) in seen:
            tree.skipped.append(link)
            continue
        if link:
            seen.add(identity)
        _read(root, link, tree, seen, links)
    for found in (tree.names, tree.others, tree.folders):
        found.sort()
    return tree


def _read(root: Path, start: str, tree: Tree, seen: set[tuple[int, int]], links: list[str]) -> None:
    """Read a folder and those in it; links to folders are put aside."""
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        if folder:
            tree.folders.append(folder)
        within = f"{folder}/" if folder else ""
        for entry in _entries(root / folder):
            if is_ignored(entry.name):
                continue
            path = within + entry.name
            kind = _kind(entry)
            if kind == "folder" and (identity := _identity(root / path)) not in seen:
                seen.add(identity)
                waiting.append(path)
            elif kind == "folder":  # mounted a second time
                tree.skipped.append(path)
            elif kind == "link":
                links.append(path)
            elif kind == "file" and PICTURE.search(entry.name):
                tree.names.append(path)
            else:
                tree.others.append(path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{shown(str(folder))} cannot be read ({error.strerror}); let it be read, or move it "
            "out of data.path",
        ) from error


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "link", "file", "other"]:
    """What to do with it; a link is one to a folder, and one that leads nowhere is a file.

    Others, such as pipes, must not be opened.
    """
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    if not entry.is_symlink():
        return "other"
    try:
        if entry.is_dir():
            return "link"
        return "file" if entry.is_file() or not Path(entry.path).exists() else "other"
    except OSError:  # a link to itself
        return "file"
