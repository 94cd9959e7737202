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
from dal.models.fine_tuning import blocks_of
from dal.utils.ranges import check_number, check_whole

__all__ = ["adam", "adamw", "constant", "cosine", "milestones", "sgd", "step"]

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
"""Makes an optimizer of parameters, or of groups of them as torch's optimizers take them."""

MakeScheduler = Callable[..., LRScheduler]
"""Makes the schedule of an optimizer. Those below take ``steps`` as well: how many of the
schedule's steps are an epoch, in which lengths are given."""


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


def lr_factors(model: Module, body_lr_factor: float, layer_lr_decay: float) -> list[float]:
    """Learning rates as factors of the head's: of the head itself, then of each level below it.

    Levels are the blocks that a network repeats, see `dal.models.fine_tuning.blocks_of`, from the
    top to the bottom, and what is registered before the first of them, such as the embeddings of
    tokens. What follows a block belongs to it. Without a decay all that is below the head is one
    level.

    Args:
        model: A network.
        body_lr_factor: Of all levels below the head.
        layer_lr_decay: Factor from each level to the next one below.

    Returns:
        The factors; a single 1 where all parameters have one learning rate.

    Raises:
        ValueError: The network has no head, or repeats no block.

    Reference:
        K. Clark et al. ELECTRA: Pre-training text encoders as discriminators rather than
        generators. ICLR 2020, appendix A.
    """
    if body_lr_factor == layer_lr_decay == 1:
        return [1.0]
    setting = "body_lr_factor" if layer_lr_decay == 1 else "layer_lr_decay"
    value = body_lr_factor if layer_lr_decay == 1 else layer_lr_decay
    if last_layer(model) is None:
        raise ValueError(
            f"trainer.{setting}={value} is for the layers below the head, and "
            f"{type(model).__name__} has no linear layer named head; give it one, or set "
            f"trainer.{setting}=1"
        )
    if layer_lr_decay == 1:
        return [1.0, body_lr_factor]
    blocks = len(blocks_of(model))
    if not blocks:
        raise ValueError(
            f"trainer.layer_lr_decay={layer_lr_decay} goes from block to block, and "
            f"{type(model).__name__} repeats none; set trainer.layer_lr_decay=1, and "
            "trainer.body_lr_factor for one factor of all below the head"
        )
    return [1.0, *(body_lr_factor * layer_lr_decay**level for level in range(1, blocks + 2))]


def parameter_groups(model: Module, named: Mapping[str, Parameter], levels: int) -> list[Any]:
    """What an optimizer is made of: all trained parameters, or a group for each level.

    Args:
        model: Tells which parameters are of which level.
        named: Its parameters, or others in their places, by name.
        levels: How many there are, see `lr_factors`: the head's, and those below it downwards.
    """
    trained = {name: p for name, p in named.items() if p.requires_grad}
    head = last_layer(model)
    if levels == 1 or head is None:
        return list(trained.values())
    of_head, blocks = {id(p) for p in head.parameters()}, blocks_of(model)[: levels - 2]
    groups: list[list[Parameter]] = [[] for _ in range(levels)]
    level = levels - 1
    for name, own in model.named_parameters():
        inside = (n for n, block in enumerate(reversed(blocks), 1) if name.startswith(f"{block}."))
        level = next(inside, level)
        if name in trained:
            groups[0 if id(own) in of_head else level].append(trained[name])
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
