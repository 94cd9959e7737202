"""Layers of R networks at once, each on a batch of its own, where they beat `torch.vmap`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def stacked_conv2d(x: Tensor, weight: Tensor, bias: Tensor, padding: int = 0) -> Tensor:
    """Convolutions of stride 1, as `torch.nn.functional.conv2d` computes each.

    While gradients are recorded on CUDA, as products of matrices of windows: with few channels that
    is a third of the time of a convolution in R groups, at the price of memory for C x K x K copies
    of the images. Otherwise as a convolution in groups.

    Args:
        x: float, (R, B, C, H, W).
        weight: float, (R, O, C, K, K).
        bias: float, (R, O).
        padding: Zeros around the images.

    Returns:
        float, (R, B, O, H', W').
    """
    if x.device.type == "cuda" and torch.is_grad_enabled():
        return _by_windows(x, weight, bias, padding)
    count, images = len(x), x.transpose(0, 1).flatten(1, 2)
    out = F.conv2d(images, weight.flatten(0, 1), bias.flatten(), padding=padding, groups=count)
    return out.unflatten(1, (count, -1)).transpose(0, 1)


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Linear layers.

    Args:
        x: float, (R, B, D).
        weight: float, (R, O, D).
        bias: float, (R, O).

    Returns:
        float, (R, B, O).
    """
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def _by_windows(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    count, batch, kernel = len(x), x.shape[1], weight.shape[-1]
    windows = F.pad(x, (padding,) * 4).unfold(3, kernel, 1).unfold(4, kernel, 1)
    height, width = windows.shape[3:5]
    rows = windows.permute(0, 1, 3, 4, 2, 5, 6).reshape(count, batch * height * width, -1)
    out = stacked_linear(rows, weight.flatten(2), bias)
    return out.view(count, batch, height, width, -1).permute(0, 1, 4, 2, 3)
