"""Networks as model functions build them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dal.data.source import Source
from dal.models.base import MakeModel, build_model
from dal.utils.seeding import derive, seeded


def same_again(name: str) -> str:
    """The error for a model function that returns one network twice."""
    return (
        f"the model function gives the same {name} again; let it build a new one each time, or "
        "give the module itself, of which copies are made"
    )


def first_model(make_model: MakeModel, source: Source, seed: int, round_number: int = 0) -> Any:
    """What a model function builds for a round: weights depend on seed and round alone."""
    with seeded(derive(seed, round_number, "weights"), torch.device("cpu")):
        return build_model(make_model, source.input_shape, source.num_classes, source.vocab_size)


def is_lazy(model: nn.Module) -> bool:
    """Whether layers wait for their first input."""
    return any(nn.parameter.is_lazy(parameter) for parameter in model.parameters())
