"""States of the optimizers of several networks, and of the one that steps over their stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def trained(optimizer: Optimizer) -> list[nn.Parameter]:
    """The parameters that an optimizer changes, in the order of its groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def stack_states(stacked: Optimizer, alone: Sequence[Optimizer]) -> None:
    """Take over the states of optimizers that have done steps.

    Args:
        stacked: Of the stacked parameters; it is given the states.
        alone: Of R networks, whose parameters are in the same order.
    """
    mine = [trained(optimizer) for optimizer in alone]
    for number, parameter in enumerate(trained(stacked)):
        found = [own.state.get(ps[number]) for own, ps in zip(alone, mine, strict=True)]
        states = [state for state in found if state]
        if states:
            stacked.state[parameter] = {
                key: torch.stack([state[key] for state in states])
                if _elementwise(key, value, parameter[0])
                else _cloned(value)
                for key, value in states[0].items()
            }


def share_state(stacked: Optimizer, place: int, alone: Optimizer) -> None:
    """Give a network's optimizer its part of the stacked state, as it is now.

    Clones: the stack's optimizer goes on changing its state in place, and a view would be saved
    with the whole stack behind it.
    """
    for own, parameter in zip(trained(alone), trained(stacked), strict=True):
        if state := stacked.state.get(parameter):
            alone.state[own] = {
                key: value[place].clone() if _elementwise(key, value, parameter) else _cloned(value)
                for key, value in state.items()
            }


def copied(value: Any) -> Any:
    """Nested containers with copies of their tensors, which would save all they are views of."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return _cloned(value)


def _elementwise(key: str, value: Any, parameter: Tensor) -> bool:
    """Whether a part of an optimizer's state belongs to the elements of a parameter.

    Such parts (momentum, moments) are stacked as the parameter is. Others, the number of steps
    among them, are the same for all fits of a stack. The name tells the number of steps from the
    state of a parameter that is a scalar.
    """
    return isinstance(value, Tensor) and value.shape == parameter.shape and key != "step"


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
