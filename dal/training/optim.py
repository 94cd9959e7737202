"""Optimizers and learning-rate schedules, as settings from which each round makes a fresh one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch.nn import Module, Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    StepLR,
)

from dal.models.base import last_layer
from dal.utils.ranges import check_number, check_whole

__all__ = ["adam", "adamw", "constant", "cosine", "milestones", "sgd", "step"]

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
"""Makes an optimizer of parameters, or of groups of them as torch's optimizers take them."""

MakeScheduler = Callable[..., LRScheduler]
"""Makes the schedule of an optimizer. Those below take ``steps`` as well: how many of the
schedule's steps are an epoch, in which lengths are given."""

BODY = 1
"""The group of all parameters but the head's, where the two have learning rates of their own."""


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
    return partial(_schedule, ConstantLR, {}, factor=1.0, total_iters=1)


def step(every: int = 50, factor: float = 0.1) -> MakeScheduler:
    """Multiply the learning rate by ``factor`` every so many epochs.

    The instability paper's settings: ``every=50, factor=0.1`` for MNIST and FashionMNIST,
    ``every=20, factor=0.9`` for SVHN.
    """
    check_whole("trainer.scheduler.every", every, 1)
    check_number("trainer.scheduler.factor", factor)
    return partial(_schedule, StepLR, {"step_size": every}, gamma=factor)


def milestones(at: list[int], factor: float = 0.1) -> MakeScheduler:
    """Multiply the learning rate by ``factor`` after each of the epochs listed."""
    check_number("trainer.scheduler.factor", factor)
    return partial(_schedule, MultiStepLR, {"milestones": _epochs(at)}, gamma=factor)


def cosine(epochs: int = 100, lr_min: float = 0.0) -> MakeScheduler:
    """Anneal the learning rate along half a cosine over so many epochs."""
    check_whole("trainer.scheduler.epochs", epochs, 1)
    check_number("trainer.scheduler.lr_min", lr_min)
    return partial(_schedule, CosineAnnealingLR, {"T_max": epochs}, eta_min=lr_min)


def warmed_up(steps: int, length: float) -> float:
    """Factor of the learning rate after so many steps, where it rises in a line over a length.

    Args:
        steps: Steps done, from 0.
        length: Steps until the factor is 1; the first step has ``1 / length``.

    Returns:
        Above 0, at most 1.
    """
    return min((steps + 1) / length, 1.0) if length > 1 else 1.0


def parameter_groups(
    model: Module, named: Mapping[str, Parameter], body_lr_factor: float
) -> list[Any]:
    """What an optimizer is made of: all trained parameters; or those of the head, then the others.

    Args:
        model: Tells which parameters are its head's, see `dal.models.base.last_layer`.
        named: Its parameters, or others in their places, by name.
        body_lr_factor: 1 where all have one learning rate.

    Raises:
        ValueError: The network has no head.
    """
    trained = {name: p for name, p in named.items() if p.requires_grad}
    if body_lr_factor == 1:
        return list(trained.values())
    head = last_layer(model)
    if head is None:
        raise ValueError(
            f"trainer.body_lr_factor={body_lr_factor} is for the layers below the head, and "
            f"{type(model).__name__} has no linear layer named head; give it one, or set "
            "trainer.body_lr_factor=1"
        )
    of_head = {id(p) for p in head.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in of_head}
    groups: list[list[Parameter]] = [[], []]
    for name, parameter in trained.items():
        groups[0 if name in names else BODY].append(parameter)
    return [{"params": group} for group in groups]


def set_rates(groups: Sequence[dict[str, Any]], rates: Sequence[float]) -> None:
    """Give each group of an optimizer its learning rate."""
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate


def _schedule(
    kind: Callable[..., LRScheduler],
    lengths: Mapping[str, Any],
    optimizer: Optimizer,
    steps: int = 1,
    **settings: Any,
) -> LRScheduler:
    """A schedule whose lengths in epochs are that many times ``steps``."""
    scaled = {
        name: [one * steps for one in length] if isinstance(length, list) else length * steps
        for name, length in lengths.items()
    }
    return kind(optimizer, **scaled, **settings)


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
