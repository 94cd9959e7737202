"""Which epoch of a fit is the best, and when to stop looking for a better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["EarlyStopping"]


@dataclass(frozen=True)
class EarlyStopping:
    """Which epoch is the best, and when to stop looking for a better one.

    Attributes:
        monitor: A metric that is logged every epoch: ``train/loss``, ``train/accuracy``, and with
            a validation split ``val/loss``, ``val/accuracy``, ``val/macro_f1``, for classes also
            ``val/ece``, for multi-label targets ``val/micro_f1``. If it is one of ``train/``, both
            are measured after each epoch on all labeled samples, in evaluation mode; otherwise they
            are means over the epoch's steps, which cost nothing.
        mode: Whether ``min`` or ``max`` is better.
        patience: Stop after so many epochs without an improvement; None never stops early, and
            the best epoch is restored all the same.
        min_delta: A change counts as an improvement when it exceeds this.
        min_epochs: Never stop before so many epochs.

    Raises:
        ValueError: A value is out of range.
    """

    monitor: str = "train/loss"
    mode: Literal["min", "max"] = "min"
    patience: int | None = 10
    min_delta: float = 0.0
    min_epochs: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise ValueError(f"trainer.early_stopping.mode={self.mode!r}; choose min or max")
        if self.patience is not None and self.patience < 1:
            raise ValueError(
                f"trainer.early_stopping.patience={self.patience}; give at least 1, "
                "or null for never"
            )
        if not self.min_delta >= 0:  # negated, so that NaN is refused as well
            raise ValueError(f"trainer.early_stopping.min_delta={self.min_delta}; give 0 or more")

    def improved(self, value: float, best: float | None) -> bool:
        """Whether a value is better than the best so far by more than ``min_delta``."""
        if best is None:
            return True
        gain = best - value if self.mode == "min" else value - best
        return gain > self.min_delta

    def value(self, metrics: Mapping[str, float]) -> float:
        """The monitored metric of an epoch.

        Raises:
            ValueError: It is not logged; naming those that are.
        """
        if self.monitor in metrics:
            return metrics[self.monitor]
        remedy = "; set split.validation=0.1" if self.monitor.startswith("val/") else ""
        raise ValueError(
            f"trainer.early_stopping.monitor={self.monitor} is not logged; there are "
            f"{', '.join(metrics)}{remedy}"
        )
