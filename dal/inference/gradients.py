"""Length of the loss gradient of every sample for every label it might have, exact and batched."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dal.inference.gradient_check import (
    SAMPLES,
    check_alone,
    compare_layers,
    plain_squares,
    rounding,
    spread,
)
from dal.inference.gradient_scope import Scope, check_choice, check_mode, scope_parameters
from dal.inference.layer_tape import LayerTape, NotCovered, trainable_layers
from dal.inference.sample_gradients import sample_squares
from dal.models.base import Output, forward, last_layer
from dal.models.sparse import SparseLinear
from dal.utils.inputs import (
    Inputs,
    InputSpec,
    in_words,
    map_tensors,
    num_samples,
    shapes_of,
    take_rows,
    tensors_of,
)
from dal.utils.numerics import full_float32
from dal.utils.softmax import softmax_cotangents

Labels = Literal["all", "predicted"]
Cotangents = Callable[[Tensor], Tensor]

NUMBERS_AT_ONCE = {"cpu": 2**23, "cuda": 2**28}
"""Numbers of outputs and gradients that are held at once, by kind of device."""


def gradient_norms(
    model: nn.Module,
    inputs: Inputs,
    *,
    scope: Scope = "all",
    labels: Labels = "all",
    cotangents: Cotangents = softmax_cotangents,
) -> tuple[Output, Tensor]:
    """Gradient lengths of one batch; see `GradientNorms`, which checks a network only once.

    Args:
        model: The network, in evaluation mode.
        inputs: (B, ...), a batch for it; or a dict of tensors, (B, ...) each.
        scope: See `GradientNorms`.
        labels: See `GradientNorms`.
        cotangents: See `GradientNorms`.

    Returns:
        The network's output, detached, and the lengths: float, (B, C) or (B, 1).
    """
    return GradientNorms(model, scope, labels, cotangents)(inputs)


class GradientNorms:
    """Measures ``‖∇ ℓ(x, y)‖₂`` for every sample x of a batch and every label y.

    How far one gradient step on x would move the network if its label were y: the ingredient of
    expected gradient length, where each label counts with its predicted probability.

    Costs one forward and, per label, one backward pass that forms no weight gradient, plus the
    inner products of `dal.inference.layer_gradients`; all samples at once. (C gradients ∇z_c and
    their C×C Gram matrix cost as many passes; the cotangents p − e_y used here need C lengths
    instead of C² products, and lose no precision by cancellation.) Cotangents run through the
    network at unit size and lengths are scaled afterwards, so that squares of tiny gradients do not
    underflow. The last layer alone has the closed form ``‖p − e_y‖ √(‖h‖² + 1)`` and costs one
    forward pass.

    The first call takes up to 16 samples of its batch and compares each layer's share, as a batch,
    with plain autograd on each sample alone; once a round, and as long as 20 (ResNet-18) to 60
    (LeNet-5) samples more. A network whose output for a sample depends on the rest of the batch is
    refused. One that the fast path cannot measure (unknown parametrised layers, shared parameters,
    a layer used twice, for some samples only, or without being called) goes, with one warning,
    through `dal.inference.sample_gradients`: exact too, but slower. Nothing is left out silently
    but what a network does to few samples, none of the 16 among them. The network's parameters,
    their ``grad``, buffers, modes and hooks, and the global random state stay as they are. On CUDA,
    TF32 is off while measuring.

    Args:
        model: The network, in evaluation mode; its logits for a sample must not depend on the rest
            of the batch.
        scope: With respect to ``all`` trainable parameters (``requires_grad``), the trainable ones
            of the ``last`` linear layer (``model.head``), or the ``input``.
        labels: ``all`` labels the cotangents stand for, or the ``predicted`` one (largest logit).
        cotangents: Maps logits (B, C) to the loss gradients at the logits, (L, B, C), one row per
            label; another loss, another function. ``predicted`` needs L = C.

    Raises:
        ValueError: Nothing is trainable in the scope, there is no last layer, or a name is unknown.

    Reference:
        B. Settles, M. Craven and S. Ray. Multiple-instance active learning. NIPS 2007, section 3.
        I. Goodfellow. Efficient per-example gradient computations. arXiv:1510.01799, 2015.
        G. Rochette, A. Manoel and E. Tramel. Efficient per-example gradient computations in
        convolutional neural networks. arXiv:1912.06015, 2019.
    """

    def __init__(
        self,
        model: nn.Module,
        scope: Scope = "all",
        labels: Labels = "all",
        cotangents: Cotangents = softmax_cotangents,
    ) -> None:
        check_choice("scope", scope, ("all", "last", "input"))
        check_choice("labels", labels, ("all", "predicted"))
        self.model = model
        self.scope = scope
        self.labels = labels
        self.cotangents = cotangents
        self._parameters = scope_parameters(model, scope)
        self._rows = 0  # samples at a time, of the shape of the last call
        self._shapes: InputSpec | None = None
        self._label_step = 1
        self._verified = 0  # samples that were compared with plain autograd
        self._layers: dict[str, nn.Module] = {}
        self._obstacle: str | None = None

    def __call__(self, inputs: Inputs) -> tuple[Output, Tensor]:
        """Measure a batch, in pieces of bounded memory.

        Args:
            inputs: (B, ...), B of one or more; or a dict of tensors, (B, ...) each. Not modified.

        Returns:
            The network's output for the batch, detached, and the lengths: float, (B, L), or (B, 1)
            for the predicted label.

        Raises:
            ValueError: The batch is empty, the network is in training mode, it mixes the samples of
                a batch, or inputs that are whole numbers are to have a gradient.
            TypeError: Neither path can measure the network; the layer is named.
        """
        self._check(inputs)
        device, count = tensors_of(inputs)[0].device, num_samples(inputs)
        with torch.inference_mode(False), torch.enable_grad(), full_float32(device):
            # Autograd refuses tensors of inference mode, copies of which are ordinary ones.
            inputs = map_tensors(lambda x: x.clone() if x.is_inference() else x.detach(), inputs)
            if self._shapes != shapes_of(inputs):
                self._shapes = shapes_of(inputs)
                self._prepare(take_rows(inputs, slice(0, 1)))
            if min(count, SAMPLES) > self._verified:
                self._verify(spread(inputs))
            parts = torch.arange(count).tensor_split(math.ceil(count / self._rows))
            pieces = [self._measure(_stretch(inputs, part)) for part in parts]
        outputs, lengths = zip(*pieces, strict=True)
        return _join(outputs), torch.cat(lengths)

    def _check(self, inputs: Inputs) -> None:
        if num_samples(inputs) == 0:
            raise ValueError("gradient lengths of an empty batch; hand in one sample or more")
        if self.scope == "input" and not all(x.is_floating_point() for x in tensors_of(inputs)):
            raise ValueError(
                f"inputs that are whole numbers ({in_words(inputs)}) have no gradient; choose "
                "strategy.scope=all or last"
            )
        for name, module in self.model.named_modules():
            check_mode(name, module)

    def _prepare(self, sample: Inputs) -> None:
        """See how many samples fit into memory at once.

        For each sample the forward pass holds the layers' outputs, and each label a gradient at
        every one of them, or at the input, besides its cotangent.
        """
        output = _detached(forward(self.model, _copied(sample)))
        labels = len(self._units(output.logits)[0])
        numel = _held_numbers(self.model, sample)
        kind = output.logits.device.type
        limit = NUMBERS_AT_ONCE.get(kind, NUMBERS_AT_ONCE["cuda"])
        own = sum(tensor.numel() for tensor in tensors_of(sample))
        per_label = {"all": numel, "last": 0, "input": own}[self.scope]
        self._rows = max(1, limit // (labels * (per_label + output.logits.numel()) + numel))
        self._label_step = max(1, limit // (self._rows * max(1, per_label)))

    def _verify(self, samples: Inputs) -> None:
        """Compare some samples, as batches, with each alone; again where more are at hand."""
        self._verified = num_samples(samples)
        for part in torch.split(torch.arange(self._verified), self._rows):
            try:
                self._compare(_stretch(samples, part))
            except NotCovered as reason:
                self._fall_back(str(reason))

    def _compare(self, samples: Inputs) -> None:
        singles = torch.split(torch.arange(num_samples(samples)), 1)
        alone = [forward(self.model, _copied(_stretch(samples, one))) for one in singles]
        together = forward(self.model, _copied(samples)).logits.detach()
        tolerance = rounding(together.dtype)
        check_alone(together, torch.cat([output.logits.detach() for output in alone]), tolerance)
        if self.scope == "input" or self._obstacle is not None:
            return
        self._layers = self._taped_layers()
        fast = self._fast(_copied(samples))
        for number, (output, label) in enumerate(zip(alone, fast.scale.argmax(1), strict=True)):
            shares = {name: float(square[number, label]) for name, square in fast.squares.items()}
            unit = self._units(output.logits)[0][label]
            compare_layers(shares, plain_squares(self._parameters, output.logits, unit), tolerance)

    def _taped_layers(self) -> dict[str, nn.Module]:
        """The layers of which a tape is needed: no dense head, whose input the network returns."""
        if self.scope == "all":
            return trainable_layers(self.model)
        head = getattr(self.model, "head", None)
        return {"head": head} if isinstance(head, SparseLinear) else {}

    def _fall_back(self, reason: str) -> None:
        self._obstacle = reason
        warnings.warn(
            f"gradient lengths take the slower exact path: {reason}; for speed, use each linear, "
            "convolution, normalization or embedding layer once, or choose strategy.scope=last",
            stacklevel=5,
        )

    def _measure(self, inputs: Inputs) -> tuple[Output, Tensor]:
        """Output and lengths (B, L) of one piece, on the fast path where it is open."""
        if self._obstacle is None:
            try:
                measured = self._fast(_copied(inputs))
                return _detached(measured.output), measured.lengths()
            except NotCovered as reason:
                self._fall_back(str(reason))
        measured = self._slow(inputs)
        return _detached(measured.output), measured.lengths()

    def _fast(self, inputs: Inputs) -> _Measured:
        if self._layers:
            return self._by_layer(inputs)
        return self._input(inputs) if self.scope == "input" else self._last_layer(inputs)

    def _by_layer(self, inputs: Inputs) -> _Measured:
        with LayerTape(self._layers, num_samples(inputs)) as tape:
            output = forward(self.model, inputs)
        units, scale = self._units(output.logits)
        return _Measured(output, scale, tape.squares(output.logits, units, self._label_step))

    def _last_layer(self, inputs: Inputs) -> _Measured:
        """``z = W h + b``: gradients ``u hᵀ`` and u, of squared length ``‖u‖² (‖h‖² + 1)``."""
        with torch.no_grad():
            output = forward(self.model, inputs)
        units, scale = self._units(output.logits)
        factor = _head_factor(self.model, output.features)
        return _Measured(output, scale, {"head": units.square().sum(-1).T * factor.unsqueeze(1)})

    def _input(self, inputs: Inputs) -> _Measured:
        """Samples do not mix, so the gradient of all logits holds each sample's own in its row."""
        leaves = [tensor.requires_grad_() for tensor in tensors_of(inputs)]
        output = forward(self.model, _copied(inputs))  # a leaf may not be changed in place
        units, scale = self._units(output.logits)
        squares = [_input_square(output.logits, leaves, unit) for unit in units]
        return _Measured(output, scale, {"input": torch.stack(squares, 1)})

    def _slow(self, inputs: Inputs) -> _Measured:
        with torch.no_grad():
            output = forward(self.model, _copied(inputs))
        units, scale = self._units(output.logits)
        squares = sample_squares(self.model, self._parameters, inputs, units)
        return _Measured(output, scale, {"": squares})

    def _units(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Cotangents (L, B, C) scaled to a largest entry of one, and the scales (B, L).

        Gradients are linear in the cotangent, ``‖∇(c u·z)‖ = c ‖∇(u·z)‖``. So lengths are measured
        at unit size and scaled afterwards: a gradient of 1e-20 is a float32, its square is not.
        """
        cotangents = self.cotangents(logits.detach())  # constants: they are not differentiated
        if cotangents.dim() != 3 or cotangents.shape[1:] != logits.shape:
            raise ValueError(
                f"cotangents of shape {tuple(cotangents.shape)} for logits "
                f"{tuple(logits.shape)}; return (L, B, C)"
            )
        if self.labels == "predicted":
            cotangents = _predicted(cotangents, logits)
        scale = cotangents.abs().amax(-1)
        return cotangents / torch.where(scale == 0, 1, scale).unsqueeze(-1), scale.T


class _Measured(NamedTuple):
    """Squared lengths (B, L) by layer, for cotangents that were divided by the scale (B, L)."""

    output: Output
    scale: Tensor
    squares: dict[str, Tensor]

    def lengths(self) -> Tensor:
        total = torch.zeros_like(self.scale)
        for square in self.squares.values():
            total = total + square
        return self.scale * total.sqrt()


def _copied(inputs: Inputs) -> Inputs:
    """Inputs of their own for a network, which may change them in place."""
    return map_tensors(Tensor.clone, inputs)


def _stretch(inputs: Inputs, positions: Tensor) -> Inputs:
    """Samples that stand next to each other, as views."""
    return take_rows(inputs, slice(int(positions[0]), int(positions[-1]) + 1))


def _held_numbers(model: nn.Module, sample: Inputs) -> int:
    """How many numbers the layers of a network put out for one sample."""
    numbers: list[int] = [tensor.numel() for tensor in tensors_of(sample)]

    def count(layer: nn.Module, args: object, output: object) -> None:
        numbers.append(output.numel() if isinstance(output, Tensor) else 0)

    leaves = [module for module in model.modules() if not any(module.children())]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        with torch.no_grad():
            forward(model, _copied(sample))
    finally:
        for handle in handles:
            handle.remove()
    return sum(numbers)


def _head_factor(model: nn.Module, features: Tensor | None) -> Tensor:
    """``‖h‖² + 1`` per sample: (B,); without the terms of frozen parameters."""
    head = last_layer(model)
    if head is None or features is None or features.dim() != 2:
        raise NotCovered("the network returns no features (B, D) of its last layer")
    factor = features.new_zeros(len(features))
    if head.weight.requires_grad:
        factor = features.square().sum(-1)
    return factor + 1 if head.bias is not None and head.bias.requires_grad else factor


def _input_square(logits: Tensor, leaves: Sequence[Tensor], unit: Tensor) -> Tensor:
    """``‖∂(u·z)/∂x‖²`` per sample, over all numbers of its inputs: (B,)."""
    gradients = torch.autograd.grad(
        logits, leaves, unit, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    squares = [gradient.unsqueeze(-1).flatten(1).square().sum(-1) for gradient in gradients]
    return squares[0] if len(squares) == 1 else torch.stack(squares).sum(0)


def _predicted(cotangents: Tensor, logits: Tensor) -> Tensor:
    """The row of the largest logit: (1, B, C)."""
    if len(cotangents) != logits.shape[1]:
        raise ValueError(
            f"labels='predicted' needs one row of cotangents per class, not {len(cotangents)} "
            f"for {logits.shape[1]} classes; choose labels='all'"
        )
    samples = torch.arange(len(logits), device=logits.device)
    return cotangents[logits.argmax(-1), samples].unsqueeze(0)


def _detached(output: Output) -> Output:
    features = None if output.features is None else output.features.detach()
    return Output(output.logits.detach(), features)


def _join(outputs: Sequence[Output]) -> Output:
    """One output for the whole batch; features only where every piece has them."""
    features = [output.features for output in outputs if output.features is not None]
    logits = torch.cat([output.logits for output in outputs])
    return Output(logits, torch.cat(features) if features else None)
