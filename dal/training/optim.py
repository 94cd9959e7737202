"""Optimizers and learning-rate schedules, as settings from which each round makes a fresh one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    StepLR,
)

from dal.utils.ranges import check_number, check_whole

__all__ = ["adam", "adamw", "constant", "cosine", "milestones", "sgd", "step"]

MakeOptimizer = Callable[[Iterable[Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]


def sgd(
    lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = False
) -> MakeOptimizer:
    """Stochastic gradient descent with momentum in [0, 1); see `torch.optim.SGD`."""
    _check(lr, weight_decay)
    check_number("trainer.optimizer.momentum", momentum, below=1)
    if nesterov and momentum == 0:
        raise ValueError(
            "trainer.optimizer.nesterov=true looks ahead by the momentum, and there is none; set "
            "trainer.optimizer.momentum=0.9, or nesterov=false"
        )
    return partial(
        SGD, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )


def adam(
    lr: float = 0.001,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> MakeOptimizer:
    """Adam; see `torch.optim.Adam`."""
    _check(lr, weight_decay, eps)
    return partial(Adam, lr=lr, betas=_pair(betas), eps=eps, weight_decay=weight_decay, fused=True)


def adamw(
    lr: float = 0.001,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> MakeOptimizer:
    """Adam with decoupled weight decay; see `torch.optim.AdamW`."""
    _check(lr, weight_decay, eps)
    return partial(AdamW, lr=lr, betas=_pair(betas), eps=eps, weight_decay=weight_decay, fused=True)


def constant() -> MakeScheduler:
    """The learning rate stays as it is."""
    return partial(ConstantLR, factor=1.0, total_iters=1)


def step(every: int = 50, factor: float = 0.1) -> MakeScheduler:
    """Multiply the learning rate by ``factor`` every so many epochs.

    The instability paper's settings: ``every=50, factor=0.1`` for MNIST and FashionMNIST,
    ``every=20, factor=0.9`` for SVHN.
    """
    check_whole("trainer.scheduler.every", every, 1)
    check_number("trainer.scheduler.factor", factor)
    return partial(StepLR, step_size=every, gamma=factor)


def milestones(at: list[int], factor: float = 0.1) -> MakeScheduler:
    """Multiply the learning rate by ``factor`` after each of the epochs listed."""
    check_number("trainer.scheduler.factor", factor)
    return partial(MultiStepLR, milestones=_epochs(at), gamma=factor)


def cosine(epochs: int = 100, lr_min: float = 0.0) -> MakeScheduler:
    """Anneal the learning rate along half a cosine over so many epochs."""
    check_whole("trainer.scheduler.epochs", epochs, 1)
    check_number("trainer.scheduler.lr_min", lr_min)
    return partial(CosineAnnealingLR, T_max=epochs, eta_min=lr_min)


def _check(lr: float, weight_decay: float, eps: float = 0.0) -> None:
    check_number("trainer.optimizer.lr", lr, positive=True)
    check_number("trainer.optimizer.weight_decay", weight_decay)
    check_number("trainer.optimizer.eps", eps)


def _epochs(at: Any) -> list[int]:
    if isinstance(at, str) or not isinstance(at, Iterable):
        raise TypeError(f"trainer.scheduler.at={at!r}; give a list of epochs, such as [30,60]")
    epochs = list(at)
    for epoch in epochs:
        check_whole("trainer.scheduler.at", epoch, 0)
    return epochs


def _pair(betas: Iterable[float]) -> tuple[float, float]:
    values = tuple(betas)
    if len(values) != 2:
        raise ValueError(f"trainer.optimizer.betas={list(values)}; give two, such as [0.9,0.999]")
    for beta in values:
        check_number("trainer.optimizer.betas", beta, below=1)
    return values
