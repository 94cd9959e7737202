"""Which epoch of a fit is the best, and when to stop looking for a better one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from dal.utils.direction import direction
from dal.utils.ranges import check_number, check_whole

__all__ = ["EarlyStopping"]


@dataclass(frozen=True)
class EarlyStopping:
    """Which epoch is the best, and when to stop looking for a better one.

    A value of NaN is never the best.

    Attributes:
        monitor: A metric that is logged every epoch: ``train/loss``, ``train/accuracy``, and with
            a validation split ``val/loss``, ``val/accuracy``, ``val/macro_f1``, for classes also
            ``val/ece``, for multi-label targets ``val/micro_f1``, ``val/sample_f1``, ``val/map``
            and ``val/hamming_loss``. If it is one of ``train/``, both are measured after each
            epoch on all labeled samples, in evaluation mode; otherwise they are means over the
            epoch's steps, which cost nothing.
        mode: Whether ``min`` or ``max`` is better; None for what the metric's name says, which it
            may not contradict.
        patience: Stop after so many epochs without an improvement; None never stops early, and
            the best epoch is restored all the same.
        min_delta: A change counts as an improvement when it exceeds this.
        min_epochs: Never stop before so many epochs.

    Raises:
        TypeError: A value is no number.
        ValueError: A value is out of range, or the mode is that of the worst epoch.
    """

    monitor: str = "train/loss"
    mode: Literal["min", "max"] | None = None
    patience: int | None = 10
    min_delta: float = 0.0
    min_epochs: int = 0

    def __post_init__(self) -> None:
        key = "trainer.early_stopping"
        if self.mode not in ("min", "max", None):
            raise ValueError(f"{key}.mode={self.mode!r}; choose min or max")
        better = direction(self.monitor)
        if self.mode and better and self.mode != better:
            raise ValueError(
                f"{key}.mode={self.mode} would keep the worst epoch by {self.monitor}; set {better}"
                ", or leave it out"
            )
        if self.patience is not None:
            check_whole(f"{key}.patience", self.patience, 1, ", or null for never")
        check_number(f"{key}.min_delta", self.min_delta)
        check_whole(f"{key}.min_epochs", self.min_epochs, 0)

    def improved(self, value: float, best: float | None) -> bool:
        """Whether a value is better than the best so far by more than ``min_delta``.

        Raises:
            ValueError: Nothing says whether higher or lower is better.
        """
        mode = self.mode or direction(self.monitor)
        if mode is None:
            raise ValueError(
                f"whether a higher or a lower {self.monitor} is better is not known; set "
                "trainer.early_stopping.mode=min or max"
            )
        if math.isnan(value):
            return False
        if best is None:
            return True
        gain = best - value if mode == "min" else value - best
        return gain > self.min_delta

    def check(self, validated: Collection[str]) -> None:
        """Refuse to monitor what no epoch will have.

        Args:
            validated: Names of the metrics of the validation part; none without one.

        Raises:
            ValueError: The monitored metric of the validation part is none of them.
        """
        part, _, name = self.monitor.partition("/")
        if part != "val" or name in validated:
            return
        key = f"trainer.early_stopping.monitor={self.monitor}"
        if not validated:
            raise ValueError(
                f"{key} but the validation split is empty; set split.validation=0.1 or "
                "split.validation_of_labels=0.1, or monitor train/loss"
            )
        names = ", ".join(f"val/{known}" for known in validated)
        raise ValueError(f"{key} is not measured; choose {names} or train/loss")

    def value(self, metrics: Mapping[str, float]) -> float:
        """The monitored metric of an epoch.

        Raises:
            ValueError: It is not logged; naming those that are.
        """
        if self.monitor in metrics:
            return metrics[self.monitor]
        splits = "; set split.validation=0.1 or split.validation_of_labels=0.1"
        remedy = splits if self.monitor.startswith("val/") else ""
        raise ValueError(
            f"trainer.early_stopping.monitor={self.monitor} is not logged; there are "
            f"{', '.join(metrics)}{remedy}"
        )
