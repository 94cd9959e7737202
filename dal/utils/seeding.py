"""All randomness of a run comes from generators derived from (seed, round, purpose)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def derive(seed: int, *keys: int | str) -> int:
    """A 63-bit seed that depends on every key, e.g. ``derive(seed, round_number, "train")``.

    The strategy must never be one of the keys: strategies compared at one seed then share the
    split, the initial labels and the weights of round 0.
    """
    digest = hashlib.sha256(repr((int(seed), *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *keys: int | str) -> torch.Generator:
    """A CPU generator seeded with `derive`."""
    return torch.Generator().manual_seed(derive(seed, *keys))


@contextmanager
def seeded(
    seed: int, device: torch.device, states: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Seed torch's global generators of the CPU and one device for a block; their states come back.

    What dropout and the initialization of layers draw from. (``torch.manual_seed`` would also
    queue a seed for every GPU that might be used one day, a growing list.)

    Args:
        seed: The seed.
        device: The device.
        states: What `generator_states` gave, to go on from there where it has any.
    """
    index = device.index or 0
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[index] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.default_generators[index].manual_seed(seed)
        for kind, state in (states or {}).items():
            if kind in ("cpu", device.type):
                _global(device if kind == "cuda" else torch.device("cpu")).set_state(state)
        yield


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """States of torch's global generators of the CPU and one device, by kind: uint8, on the CPU."""
    kinds = {"cpu": torch.device("cpu"), device.type: device}
    return {kind: _global(each).get_state() for kind, each in kinds.items()}


def _global(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
