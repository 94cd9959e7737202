"""Labels that stand in the columns of a table."""

from __future__ import annotations

import difflib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dal.data.class_names import NO_LABEL, SEPARATOR
from dal.data.inputs import Array
from dal.data.source import UNKNOWN
from dal.data.table_features import is_missing, numbers_of

log = logging.getLogger(__name__)

MOST_FRACTIONS = 50
"""More different numbers with fractions are no classes."""
FEW_FRACTIONS = 10
"""Fewer may be classes, though each stands in one row only."""
_WHOLE = re.compile(r"-?[0-9]+(\.0+)?")
_PLAIN = re.compile(r"(?!(true|false|null|nan|inf)$)[a-z_][a-z0-9_.-]*", re.IGNORECASE)
_HOLDS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0, "-1": UNKNOWN, "-1.0": UNKNOWN}


def labels_of(
    columns: Mapping[str, Sequence[str]],
    target: str | Sequence[str] | None,
    class_names: Sequence[str] | None = None,
) -> tuple[Array, tuple[str, ...]]:
    """The labels in a table, as `dal.data.arrays.number_targets` takes them.

    - One column: a class a sample. Where a cell holds a ``;``, a sample may have several labels,
      with ``;`` between them, and ``-`` says that it has none.
    - Several columns: the labels that a sample may have, 1 (or ``true``) where it holds and 0 (or
      ``false``) where not.

    An empty cell marks a sample whose label is not known, and so does a word that says so, such as
    ``NA``, ``nan``, ``null`` or ``None``, unless the class names hold it, and -1 where the others
    are whole numbers; of several columns a row of them. Blanks around labels do not count, and 3.0
    is 3 where all are whole numbers: pandas writes it so where some are missing.

    Args:
        columns: The cells of a table, all columns of N.
        target: The column, or the columns; None where no label is known.
        class_names: The names in the order that outputs shall have, None for their own in
            ascending order. Where the labels are the numbers from 0 on, their names.

    Returns:
        str (N,), or int64 (N, C) of 0 and 1, -1 in a row of unknown labels; and the C names.

    Raises:
        ValueError: There is no such column, or it holds something else, such as a quantity; names
            column and row, counted from 1 below the header.
    """
    names = tuple(class_names or ())
    if target is None:
        return np.full(len(next(iter(columns.values()))), "", dtype=np.str_), names
    if not target:
        raise ValueError("data.target names no column; give one, or null where no label is known")
    if not isinstance(target, str) and len(target) != 1:
        return _of_several(columns, target), names or tuple(target)
    (target,) = [target] if isinstance(target, str) else target
    cells = [cell.strip() for cell in column(columns, target, "data.target")]
    counts = Counter(cells)
    _say_unknown({cell: n for cell, n in counts.items() if _tells_nothing(cell, names)}, target)
    if any(SEPARATOR in cell for cell in counts):
        held = [[name.strip() for name in cell.strip(SEPARATOR).split(SEPARATOR)] for cell in cells]
        return _of_lists(held, names, target)
    if not names:
        _refuse_quantities(counts, target)
    found, names = _named(counts, names, target)
    return np.array([found[cell] for cell in cells], dtype=np.str_), names


def column(columns: Mapping[str, Sequence[str]], name: str, setting: str) -> Sequence[str]:
    """The column of a name.

    Raises:
        ValueError: There is none; says which are meant perhaps, and names the setting.
    """
    if name in columns:
        return columns[name]
    close = difflib.get_close_matches(name, columns, 1, 0.7)
    meant = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"there is no column {name!r}; {meant}set {setting} to one of {', '.join(columns)}"
    )


def override(key: str, *names: str, several: bool = True) -> str:
    """A setting that names columns, as a command line takes it: ``"data.drop=['a (cm)']"``.

    Args:
        key: Its name.
        names: The columns.
        several: It is a list.
    """
    plain = all(map(_PLAIN.fullmatch, names))
    escaped = (name.replace("\\", "\\\\").replace("'", "\\'") for name in names)
    value = ",".join(names if plain else (f"'{name}'" for name in escaped))
    text = f"{key}=[{value}]" if several else f"{key}={value}"
    return text if plain else f'"{text}"'


def _tells_nothing(cell: str, names: Sequence[str] = ()) -> bool:
    """Whether a word stands for a label that is not known, as ``NA`` does, and names no class.

    A lone ``-`` is none of these words: it is a class, such as beside ``+``, or says that none of
    several labels holds.
    """
    word = cell.strip()
    return is_missing(word) and word not in ("", NO_LABEL, *names)


def _say_unknown(words: Mapping[str, int], target: str) -> None:
    if words:
        log.warning(
            "%d labels in the column %r are unknown, as they say %s; where such a word is a class, "
            "list it in data.class_names",
            sum(words.values()),
            target,
            " or ".join(sorted(words)),
        )


def _refuse_quantities(counts: Mapping[str, int], target: str) -> None:
    """Refuse numbers with fractions of which hardly any comes twice, or too many: no classes."""
    labels = [label for label in counts if label and not _tells_nothing(label)]
    numbers = numbers_of([label.replace(",", ".") for label in labels])
    fractions = [
        label
        for label, n in zip(labels, numbers, strict=True)
        if np.isfinite(n) and n != np.rint(n)
    ]
    rows, different = sum(counts[label] for label in fractions), len(fractions)
    most = 2 * rows > sum(counts[label] for label in labels)
    if most and (different > MOST_FRACTIONS or FEW_FRACTIONS <= different >= 0.9 * rows):
        raise ValueError(
            f"the column {target!r} holds {different} different numbers with fractions, such as "
            f"{fractions[0][:40]!r}, and looks like a quantity; regression is not supported: write "
            "the name of a bin in each row, or list all values in data.class_names where they are "
            "classes"
        )


def _named(
    labels: Iterable[str], names: tuple[str, ...], target: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """For each label as it is written the name of its class, empty where it is not known."""
    silent = {label for label in labels if _tells_nothing(label, names)}
    written = sorted({*labels} - silent - {""})
    whole = [label for label in written if _WHOLE.fullmatch(label)]
    if whole and {*written} - {*whole} <= {NO_LABEL} - {*names}:
        numbers = {label: int(label.partition(".")[0]) for label in whole}
        found = dict.fromkeys(["", *written], "") | _of_numbers(numbers, names, target)
        written = sorted((label for label in whole if found[label]), key=numbers.__getitem__)
    else:
        found = {label: label for label in ("", *written)}
    found |= dict.fromkeys(silent, "")
    own = dict.fromkeys(found[label] for label in written)
    if absent := [label for label in own if names and label not in names]:
        raise ValueError(
            f"the column {target!r} holds the label {absent[0]!r}, which is not in class_names "
            f"{list(names)}; add it"
        )
    return found, names or tuple(own)


def _of_numbers(numbers: Mapping[str, int], names: tuple[str, ...], target: str) -> dict[str, str]:
    """The class of each label that is a whole number; those that mark unknown ones are left out."""
    known = {label: number for label, number in numbers.items() if number != UNKNOWN}
    if len(known) < len(numbers) and (least := min(numbers.values())) < UNKNOWN:
        raise ValueError(
            f"the column {target!r} holds {least} and {UNKNOWN}, which marks unknown labels and "
            "may be meant as a class; write class numbers from 0 on, or words"
        )
    plain = {label: label.partition(".")[0] for label in known}
    are_positions = all(0 <= number < len(names) for number in known.values())
    if are_positions and not {*plain.values()} <= {*names}:
        return {label: names[number] for label, number in known.items()}
    return plain


def _of_lists(
    held: list[list[str]], names: tuple[str, ...], target: str
) -> tuple[Array, tuple[str, ...]]:
    """Rows of 0 and 1 for the labels that each sample has."""
    found, names = _named({name for row in held for name in row} - {NO_LABEL}, names, target)
    place = {name: number for number, name in enumerate(names)}
    rows = np.zeros((len(held), len(names)), dtype=np.int64)
    for number, labels in enumerate(held):
        if labels == [NO_LABEL]:
            continue
        known = [found.get(label, "") for label in labels]
        if not any(known):
            rows[number] = UNKNOWN
        elif all(known):
            rows[number, [place[name] for name in known]] = 1
        else:
            raise ValueError(
                f"the column {target!r} has {SEPARATOR.join(labels)!r} in row {number + 1}, where "
                "one label is empty or none; mend it"
            )
    return rows, names


def _of_several(columns: Mapping[str, Sequence[str]], targets: Sequence[str]) -> Array:
    """Rows of 0 and 1 from a column for each label."""
    found = []
    for name in targets:
        cells = column(columns, name, "data.target")
        values = {cell: _HOLDS.get(cell.strip().lower()) for cell in set(cells)}
        values |= {cell: UNKNOWN for cell in values if not cell.strip() or _tells_nothing(cell)}
        if bad := {cell for cell, value in values.items() if value is None}:
            row = next(number for number, cell in enumerate(cells, 1) if cell in bad)
            raise ValueError(
                f"the column {name!r} has {cells[row - 1][:40]!r} in row {row}; of several columns "
                "of labels each holds 1 where the label holds, 0 where not, or nothing"
            )
        found.append(np.array([values[cell] for cell in cells], dtype=np.int64))
    rows = np.stack(found, axis=1)
    unknown = rows == UNKNOWN
    partly = unknown.any(1) & ~unknown.all(1)
    if partly.any():
        row = int(partly.argmax())
        raise ValueError(
            f"row {row + 1} has labels in some of the columns {', '.join(targets)} and none in "
            f"{targets[int(unknown[row].argmax())]!r}; write 0 where a label does not hold"
        )
    return rows
