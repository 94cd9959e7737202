"""Which files are which samples, from one start of a run to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dal.data.images.cache import Seen
from dal.data.images.layout import PARTS, TRAIN, Catalog
from dal.data.images.names import counted, fact, shown, some
from dal.data.source import UNKNOWN, is_known

Digests = npt.NDArray[np.uint8]
OUT = len(PARTS)
"""In the place of a part: the picture is of a class that the run does not have."""


@dataclass(frozen=True)
class Samples:
    """Files that are samples, those of each part in the order of its samples.

    Attributes:
        names: As seen from the folder of the data.
        parts: int8, (N,), the number of each one's part in `PARTS`.
        targets: int64, (N,) or (N, C).
        digests: uint8, (N, 32), SHA-256 of each one's content; zeros where it is not known yet.
        positions: int64, (N,), where each stands in what was looked at.
        gray: bool, (N,), whether it has no colors.
    """

    names: list[str]
    parts: npt.NDArray[np.int8]
    targets: Tensor
    digests: Digests
    positions: npt.NDArray[np.int64]
    gray: npt.NDArray[np.bool_]

    @classmethod
    def unseen(cls, names: list[str], parts: npt.NDArray[np.int8], targets: Tensor) -> Samples:
        """Files that have not been looked at."""
        count = len(names)
        return cls(
            names, parts, targets, np.zeros((count, 32), np.uint8),
            np.zeros(count, np.int64), np.zeros(count, np.bool_),
        )  # fmt: skip

    def of(self, part: int) -> Samples:
        """Those of one part."""
        return self.at(np.flatnonzero(self.parts == part))

    def at(self, rows: npt.NDArray[np.int64]) -> Samples:
        """Some of them."""
        return Samples(
            [self.names[row] for row in rows.tolist()],
            self.parts[rows],
            self.targets[torch.from_numpy(rows)],
            self.digests[rows],
            self.positions[rows],
            self.gray[rows],
        )

    def __len__(self) -> int:
        return len(self.names)


def joined(first: Samples, then: Samples) -> Samples:
    """Samples, and others behind them."""
    if not len(first):
        return then
    return Samples(
        first.names + then.names,
        np.concatenate([first.parts, then.parts]),
        torch.cat([first.targets, then.targets]),
        np.concatenate([first.digests, then.digests]),
        np.concatenate([first.positions, then.positions]),
        np.concatenate([first.gray, then.gray]),
    )


def found_now(found: Catalog, class_names: Sequence[str]) -> Samples:
    """The pictures of a folder, with targets in the classes that a run has.

    Args:
        found: What lies in the folder.
        class_names: The classes of the run; a picture of another class is of the part `OUT`.
    """
    targets, fits = _translated(found.targets, found.class_names, class_names)
    parts = np.where(fits, found.parts, np.int8(OUT))
    return Samples.unseen(found.names, parts, targets)


def _translated(
    targets: Tensor, names: Sequence[str], wanted: Sequence[str]
) -> tuple[Tensor, npt.NDArray[np.bool_]]:
    """Targets numbered by other names, and which of them can be."""
    if tuple(names) == tuple(wanted):
        return targets, np.ones(len(targets), np.bool_)
    numbers = {name: number for number, name in enumerate(wanted)}
    if targets.ndim == 1:
        table = torch.tensor([numbers.get(name, UNKNOWN) for name in names] + [UNKNOWN])
        found = table[targets]  # the unknown ones, -1, find the last entry
        return found, (~is_known(targets) | is_known(found)).numpy()
    known = is_known(targets)
    found = torch.full((len(targets), len(wanted)), UNKNOWN)
    found[known] = 0
    kept = torch.ones(len(targets), dtype=torch.bool)
    for column, name in enumerate(names):
        if name in numbers:
            found[known, numbers[name]] = targets[known, column]
        else:
            kept &= targets[:, column] != 1
    return found, kept.numpy()


def recorded(listing: Mapping[str, Any]) -> Samples:
    """The samples that a run recorded, by part."""
    counts = [len(listing["names"][part]) for part in PARTS]
    samples = Samples.unseen(
        [name for part in PARTS for name in listing["names"][part]],
        np.repeat(np.arange(len(PARTS), dtype=np.int8), counts),
        torch.cat([listing["targets"][part] for part in PARTS]),
    )
    digests = torch.cat([listing["digests"][part] for part in PARTS]).numpy()
    return replace(samples, digests=digests)


def listing_of(parts: Mapping[str, Samples]) -> dict[str, dict[str, Any]]:
    """What a run records of its samples, by part, in plain containers and tensors."""
    return {
        "names": {name: part.names for name, part in parts.items()},
        "targets": {name: part.targets for name, part in parts.items()},
        "digests": {name: torch.from_numpy(part.digests) for name, part in parts.items()},
    }


def asked_about(known: Samples, now: Samples) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The files to look at: those that the run knows, and behind them the others.

    Returns:
        Their names; and which of ``now`` the others are.
    """
    place = {*known.names}
    new = np.array([row for row, name in enumerate(now.names) if name not in place], np.int64)
    return known.names + [now.names[row] for row in new.tolist()], new


def grown(known: Samples, now: Samples, seen: Seen) -> tuple[Samples, Samples, list[str]]:
    """Tell which of the files that are there now are samples that a run knows.

    A file that has another name now is recognized by its content.

    Args:
        known: The samples that the run recorded; none at its first start.
        now: The files that lie in the folder now.
        seen: What was seen of the files `asked_about`.

    Returns:
        The known samples, where they are now; the new ones; and what has changed, in phrases.

    Raises:
        ValueError: Samples of the run are gone, and no cache has them.
    """
    names, new = asked_about(known, now)
    digests, faults, usable = seen.digests, seen.faults, seen.usable
    count = len(known)
    changed = (digests[:count] != known.digests).any(1)
    changed[[row for row in faults if row < count]] = True
    where = np.arange(count)
    moved = _moved(known, digests, faults, np.flatnonzero(changed), len(names))
    for row, position in moved.items():
        where[row] = position
    taken = {*moved.values()}
    differing = np.flatnonzero(changed).tolist()
    stayed = [row for row in differing if row not in moved]
    if lost := [row for row in stayed if row in taken or not usable[row]]:
        raise ValueError(_lost([names[row] for row in lost], faults.get(lost[0], "")))
    odd = _changes(names, moved, faults, stayed) + _relabeled(known, now)
    samples = replace(
        known,
        names=[names[position] for position in where.tolist()],
        digests=digests[where],
        positions=where,
        gray=seen.gray[where],
    )
    files = dict(zip(new.tolist(), range(count, len(names)), strict=True))
    files |= _left_behind([row for row in moved if row not in faults], names, now)
    files = {row: at for row, at in sorted(files.items()) if usable[at] and at not in taken}
    at = np.array([*files.values()], np.int64)
    fresh = now.at(np.array([*files], np.int64))
    return samples, replace(fresh, digests=digests[at], positions=at, gray=seen.gray[at]), odd


def _left_behind(known: Sequence[int], names: Sequence[str], now: Samples) -> dict[int, int]:
    """Files of samples that have another file now: which of the files there they are."""
    rows = {name: row for row, name in enumerate(now.names)} if known else {}
    return {rows[names[at]]: at for at in known if names[at] in rows}


def _moved(
    known: Samples,
    digests: Digests,
    faults: Mapping[int, str],
    missing: npt.NDArray[np.int64],
    total: int,
) -> dict[int, int]:
    """Where the content of samples is now whose own files hold something else, or nothing."""
    count = len(known)
    free: dict[bytes, list[int]] = defaultdict(list)
    for position in [*missing.tolist(), *range(count, total)]:
        if position not in faults:
            free[digests[position].tobytes()].append(position)
    moved = {}
    for row in missing.tolist():
        if places := free.get(known.digests[row].tobytes()):
            moved[row] = places.pop(0)
    return moved


def _changes(
    names: Sequence[str], moved: Mapping[int, int], faults: Mapping[int, str], stayed: Sequence[int]
) -> list[str]:
    """What has become of files whose content is not what it was."""
    odd = []
    if moved:
        pairs = [f"{names[row]} is {names[position]}" for row, position in moved.items()]
        rest = "; what this run knows of labels stays"
        odd.append(fact(pairs, "picture", "with another path", rest))
    if gone := [names[row] for row in stayed if row in faults]:
        rest = "; this run goes on with the pixels in the cache"
        odd.append(fact(gone, "picture", "gone or damaged now", rest))
    if other := [names[row] for row in stayed if row not in faults]:
        odd.append(fact(other, "picture", "with other content than before", "; labels are kept"))
    return odd


def _relabeled(known: Samples, now: Samples) -> list[str]:
    """Files that folders or a table say something else of now."""
    rows = {name: row for row, name in enumerate(now.names)}
    pairs = [(row, rows[name]) for row, name in enumerate(known.names) if name in rows]
    if not pairs:
        return []
    ours, theirs = torch.tensor(pairs).T
    unlike = (known.targets[ours] != now.targets[theirs]).reshape(len(ours), -1).any(1)
    if not unlike.any():
        return []
    names = [known.names[row] for row in ours[unlike].tolist()]
    words = "with another label than when this run began"
    return [fact(names, "picture", words, ", which keeps its own")]


def _lost(names: Sequence[str], reason: str) -> str:
    why = f" ({shown(names[0])}: {reason})" if reason else ""
    return (
        f"{counted(len(names), 'picture')} of this run gone or damaged ({some(names, 5)}), and no "
        f"longer in the cache{why}; put back what is missing, or begin another run "
        "(another data.name, or saved_dir)"
    )


def newcomers(fresh: Samples) -> tuple[Samples, list[str]]:
    """Those of the new files that become candidates of a run that has begun.

    Returns:
        The samples; and what is odd of the others, in phrases.
    """
    odd = []
    if out := fresh.of(OUT).names:
        rest = "; another run learns them (another data.name, or saved_dir)"
        words = "of classes that this run does not have left out"
        odd.append(fact(out, "new picture", words, rest))
    if tests := fresh.at(np.flatnonzero((fresh.parts != TRAIN) & (fresh.parts != OUT))).names:
        rest = ": what a run is measured by stays"
        odd.append(fact(tests, "new test or validation picture", "left out", rest))
    return fresh.of(TRAIN), odd
