"""What the last model is worth label by label: ``by_label.json``, and a table of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dal.data.source import Source, is_known
from dal.pool import Pool
from dal.recording.run_directory import RunDirectory
from dal.recording.words import cell, in_words
from dal.state import State

BY_LABEL = "by_label.json"
COLUMNS = ("support", "labeled", "precision", "recall", "f1", "average_precision", "threshold")
"""What is told of a label, in the order of tables; see `by_label`."""

Labels = Mapping[str, Mapping[str, float]]


def known_counts(source: Source) -> Tensor:
    """How many training samples have each class, as the data say, labeled or not: int64, (C,)."""
    own = source.train.targets
    return source.task.class_counts(own[is_known(own)])


def by_label(
    state: State, pool: Pool, source: Source, known: Tensor
) -> dict[str, dict[str, float]]:
    """What is known of every class, or label, after a fit, by name.

    Args:
        state: After the fit, with its metrics of the test part.
        pool: What is labeled.
        source: The data, for names.
        known: See `known_counts`.

    Returns:
        By class name ``support``, its samples in the test part; ``labeled``, those labeled so far,
        in the round of the fit as well; ``known``, those of the training part as far as the data
        say, labeled or not; ``precision``, ``recall``, ``f1`` and ``average_precision`` on the test
        part, as far as they are defined; ``threshold``, the probability above which it is
        predicted, where that was fitted. Empty without a test part.
    """
    if not state.by_label:
        return {}
    columns: dict[str, Tensor] = {
        **state.by_label,
        "labeled": source.task.class_counts(pool.train_set().answers().targets),
        "known": known,
    }
    named = {name: source.named(column) for name, column in columns.items()}
    named["threshold"] = state.row.get("thresholds", {})
    return {
        label: {name: column[label] for name, column in named.items() if label in column}
        for label in source.class_names
    }


def keep_by_label(directory: RunDirectory, found: Labels, row: Mapping[str, Any]) -> None:
    """Write what `by_label` gave, with the round and the labels paid for by its fit.

    Raises:
        OSError: The disk is full or not writable.
    """
    told = {"round": row["round"], "labels": row["labels"], "classes": found}
    directory.write(BY_LABEL, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def label_table(found: Labels, most: int) -> str:
    """A Markdown table of labels, those of the lowest F1 first.

    Args:
        found: As `by_label` gives it.
        most: How many labels are shown.
    """
    known = [name for name in COLUMNS if any(name in values for values in found.values())]
    worst = sorted(found, key=lambda label: found[label].get("f1", 0.0))[:most]
    lines = [["label", *map(in_words, known)], ["---", *["---:"] * len(known)]]
    lines += [[cell(label, 40), *(_number(found[label].get(n)) for n in known)] for label in worst]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    rest = len(found) - len(worst)
    return f"{text}\n\nand {rest} more of a higher F1: `{BY_LABEL}`" if rest else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value}" if isinstance(value, int) else f"{value:.3f}"
