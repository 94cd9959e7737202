"""Lengths of per-sample parameter gradients, layer by layer, without forming them for a batch.

A layer's parameter gradient for one sample is a product of the layer's input x and of the loss
gradient δ at its output, summed over the positions t at which the layer uses its parameters:
``G = Σ_t δ_t x_tᵀ``. Its squared length follows from x and δ alone, in one of two ways::

    ‖G‖² = Σ_o ‖Σ_t δ_ot x_t‖²            the product, formed for a bounded number of samples
    ‖G‖² = Σ_o Σ_tt' δ_ot (x_t·x_t') δ_ot'   a quadratic form; for large layers, few positions

The second is the first with its square multiplied out. Parameters of one layer do not overlap, nor
do those of two, so squared lengths of weight, bias and layers add up.

Shapes: B samples, L labels, O outputs, K inputs, T positions.

Reference:
    I. Goodfellow. Efficient per-example gradient computations. arXiv:1510.01799, 2015
    (linear layers, one position).
    G. Rochette, A. Manoel and E. Tramel. Efficient per-example gradient computations in
    convolutional neural networks. arXiv:1912.06015, 2019 (convolutions as products of patches).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.sparse import SparseLinear
from dal.utils.inputs import Inputs

MAX_ELEMENTS = 2**24
"""No intermediate result has more elements, unless one sample alone needs them."""


def covers(layer: nn.Module) -> bool:
    """Whether `squared_lengths` knows the layer: exact types only, as a subclass may do more."""
    if isinstance(layer, nn.Embedding) and (layer.max_norm or layer.scale_grad_by_freq):
        return False
    own = set(layer._parameters)
    return type(layer) in _RULES and own <= {"weight", "bias"}


def squared_lengths(layer: nn.Module, inputs: Inputs, cotangents: Tensor) -> Tensor:
    """Squared length of the gradient w.r.t. the layer's trainable parameters.

    Args:
        layer: One that `covers` accepts. Normalizations are taken in evaluation mode.
        inputs: The layer's input: (B, ...), the sample first; or a dict of tensors, (B, ...) each.
        cotangents: float, (B, L, ...): per sample and label, the gradient at the layer's output.

    Returns:
        float, (B, L), zero or more; parameters with ``requires_grad=False`` do not count.
    """
    return _RULES[type(layer)](layer, inputs, cotangents)


def _trains(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _linear(layer: nn.Module, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """``y_t = W x_t + b`` at every position: gradients ``Σ_t δ_t x_tᵀ`` and ``Σ_t δ_t``."""
    layer = cast(nn.Linear, layer)
    x_BKT = inputs.flatten(1, -2).mT if inputs.dim() > 2 else inputs.unsqueeze(-1)
    delta_BLOT = cotangents.flatten(2, -2).mT if inputs.dim() > 2 else cotangents.unsqueeze(-1)
    squares = cotangents.new_zeros(cotangents.shape[:2])
    if _trains(layer.weight):
        squares = squares + _product_lengths(delta_BLOT, x_BKT)
    return squares + _bias_lengths(delta_BLOT) if _trains(layer.bias) else squares


def _sparse_linear(layer: nn.Module, inputs: dict[str, Tensor], cotangents: Tensor) -> Tensor:
    """As `_linear` at one position, ``‖G‖² = ‖δ‖² (‖x‖² + 1)``: no place stands in a row twice."""
    layer = cast(SparseLinear, layer)
    rows_BL = inputs["weights"]
    factor = rows_BL.square().sum(1) if _trains(layer.weight) else rows_BL.new_zeros(len(rows_BL))
    factor = factor + 1 if _trains(layer.bias) else factor
    return cotangents.square().sum(-1) * factor.unsqueeze(1)


def _conv(layer: nn.Module, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """A convolution is the linear layer ``y_t = W x_t + b`` on the patch x_t each output sees.

    Patches repeat every input once for each tap of the kernel, so they are made for some samples at
    a time.
    """
    layer = cast(nn.Conv2d, layer)
    delta_BLOT = cotangents.flatten(3)
    step = max(1, MAX_ELEMENTS // (layer.weight[0].numel() * layer.groups * delta_BLOT.shape[-1]))
    pieces = zip(torch.split(inputs, step), torch.split(delta_BLOT, step), strict=True)
    return torch.cat([_conv_piece(layer, x, delta) for x, delta in pieces])


def _conv_piece(layer: nn.Conv2d, inputs: Tensor, delta_BLOT: Tensor) -> Tensor:
    """Groups are so many samples: each has weights of its own, on inputs and outputs of its own.

    So the gradient consists of one block for each group, ``‖G‖² = Σ_g ‖G_g‖²``.
    """
    groups = layer.groups
    squares = delta_BLOT.new_zeros(delta_BLOT.shape[:2])
    if _trains(layer.weight):
        x_BGKT = _patches(layer, inputs)
        delta_BGLOT = torch.unflatten(delta_BLOT, 2, (groups, -1)).transpose(1, 2)
        grouped = _product_lengths(delta_BGLOT.flatten(0, 1), x_BGKT.flatten(0, 1))
        squares = squares + torch.unflatten(grouped, 0, (-1, groups)).sum(1)
    return squares + _bias_lengths(delta_BLOT) if _trains(layer.bias) else squares


def _patches(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """What each output position sees: (B, groups, K, T).

    One strided copy; on CPU about eight times faster than `torch.nn.functional.unfold`.
    """
    view = torch.unflatten(_pad(layer, inputs), 1, (layer.groups, -1))
    dims = len(layer.kernel_size)
    for axis in range(dims):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        view = view.unfold(3 + axis, reach, layer.stride[axis])[..., :: layer.dilation[axis]]
    places, taps = range(3, 3 + dims), range(3 + dims, 3 + 2 * dims)
    view = view.permute(0, 1, 2, *taps, *places)  # (B, G, I/G, *kernel, *out)
    return view.flatten(3 + dims).flatten(2, 2 + dims)


def _pad(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """The input as the convolution pads it; ``F.pad`` wants the last axis first."""
    sides: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):
        if isinstance(layer.padding, str):
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            before = total // 2 if layer.padding == "same" else 0
            sides += [before, total - before if layer.padding == "same" else 0]
        else:
            sides += [layer.padding[axis]] * 2
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(inputs, sides, mode=mode) if any(sides) else inputs


def _batch_norm(layer: nn.Module, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """``y = γ x̂ + β``, x̂ by the running statistics: constants, so that no samples mix."""
    layer = cast(nn.BatchNorm2d, layer)
    x = F.batch_norm(inputs, layer.running_mean, layer.running_var, eps=layer.eps)
    return _channel_scale(layer, x, cotangents)


def _group_norm(layer: nn.Module, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """``y = γ x̂ + β``, x̂ by the sample's own statistics, in which γ and β play no part."""
    layer = cast(nn.GroupNorm, layer)
    return _channel_scale(layer, F.group_norm(inputs, layer.num_groups, eps=layer.eps), cotangents)


def _channel_scale(layer: Any, normal: Tensor, cotangents: Tensor) -> Tensor:
    """Weight and bias for each channel (axis 1), which all positions after that axis share."""
    x_BCT = normal.unsqueeze(-1).flatten(2)
    delta_BLCT = cotangents.unsqueeze(-1).flatten(3)
    return _scale_lengths(layer, x_BCT, delta_BLCT, -1)


def _layer_norm(layer: nn.Module, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """As `_group_norm`; weight and bias for each element of the last axes, shared by the others."""
    layer = cast(nn.LayerNorm, layer)
    axes = len(layer.normalized_shape)
    normal = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    x_BTC = normal.unsqueeze(1).flatten(1, -axes - 1).flatten(2)
    delta_BLTC = cotangents.unsqueeze(2).flatten(2, -axes - 1).flatten(3)
    return _scale_lengths(layer, x_BTC, delta_BLTC, -2)


def _scale_lengths(layer: Any, normal: Tensor, cotangents: Tensor, positions: int) -> Tensor:
    """``y_ct = γ_c x̂_ct + β_c``: gradients ``Σ_t δ_ct x̂_ct`` and ``Σ_t δ_ct`` for each c."""
    squares = cotangents.new_zeros(cotangents.shape[:2])
    if _trains(layer.weight):
        weight = (cotangents * normal.unsqueeze(1)).sum(positions)
        squares = squares + weight.square().sum(-1)
    if _trains(layer.bias):
        squares = squares + cotangents.sum(positions).square().sum(-1)
    return squares


def _embedding(layer: nn.Module, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """Row i of the table has the gradient ``Σ δ_t`` over the positions whose id is i.

    A lookup is a linear layer on one-hot rows, whose products ``x_t·x_t'`` are 1 where two ids
    agree and 0 elsewhere: ``‖G‖² = Σ_tt' [i_t = i_t'] δ_t·δ_t'``. Neither one-hot rows nor the
    gradient, each as long as the table, are formed.
    """
    layer = cast(nn.Embedding, layer)
    ids_BT = inputs.unsqueeze(-1).flatten(1)
    delta_BLOT = cotangents.unsqueeze(2).flatten(2, -2).mT
    (labels, outputs, positions) = delta_BLOT.shape[1:]
    step = max(1, MAX_ELEMENTS // (positions * (positions + labels * outputs)))
    pieces = zip(
        torch.split(delta_BLOT.flatten(1, 2), step), torch.split(ids_BT, step), strict=True
    )
    squares = [_quadratic(rows, _same(ids, layer.padding_idx, rows)) for rows, ids in pieces]
    return torch.unflatten(torch.cat(squares), 1, (labels, outputs)).sum(-1)


def _same(ids_BT: Tensor, padding: int | None, like: Tensor) -> Tensor:
    """One where two positions hold the same id, zero elsewhere: (B, T, T).

    Zero for padding too: the layer does not train that row.
    """
    same_BTT = ids_BT.unsqueeze(1) == ids_BT.unsqueeze(2)
    if padding is not None:
        same_BTT = same_BTT & (ids_BT != padding).unsqueeze(1)
    return same_BTT.to(like.dtype)


def _product_lengths(delta_BLOT: Tensor, x_BKT: Tensor) -> Tensor:
    """Squared Frobenius norm of ``Σ_t δ_t x_tᵀ`` per sample and label: (B, L).

    Takes the cheaper of the two forms. Multiplications per sample: R K T for the product and
    T² (K + R) for the quadratic form, with R = L O. With one position the gradient has rank one,
    ``‖δ xᵀ‖² = ‖δ‖² ‖x‖²``, at K + R.
    """
    (labels, outputs, positions), inner = delta_BLOT.shape[1:], x_BKT.shape[1]
    if positions == 1:
        return delta_BLOT.square().sum((2, 3)) * x_BKT.square().sum((1, 2)).unsqueeze(1)
    rows = labels * outputs
    if positions * (inner + rows) < rows * inner:
        form, size = _by_positions, positions * (positions + rows)
    else:
        form, size = _by_product, rows * inner
    step = max(1, MAX_ELEMENTS // max(1, size))
    pieces = zip(torch.split(delta_BLOT.flatten(1, 2), step), torch.split(x_BKT, step), strict=True)
    squares = torch.cat([form(delta, x) for delta, x in pieces])
    return torch.unflatten(squares, 1, (labels, outputs)).sum(-1)


def _by_product(rows_BRT: Tensor, x_BKT: Tensor) -> Tensor:
    """Forms the gradients of the given samples, at most `MAX_ELEMENTS` numbers at a time."""
    step = max(1, MAX_ELEMENTS // max(1, x_BKT.shape[1] * len(x_BKT)))
    parts = [torch.bmm(x_BKT, rows.mT) for rows in torch.split(rows_BRT, step, 1)]
    return torch.cat([part.square_().sum(1) for part in parts], 1)


def _bias_lengths(delta_BLOT: Tensor) -> Tensor:
    """Squared norm of ``Σ_t δ_t``; a row of ones among the inputs would slow their product."""
    return delta_BLOT.sum(-1).square().sum(-1)


def _by_positions(rows_BRT: Tensor, x_BKT: Tensor) -> Tensor:
    """Forms the products of all pairs of positions instead, ``M_tt' = x_t·x_t'``."""
    return _quadratic(rows_BRT, torch.bmm(x_BKT.mT, x_BKT))


def _quadratic(rows_BRT: Tensor, gram_BTT: Tensor) -> Tensor:
    """``rᵀ M r`` for each row r: (B, R). M is a Gram matrix, so only rounding makes it negative."""
    return (torch.bmm(rows_BRT, gram_BTT) * rows_BRT).sum(-1).clamp_min(0)


_Rule = Callable[[nn.Module, Any, Tensor], Tensor]

_RULES: dict[type[nn.Module], _Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
    SparseLinear: _sparse_linear,
}
