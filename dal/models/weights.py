"""Weights from files: whatever is wrong with a file is said in one line, and nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def is_file(weights: str) -> bool:
    """Whether weights are those of a file, rather than torchvision's of a name."""
    return "/" in weights or weights.endswith((".pt", ".pth"))


def read_state(path: str, setting: str) -> dict[str, Tensor]:
    """The tensors of a state dict in a file, also below ``state_dict`` or ``model``.

    Args:
        path: The file, written by `torch.save`.
        setting: What it was given as, such as ``model.weights``, for errors.

    Raises:
        OSError: There is no such file, or it may not be read.
        ValueError: It is damaged, or holds no state dict. Objects of other kinds than tensors and
            plain containers are not loaded, since a file that makes them can run code.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{setting}={path}: there is no such file")
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises of many kinds, and advises to trust the file
        raise ValueError(
            f"{setting}={path} is damaged, or holds other objects than the tensors of a state "
            "dict, which are not loaded since they can run code; save the weights with "
            "torch.save(network.state_dict(), path)"
        ) from error
    for inner in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(inner), dict):
            state = state[inner]
    named = state.items() if isinstance(state, dict) else ()
    tensors = {k: v for k, v in named if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(
            f"{setting}={path} holds no state dict; save network.state_dict() with torch.save"
        )
    return tensors
