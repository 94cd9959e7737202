"""Whether fast gradient lengths are those that plain autograd finds for a sample alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dal.inference.layer_tape import NotCovered
from dal.utils.inputs import Inputs, map_tensors, num_samples, tensors_of

SAMPLES = 16
"""So many samples are checked; what a network does to fewer than one in ten may pass unseen."""


def spread(inputs: Inputs) -> Inputs:
    """At most `SAMPLES` of a batch, evenly spaced."""
    total = num_samples(inputs)
    count = min(SAMPLES, total)
    which = torch.arange(count, device=tensors_of(inputs)[0].device) * total // count
    return map_tensors(lambda tensor: tensor[which], inputs)


def plain_squares(
    parameters: Mapping[str, Tensor], logits: Tensor, unit: Tensor
) -> dict[str, float]:
    """Squared gradient length of each layer by autograd itself, for one cotangent of the logits."""
    gradients = torch.autograd.grad(
        logits, list(parameters.values()), unit, allow_unused=True, materialize_grads=True
    )
    squares: dict[str, float] = {}
    for name, gradient in zip(parameters, gradients, strict=True):
        layer = name.rpartition(".")[0]
        squares[layer] = squares.get(layer, 0.0) + float(gradient.square().sum())
    return squares


def compare_layers(fast: Mapping[str, float], plain: Mapping[str, float], tolerance: float) -> None:
    """Compare lengths layer by layer, so that a small layer's error shows.

    A sample without a finite gradient, of a NaN in its inputs for example, has to be without one on
    both sides, and tells no more.

    Raises:
        NotCovered: They differ in one layer.
    """
    total = math.sqrt(sum(plain.values()))
    if not math.isfinite(total) and not math.isfinite(sum(fast.values())):
        return
    for name, square in plain.items():
        got, want = math.sqrt(fast.get(name, 0.0)), math.sqrt(square)
        if not abs(got - want) <= tolerance * (want + 0.01 * total):
            raise NotCovered(
                f"{name} measures {got:.6g} where autograd finds {want:.6g} (is its parameter used "
                "without calling the layer, or for some samples only?)"
            )


def check_alone(together_BC: Tensor, alone_BC: Tensor, tolerance: float) -> None:
    """Refuse a network whose logits for a sample depend on the rest of its batch.

    Args:
        together_BC: float, (B, C), logits of samples as one batch.
        alone_BC: float, (B, C), of each by itself.
        tolerance: Relative to the largest logit of the sample, or to 1 where that is less.

    Raises:
        ValueError: They differ.
    """
    far_B = (together_BC - alone_BC).abs().amax(1)
    same_B = far_B <= tolerance * alone_BC.abs().amax(1).clamp_min(1)
    strange_B = ~alone_BC.isfinite().all(1) & ~together_BC.isfinite().all(1)
    wrong = (~(same_B | strange_B)).nonzero().flatten()
    if len(wrong):
        raise ValueError(
            "gradient lengths: the network's output for a sample depends on the rest of its batch "
            f"(a logit moves by {float(far_B[wrong[0]]):.3g} between a batch of {len(alone_BC)} "
            "and the sample alone), so no sample has a gradient of its own; let it compute each "
            "sample by itself, without statistics or attention over the batch"
        )


def rounding(dtype: torch.dtype) -> float:
    """Relative differences that are rounding; the same on every device, because TF32 is off."""
    return 1e-6 if dtype == torch.float64 else 1e-3
