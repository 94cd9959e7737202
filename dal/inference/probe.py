"""What a network of unknown making returns, looked at once before it is relied on."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from dal.inference.pool_pass import evaluating
from dal.models.base import Output, forward
from dal.utils.inputs import Inputs, map_tensors, num_samples, to_device
from dal.utils.memory import out_of_memory

log = logging.getLogger(__name__)


def probe(model: nn.Module, inputs: Inputs, num_classes: int | None = None) -> Output:
    """What a network returns for a few samples, refused where that is no `Output`, nor logits.

    Its modes, buffers and the global random state stay as they are; lazy layers get their sizes.

    Args:
        model: The network.
        inputs: (B, ...), prepared; moved to where the network is, fractions in its precision.
        num_classes: C, if it is known.

    Returns:
        Logits (B, C), and features (B, D) or None.

    Raises:
        ValueError: The network fails on such inputs, or its logits are of another shape.
        TypeError: It returns something else.
    """
    name, count, what = type(model).__name__, num_samples(inputs), _in_words(inputs)
    dtype = dtype_of(model)
    inputs = map_tensors(lambda x: x.to(dtype) if x.is_floating_point() else x, inputs)
    try:
        with evaluating(model), torch.no_grad():
            output = forward(model, to_device(inputs, device_of(model)))
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name} fails on a batch of {what}: {reason}; give a model "
            "for such inputs, or inputs such as the model takes"
        ) from error
    logits, features = output
    if not isinstance(logits, Tensor) or not isinstance(features, Tensor | None):
        raise TypeError(
            f"forward of {name} returns a {type(logits).__name__}; return logits, a tensor (B, C), "
            "or dal.models.Output(logits, features)"
        )
    wanted = (count, num_classes) if num_classes else (count, max(logits.shape[-1], 2))
    if logits.shape != wanted:
        raise ValueError(
            f"forward of {name} returns logits of shape {tuple(logits.shape)} for a batch of "
            f"{what}; return {wanted}, one column a class (for two classes 0 and z, not z alone)"
        )
    if features is not None and (features.ndim != 2 or len(features) != count):
        raise ValueError(
            f"forward of {name} returns features of shape {tuple(features.shape)} for a batch of "
            f"{what}; return ({count}, D), as features.flatten(1) does"
        )
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), logits.new_ones(())):
        log.warning(
            "forward of %s returns rows that sum to one, as probabilities do; return logits, "
            "without a softmax at the end",
            name,
        )
    return output


def _in_words(inputs: Inputs) -> str:
    """Types and shapes of a batch."""
    if isinstance(inputs, Tensor):
        return f"{inputs.dtype} of shape {tuple(inputs.shape)}"
    return ", ".join(f"{name}: {_in_words(tensor)}" for name, tensor in inputs.items())


def device_of(model: nn.Module) -> torch.device:
    """Where a network is."""
    tensors = (*model.parameters(), *model.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def dtype_of(model: nn.Module) -> torch.dtype:
    """The type of a network's numbers."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
