"""What the package asks of a network."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from dal.utils.inputs import Inputs, InputSpec, numel_of, one_shape

MakeModel = Callable[[Any, int], nn.Module] | Callable[[], nn.Module] | nn.Module
"""A class or function that builds a network; or a module, of which copies are made.

It is given the shape of one input (shapes by name, where inputs are tensors by name) and the number
of classes, or what it names of ``input_shape``, ``num_classes`` and, where inputs are numbers of
tokens or terms, ``vocab_size``; or nothing, where it needs no argument.
"""


def build_model(
    make: MakeModel, input_shape: InputSpec, num_classes: int, vocab_size: int | None = None
) -> Any:
    """A network, or what else a function builds.

    Args:
        make: See `MakeModel`.
        input_shape: Shape of a sample, or shapes by name.
        num_classes: C.
        vocab_size: V, where inputs are numbers of tokens or terms, from 0 to V - 1.

    Raises:
        TypeError: It cannot be called like that.
    """
    if isinstance(make, nn.Module):
        return copy.deepcopy(make)
    remedy = "give a class, a function such as lambda input_shape, num_classes: ..., or a module"
    if not callable(make):
        raise TypeError(f"the model is a {type(make).__name__}, which builds no network; {remedy}")
    parameters = inspect.signature(make).parameters.values()
    required = {p.name for p in parameters if p.default is p.empty and p.kind not in _ANY}
    at_hand: dict[str, Any] = {"input_shape": input_shape, "num_classes": num_classes}
    if vocab_size is not None:
        at_hand["vocab_size"] = vocab_size
    named = {p.name: at_hand[p.name] for p in parameters if p.name in at_hand}
    function: Callable[..., Any] = make
    if named and required <= set(named):
        return function(**named)
    if len(required) == 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return function(input_shape, num_classes)
    if not required:
        return function()
    raise TypeError(
        f"{getattr(make, '__name__', make)} needs {', '.join(sorted(required))}, and a model is "
        f"given input_shape and num_classes, or nothing; {remedy}"
    )


_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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

    def stacked(self, tensors: Mapping[str, Tensor], x: Any) -> Output:
        """Logits (R, B, C) and features (R, B, D) of R networks, each on a batch of its own.

        Args:
            tensors: The parameters by name, (R, ...).
            x: float, (R, B, ...); or a dict of tensors, where the network takes such inputs.
        """
        ...


RETURN_FEATURES = (
    "let its forward return dal.models.Output(logits, features), features (B, D) the input of its "
    "last layer"
)
"""What helps where a network returns logits only."""


def forward(model: nn.Module, inputs: Inputs) -> Output:
    """Run any network: those of `dal.models` return an `Output`, others may return bare logits.

    Tensors by name are handed over as they are, as one dict.
    """
    output = model(inputs)
    return output if isinstance(output, Output) else Output(output, None)


def is_graphable(model: nn.Module) -> bool:
    """Whether a network says that it may be recorded: with an attribute ``graphable`` that is true.

    Such a network does the same operations on every batch of a shape, whatever the values: its code
    looks at no value of a tensor, and draws no random numbers but on the device.
    """
    return bool(getattr(model, "graphable", False))


def numel_in(model: nn.Module, input_shape: InputSpec) -> int:
    """How many numbers a sample is to a network, by which batches of the pass are made.

    Those of its inputs; or what the network says by an attribute ``sample_numel``, where few tokens
    become many numbers.
    """
    own: int = getattr(model, "sample_numel", 0)
    return own or numel_of(input_shape)


def last_layer(model: nn.Module) -> nn.Linear | None:
    """The last linear layer of a network of ours (its ``head``), or None for any other."""
    head = getattr(model, "head", None)
    return head if isinstance(head, nn.Linear) else None


def check_small_images(name: str, input_shape: InputSpec) -> None:
    """Refuse anything but images of 28 or 32 pixels, 1 or 3 channels.

    Args:
        name: Option of the model.
        input_shape: Of a sample.

    Raises:
        ValueError: Naming the shape, and what helps with such inputs.
    """
    input_shape = one_shape(input_shape, name)
    if input_shape in {(c, s, s) for c in (1, 3) for s in (28, 32)}:
        return
    remedy = "choose another model"
    if len(input_shape) == 1:
        remedy += ", such as model=mlp, which takes features (for texts experiment=text)"
    elif len(input_shape) == 3 and input_shape[0] in (1, 3):
        remedy = f"set data.size=28 or data.size=32 to resize, or {remedy}"
    raise ValueError(
        f"{name} takes images of 1 or 3 channels and 28 or 32 pixels, not {input_shape}; {remedy}"
    )
