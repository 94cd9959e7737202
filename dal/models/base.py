"""What the package asks of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

MakeModel = Callable[[tuple[int, ...], int], nn.Module]
"""Builds a network from the shape of one input and the number of classes."""


class Output(NamedTuple):
    """What a network returns for a batch.

    Attributes:
        logits: float, (B, C).
        features: float, (B, D), the input of the last layer; None when a network has none to give.
    """

    logits: Tensor
    features: Tensor | None


@runtime_checkable
class DropoutSampling(Protocol):
    """A network that knows a faster way to its dropout samples than one forward for each.

    Attributes:
        mask_shapes: Shape of one mask of each dropout layer, by the layer's name.
    """

    mask_shapes: Mapping[str, tuple[int, ...]]

    def dropout_samples(self, x: Tensor, masks: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Logits of a batch under each of K sets of masks: float, (K, B, C)."""
        ...


@runtime_checkable
class StackedForward(Protocol):
    """A network that knows a faster way to run R of its kind at once than `torch.vmap`."""

    def stacked(self, tensors: Mapping[str, Tensor], x: Tensor) -> Output:
        """Logits (R, B, C) and features (R, B, D) of R networks, each on a batch of its own.

        Args:
            tensors: The parameters by name, (R, ...).
            x: float, (R, B, ...).
        """
        ...


def forward(model: nn.Module, inputs: Tensor) -> Output:
    """Run any network: those of `dal.models` return an `Output`, others may return bare logits."""
    output = model(inputs)
    return output if isinstance(output, Output) else Output(output, None)


def is_graphable(model: nn.Module) -> bool:
    """Whether a network says that it may be recorded: with an attribute ``graphable`` that is true.

    Such a network does the same operations on every batch of a shape, whatever the values: its code
    looks at no value of a tensor, and draws no random numbers but on the device.
    """
    return bool(getattr(model, "graphable", False))


def last_layer(model: nn.Module) -> nn.Linear | None:
    """The last linear layer of a network of ours (its ``head``), or None for any other."""
    head = getattr(model, "head", None)
    return head if isinstance(head, nn.Linear) else None


def check_small_images(name: str, input_shape: tuple[int, ...]) -> None:
    """Refuse anything but images of 28 or 32 pixels, 1 or 3 channels.

    Args:
        name: Option of the model.
        input_shape: Of a sample.

    Raises:
        ValueError: Naming the shape, and what helps with such inputs.
    """
    if input_shape in {(c, s, s) for c in (1, 3) for s in (28, 32)}:
        return
    remedy = "choose another model"
    if len(input_shape) == 1:
        remedy += ", such as model=mlp, which takes features"
    elif len(input_shape) == 3 and input_shape[0] in (1, 3):
        remedy = f"set data.size=28 or data.size=32 to resize, or {remedy}"
    raise ValueError(
        f"{name} takes images of 1 or 3 channels and 28 or 32 pixels, not {input_shape}; {remedy}"
    )
