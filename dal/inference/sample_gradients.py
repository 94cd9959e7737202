"""Per-sample gradient lengths for any network `torch.func` can differentiate: exact, slower."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dal.inference.layer_gradients import MAX_ELEMENTS
from dal.inference.layer_tape import layer_title
from dal.models.base import Output
from dal.utils.inputs import Inputs, map_tensors
from dal.utils.memory import out_of_memory


def sample_squares(
    model: nn.Module, parameters: dict[str, Tensor], inputs: Inputs, units: Tensor
) -> Tensor:
    """Squared gradient length per sample and label, through per-sample gradients.

    Forms every gradient, one label at a time, for chunks of samples whose gradients together hold
    at most `layer_gradients.MAX_ELEMENTS` numbers (or for one sample).

    Args:
        model: The network, in evaluation mode.
        parameters: Those to differentiate with respect to, by name.
        inputs: (B, ...), or a dict of tensors, (B, ...) each.
        units: float, (L, B, C), cotangents of the logits.

    Returns:
        float, (B, L).

    Raises:
        TypeError: A layer cannot be vectorised over samples; it is named.
    """
    held = {name: parameter.detach() for name, parameter in parameters.items()}
    samples = max(1, MAX_ELEMENTS // sum(parameter.numel() for parameter in held.values()))

    def squares(sample: Inputs, units_LC: Tensor) -> Tensor:
        pull = torch.func.vjp(lambda now: _logits(model, now, sample), held)[1]
        return torch.stack([_square(pull(unit)[0]) for unit in units_LC])

    with torch.no_grad(), warnings.catch_warnings(), _naming_the_culprit(model):
        # Vmap warns where it goes sample by sample; that this path is slow has been said.
        warnings.filterwarnings("ignore", message="There is a performance drop")
        result: Tensor = torch.vmap(squares, in_dims=(0, 1), chunk_size=samples)(inputs, units)
    return result


def _square(gradients: dict[str, Tensor]) -> Tensor:
    return torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum()


def _logits(model: nn.Module, parameters: dict[str, Tensor], sample: Inputs) -> Tensor:
    batch = map_tensors(lambda tensor: tensor.unsqueeze(0), sample)
    output: Any = torch.func.functional_call(model, parameters, (batch,))
    logits: Tensor = output.logits if isinstance(output, Output) else output
    return logits.squeeze(0)


@contextmanager
def _naming_the_culprit(model: nn.Module) -> Iterator[None]:
    """Turns a failure of vmap into a TypeError that names the layer whose forward did not end."""
    entered: list[str] = [layer_title("", model)]
    handles = []
    for name, layer in model.named_modules():
        title = layer_title(name, layer)
        handles.append(layer.register_forward_pre_hook(lambda *_, t=title: entered.append(t)))
        handles.append(layer.register_forward_hook(lambda *_: _drop_last(entered)))
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise TypeError(
            f"gradient lengths: {entered[-1]} cannot be vectorised over samples by torch.func.vmap "
            f"({str(error).splitlines()[0]}); replace the layer, freeze it and what comes before, "
            "or choose strategy.scope=last"
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _drop_last(entered: list[str]) -> None:
    entered.pop()
