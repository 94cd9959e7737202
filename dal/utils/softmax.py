"""Derivatives of the softmax cross-entropy that keep their digits."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_cotangents(logits: Tensor) -> Tensor:
    """Gradients of the softmax cross-entropy w.r.t. the logits, for each label: ``p − e_y``.

    Computed as ``(1 − p_y) (q − e_y)``, where q is the softmax of the other logits and
    ``1 − p_y = σ(log Σ_{c≠y} exp z_c − z_y)``. Every entry keeps its relative precision, however
    confident the network is; the difference ``p_y − 1`` itself would keep none.

    Args:
        logits: float, (B, C), C of two or more.

    Returns:
        Same dtype, (C, B, C): row y holds the cotangents for label y.

    Raises:
        ValueError: There are fewer than two classes.
    """
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"softmax gradients need logits (B, C) of two or more classes, not "
            f"{tuple(logits.shape)}; check num_classes of the model"
        )
    label = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device).unsqueeze(1)
    others = logits.masked_fill(label, -torch.inf)
    miss = torch.sigmoid(others.logsumexp(-1) - logits.T)
    return miss.unsqueeze(-1) * (others.softmax(-1) - label.to(logits.dtype))
