"""What goes into a fit, where it stands, and how its epochs are cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.utils.ranks import Ranks

Save = Callable[[], dict[str, Any]]
"""Gives a fit in its saved form."""


@dataclass(frozen=True)
class Samples:
    """Samples as a trainer takes them.

    Attributes:
        take: Prepared inputs of some positions: int64 (B,) to float32 (B, ...) on the device.
        targets: int64, (M,), on the device.
        weights: float32, (M,), on the device, or None for equal ones.
    """

    take: Callable[[Tensor], Tensor]
    targets: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass
class FitState:
    """Where a fit stands between two epochs: all that continuing it exactly takes.

    Attributes:
        epoch: Epochs done.
        steps: Optimizer steps done.
        best: The best epoch's weights, a copy of their own.
        best_epoch: That epoch, counted from 0.
        best_value: Its value of the monitored metric.
        stale: Epochs since the last improvement.
        history: The metrics of every epoch.
        stopped: Why the fit ended: ``early`` or ``epochs``; empty while it runs.
    """

    epoch: int = 0
    steps: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = -1
    best_value: float | None = None
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""


@dataclass
class Progress:
    """What an epoch in progress has come to, besides the weights.

    Attributes:
        losses: The loss of each step, summed over its samples: scalars.
        correct: The number of right predictions of each step: scalars.
        noise: States of the generators that layers draw from, by kind of device; empty where they
            start from their seeds.
    """

    losses: list[Tensor] = field(default_factory=list)
    correct: list[Tensor] = field(default_factory=list)
    noise: dict[str, Tensor] = field(default_factory=dict)

    def add(self, loss: Tensor, correct: Tensor) -> None:
        """Note a step."""
        self.losses.append(loss)
        self.correct.append(correct)

    def state_dict(self) -> dict[str, Any]:
        """Tensors on the CPU; nothing before the first step."""
        if not self.losses:
            return {}
        losses, correct = torch.stack(self.losses).cpu(), torch.stack(self.correct).cpu()
        return {"losses": losses, "correct": correct, "noise": self.noise}

    @classmethod
    def load(cls, parts: Sequence[dict[str, Any]], ranks: Ranks, device: torch.device) -> Progress:
        """This process's part of what `state_dict` gave in each.

        Where there are more or fewer processes now, the first takes what all had come to.
        """
        if not any(parts):
            return cls()
        if len(parts) == ranks.world_size:
            own = parts[ranks.rank]
        else:  # a process's losses are its share of each batch times the number of processes
            losses = torch.stack([part["losses"] for part in parts]).mean(0) * ranks.world_size
            correct = torch.stack([part["correct"] for part in parts]).sum(0)
            own = {
                "losses": losses * ranks.is_main,
                "correct": correct * ranks.is_main,
                "noise": {},
            }
        losses, correct = own["losses"].to(device), own["correct"].to(device)
        return cls(list(losses.unbind()), list(correct.unbind()), own["noise"])


@dataclass(frozen=True)
class FitContext:
    """What a fit takes from the loop.

    Attributes:
        seed: Seed of the run.
        round: Number of the round; order and noise of each epoch derive from seed, round, epoch.
        evaluate: Gives the validation metrics of the live model; None without validation.
        on_epoch: Called after each epoch with the fit's state and a function that gives its saved
            form; it may raise to end the process.
        pending: Whether the fit is to end; asked between two batches, by several processes equally
            often.
        on_signal: Called between two batches where that is so; it saves the fit and raises.
        check: Raises where a signal has come to this process: for work that is not saved halfway.
        resume: A saved form to go on from, or None.
    """

    seed: int = 0
    round: int = 0
    evaluate: Callable[[], Mapping[str, float]] | None = None
    on_epoch: Callable[[FitState, Save], None] = lambda state, save: None
    pending: Callable[[], bool] = lambda: False
    on_signal: Callable[[Save], None] = lambda save: None
    check: Callable[[], None] = lambda: None
    resume: dict[str, Any] | None = None


def split_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into batches; a last batch of one joins the one before it.

    BatchNorm cannot train on a single sample, and its gradient would weigh as much as a whole
    batch's.

    Args:
        order: int64, (M,), M >= 1.
        batch_size: At least 1.

    Returns:
        Tensors of ``batch_size`` indices, the last one of 1 to ``batch_size + 1``.
    """
    batches = list(torch.split(order, batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1 and batch_size > 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
