"""What a row of metrics says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AUDIT = "audit/accuracy"
LABELED, POOL = "sets/labeled", "sets/pool"
"""Of an epoch: how many samples are trained on, and how many have no label."""


def audit_words(row: Mapping[str, Any]) -> str:
    """What the audit slice says of a round's model; empty where it says nothing."""
    if AUDIT not in row:
        return ""
    low, high, labels = row["audit/low"], row["audit/high"], row["audit/labels"]
    several = "s" * (labels != 1)
    return f"audit accuracy {row[AUDIT]:.4f} ({low:.2f} to {high:.2f} by {labels} label{several})"


def guess_words(row: Mapping[str, Any]) -> str:
    """How many guesses a round's model learned from, and the share that is known to be wrong."""
    used, wrong = row.get("cooperative/used"), row.get("cooperative/wrong")
    told = "" if used is None else f"{used} guess{'es' * (used != 1)}"
    return told if wrong is None else f"{told}, {wrong:.1%} wrong"


def in_words(metric: str) -> str:
    """A metric as people write it: ``macro F1`` for ``macro_f1``."""
    return metric.replace("_", " ").replace("f1", "F1").replace("ece", "ECE")


def in_short(text: str, most: int) -> str:
    """The beginning of a text as one line of so many letters at most, the last one an ellipsis."""
    # A text of a megabyte is cut before it is split.
    line = " ".join(text[: 2 * most].split())
    return f"{line[: most - 1]}…" if len(line) > most or len(text) > 2 * most else line


def cell(text: str, most: int = 200) -> str:
    """A text that stays within one cell of a Markdown table and is shown as it is.

    Args:
        text: Any; blanks and line breaks become one blank each.
        most: Letters that are shown at most; an ellipsis stands for the rest.
    """
    line = in_short(text, most).encode(errors="replace").decode()  # half a surrogate is no UTF-8
    return "".join(_ESCAPED.get(letter, letter) for letter in line)


_ESCAPED = {letter: f"\\{letter}" for letter in "\\`*_[]|"} | {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "~": "&#126;",
}
"""How letters are written that Markdown or HTML would take for something else."""
