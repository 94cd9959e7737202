"""What goes into a fit, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.utils.inputs import Inputs
from dal.utils.ranks import Ranks

Save = Callable[[], dict[str, Any]]
"""Gives the saved form of a fit: tensors and plain containers, from which it can go on."""


@dataclass(frozen=True)
class Unlabeled:
    """Samples without a label, for trainers that learn from those as well.

    Attributes:
        take: Gives the prepared inputs of some positions, as `Samples.take` does.
        count: How many there are, at least 1.
    """

    take: Callable[[Tensor], Inputs]
    count: int


@dataclass(frozen=True)
class Samples:
    """Labeled samples as a trainer takes them; a position is a number from 0 to M - 1.

    Attributes:
        take: Gives the prepared inputs of some positions, int64 (B,) on the device: a tensor, or a
            dict of tensors, (B, ...), there.
        targets: int64, (M,), on the device.
        weights: float32, (M,), on the device, or None for equal ones.
        on_device: Whether ``take`` does all its work on the device. If not, it is no part of a
            recorded CUDA step, which would repeat the copy of one batch.
        expect: Told which positions ``take`` will be asked for next, batch by batch; a hint.
        scale: Mean and standard deviation by channel that were taken off images, in units of their
            own; both empty where none were. Augmentation of colors works in these units.
        unlabeled: The candidates of the round; None where there are none, or nobody asks.
    """

    take: Callable[[Tensor], Inputs]
    targets: Tensor
    weights: Tensor | None = None
    on_device: bool = True
    expect: Callable[[Iterable[Tensor]], None] = lambda batches: None
    scale: tuple[Sequence[float], Sequence[float]] = ((), ())
    unlabeled: Unlabeled | None = None

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
    """What a fit is told by whoever asks for it, and whom it tells of its epochs.

    Attributes:
        seed: Seed of the run.
        round: Number of the round. Seed, round and epoch together decide in which order an epoch
            takes the samples, and what dropout draws.
        evaluate: Gives the metrics of the validation split, as the network stands when it is
            called; None without such a split.
        on_epoch: Called after each epoch with the fit's state and a function that gives the fit's
            saved form. It may raise to end the process.
        pending: Whether a signal asks the fit to end. Asked before every batch; where several
            processes share the fit, each asks at the same batches, so that all end at the same one.
        on_signal: Called before a batch once ``pending`` says so, with a function that gives the
            fit's saved form. It saves the fit and raises.
        check: Raises where a signal has come to this process. For work between two batches that
            has no saved form, such as a validation: the fit is then saved as before that work.
        resume: The saved form of this fit to go on from; None to begin.
    """

    seed: int = 0
    round: int = 0
    evaluate: Callable[[], Mapping[str, float]] | None = None
    on_epoch: Callable[[FitState, Save], None] = lambda state, save: None
    pending: Callable[[], bool] = lambda: False
    on_signal: Callable[[Save], None] = lambda save: None
    check: Callable[[], None] = lambda: None
    resume: dict[str, Any] | None = None
