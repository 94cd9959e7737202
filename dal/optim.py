"""Optimizers and learning-rate schedules, as settings from which each round makes a fresh one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    StepLR,
)

__all__ = ["adam", "adamw", "constant", "cosine", "milestones", "sgd", "step"]

MakeOptimizer = Callable[[Iterable[Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]


def sgd(
    lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = False
) -> MakeOptimizer:
    """Stochastic gradient descent with momentum; see `torch.optim.SGD`."""
    _positive(lr)
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
    _positive(lr)
    return partial(Adam, lr=lr, betas=_pair(betas), eps=eps, weight_decay=weight_decay, fused=True)


def adamw(
    lr: float = 0.001,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> MakeOptimizer:
    """Adam with decoupled weight decay; see `torch.optim.AdamW`."""
    _positive(lr)
    return partial(AdamW, lr=lr, betas=_pair(betas), eps=eps, weight_decay=weight_decay, fused=True)


def constant() -> MakeScheduler:
    """The learning rate stays as it is."""
    return partial(ConstantLR, factor=1.0, total_iters=1)


def step(every: int = 50, factor: float = 0.1) -> MakeScheduler:
    """Multiply the learning rate by ``factor`` every so many epochs.

    The instability paper's settings: ``every=50, factor=0.1`` for MNIST and FashionMNIST,
    ``every=20, factor=0.9`` for SVHN.
    """
    _at_least_one("every", every)
    return partial(StepLR, step_size=every, gamma=factor)


def milestones(at: list[int], factor: float = 0.1) -> MakeScheduler:
    """Multiply the learning rate by ``factor`` after each of the epochs listed."""
    return partial(MultiStepLR, milestones=list(at), gamma=factor)


def cosine(epochs: int = 100, lr_min: float = 0.0) -> MakeScheduler:
    """Anneal the learning rate along half a cosine over so many epochs."""
    _at_least_one("epochs", epochs)
    return partial(CosineAnnealingLR, T_max=epochs, eta_min=lr_min)


def _pair(betas: Iterable[float]) -> tuple[float, float]:
    values = tuple(betas)
    if len(values) != 2:
        raise ValueError(f"trainer.optimizer.betas={list(values)}; give two, such as [0.9,0.999]")
    return values


def _at_least_one(name: str, epochs: int) -> None:
    if epochs < 1:
        raise ValueError(f"trainer.scheduler.{name}={epochs}; give at least 1 epoch")


def _positive(lr: float) -> None:
    if not lr > 0:
        raise ValueError(f"trainer.optimizer.lr={lr}; the learning rate must be positive")
