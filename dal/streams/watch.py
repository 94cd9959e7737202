"""Whether a threshold asks about nothing, or about everything, seen after a window of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

LEAST = 100
"""Samples that are looked at before anything is said, at least."""


@dataclass(frozen=True)
class Watch:
    """What was decided since the last time that a window was full.

    Attributes:
        seen: Samples of the window so far.
        asked: How many of them were asked about.
        highest: The highest of their scores.
        lowest: The lowest.
        said: What the window before came to: ``nothing``, ``everything``, or nothing to say.
    """

    seen: int = 0
    asked: int = 0
    highest: float = -math.inf
    lowest: float = math.inf
    said: str = ""


def length(share: float) -> int:
    """Samples of a window: a share of them that is asked about is missed by chance once in 20,000.

    (1 - share)^(10 / share) < e^-10.
    """
    return max(LEAST, math.ceil(10 / share))


def watched(
    watch: Watch, score: float, asked: bool, share: float, fixed: float | None
) -> tuple[Watch, str]:
    """The window with one more sample, and what is to be said of it, once for windows in a row.

    Args:
        watch: The window before.
        score: Of the sample.
        asked: Whether it is asked about.
        share: That which may be asked about.
        fixed: The threshold of scores, where it stays: only such a one asks about everything
            though nobody wants that.

    Returns:
        The window, or an empty one that follows; a sentence, empty where there is nothing to say.
    """
    now = replace(
        watch,
        seen=watch.seen + 1,
        asked=watch.asked + asked,
        highest=max(watch.highest, score),
        lowest=min(watch.lowest, score),
    )
    if now.seen < length(share):
        return now, ""
    everything = now.asked == now.seen and fixed is not None
    found = "everything" if everything else "" if now.asked else "nothing"
    return Watch(said=found), _sentence(now, found, fixed) if found not in ("", watch.said) else ""


def _sentence(watch: Watch, found: str, fixed: float | None) -> str:
    which = "none" if found == "nothing" else "every one"
    scores = f"their scores, {watch.lowest:.4g} to {watch.highest:.4g}"
    fact = f"{which} of the last {watch.seen} samples that arrived was asked about"
    if fixed is None:
        return f"{fact}; {scores}, may tell why: choose another setting.manager or strategy"
    side, remedy = ("below", "lower") if found == "nothing" else ("above", "raise")
    return (
        f"{fact}: {scores}, are all {side} setting.manager.threshold={fixed:g}; {remedy} it, or "
        "choose setting/manager=quantile, which follows the scores"
    )
