"""What a row of metrics says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AUDIT = "audit/accuracy"


def audit_words(row: Mapping[str, Any]) -> str:
    """What the audit slice says of a round's model; empty where it says nothing."""
    if AUDIT not in row:
        return ""
    low, high, labels = row["audit/low"], row["audit/high"], row["audit/labels"]
    several = "s" * (labels != 1)
    return f"audit accuracy {row[AUDIT]:.4f} ({low:.2f} to {high:.2f} by {labels} label{several})"
