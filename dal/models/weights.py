"""Weights from files: whatever is wrong with a file is said in one line, and nothing is run."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

SUFFIXES = (".pt", ".pth", ".safetensors")


def is_file(weights: str) -> bool:
    """Whether weights are those of a file, rather than those of a name."""
    return "/" in weights or weights.endswith(SUFFIXES)


def read_state(path: str, setting: str) -> dict[str, Tensor]:
    """The tensors of a state dict in a file, also below ``state_dict`` or ``model``.

    Args:
        path: The file, written by `torch.save`; or ``.safetensors``, where that package is.
        setting: What it was given as, such as ``model.weights``, for errors.

    Raises:
        OSError: There is no such file, or it may not be read.
        ValueError: It is damaged, holds no state dict, or no package reads it. Objects of other
            kinds than tensors and plain containers are not loaded, since a file that makes them can
            run code.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{setting}={path}: there is no such file")
    read = _reader(file)
    try:
        state = read(file)
    except Exception as error:  # torch raises of many kinds, and advises to trust the file
        cut = isinstance(error, OSError) and error.errno == errno.EINVAL  # torch seeks before it
        if isinstance(error, OSError) and not cut:
            if error.filename is None:  # it opens, and cannot be read
                raise OSError(error.errno, error.strerror, str(file)) from error
            raise
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


def _reader(file: Path) -> Callable[[Path], Any]:
    """What reads a file of its kind, and builds nothing but tensors and plain containers."""
    if file.suffix != ".safetensors":
        return partial(torch.load, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{file} takes the package safetensors to be read; install it: pip install safetensors"
        ) from error
    return load_file  # type: ignore[no-any-return]


def load_weights(
    network: nn.Module,
    state: dict[str, Tensor],
    given: str,
    name: str,
    remedy: str = "set model.name to the network they are of",
    fresh: tuple[str, ...] = (),
) -> list[str]:
    """Load every entry of a network from a state that may hold more, below a prefix.

    Args:
        network: Changed in place.
        state: Tensors by name, of which the network's own may stand below a prefix, as in
            checkpoints of self-supervised training (``module.encoder_q.conv1.weight``).
        given: The setting that they come from, with its value, for errors.
        name: The network in words, for errors.
        remedy: What helps where they do not fit, for errors.
        fresh: How names of entries begin that stay as they are where theirs is missing or of
            another shape.

    Returns:
        The entries that stayed so.

    Raises:
        ValueError: Another entry is missing or of another shape, is sparse, holds whole numbers
            where the network has fractions, or any that are not finite; or all stand below
            several prefixes.
    """
    own = network.state_dict()
    prefix = _prefix(own, state, given, name)
    found = {
        key: state[prefix + key]
        for key, value in own.items()
        if prefix + key in state and state[prefix + key].shape == value.shape
    }
    # Counters of batches, which old files lack, play no part in predictions.
    missing = [k for k in own if k not in found and not k.endswith("num_batches_tracked")]
    wrong = [key for key in missing if not key.startswith(fresh)]
    if wrong:
        raise ValueError(
            f"{given} do not fit {name}: entries missing or of another shape: "
            f"{len(wrong)}, {wrong[0]} first; {remedy}"
        )
    for key, value in found.items():
        if own[key].is_floating_point() and not value.is_floating_point():
            raise ValueError(
                f"{given} do not fit {name}: {prefix}{key} holds {value.dtype}, as quantized "
                "networks do; save the weights as float32"
            )
        if value.layout != torch.strided or value.is_meta:
            raise ValueError(
                f"{given} do not fit {name}: {prefix}{key} is sparse, or has no numbers (meta); "
                "save dense weights, as network.state_dict() gives them"
            )
        if not value.to(own[key].dtype).isfinite().all():
            raise ValueError(
                f"{given} are no weights of a trained {name}: {prefix}{key} holds numbers that are "
                f"not finite as {own[key].dtype}; its training diverged, take an earlier one"
            )
    own.update(found)  # in place: it keeps the version of its entries, which some networks ask for
    network.load_state_dict(own)
    return missing


@contextmanager
def no_larger_than(numbers: int, fact: str) -> Iterator[None]:
    """Refuse a network of many more numbers while the block builds it, before it takes memory.

    For one that a file describes, which may be anybody's: it may ask for a billion layers.

    Args:
        numbers: So many it may have; four times as many, and some thousands, are let pass, since
            parameters may be registered twice.
        fact: What the error says.

    Raises:
        ValueError: It has more.
    """
    left = 4 * numbers + 2**16

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise ValueError(fact)

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


COPIES = ("encoder_k.", "momentum_encoder.")
"""Ends of prefixes below which checkpoints of MoCo and the like keep a moving copy of a network."""


def _prefix(own: dict[str, Tensor], state: dict[str, Tensor], given: str, name: str) -> str:
    """What stands before a network's entries in a state; nothing where they stand as they are."""
    first = next(iter(own))
    ends = [key.removesuffix(first) for key in state if key.endswith(first)]
    counts = {end: sum(end + key in state for key in own) for end in ends}
    best = [end for end in counts if counts[end] == max(counts.values())]
    best = [end for end in best if not end.endswith(COPIES)] or best
    if len(best) > 1 and "" not in best:
        raise ValueError(
            f"{given} hold {name} {len(best)} times, below {best[0]} and {best[1]}; save the "
            "entries of one of them"
        )
    return best[0] if len(best) == 1 else ""
