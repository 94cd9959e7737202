"""All randomness of a run comes from generators derived from (seed, round, purpose)."""

from __future__ import annotations

import hashlib

import torch


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
