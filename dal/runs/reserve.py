"""The reserve: candidates that no strategy may choose, among which labels to measure by are drawn.

A strategy takes the samples that it wants out of the pool, so those that are left tell of no model
how good it is. Samples drawn from the reserve do: it is a random part of the candidates as the run
began, drawn by the seed alone, whose labels are never learned from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dal.data.source import Source
from dal.query.selection import random_keys
from dal.settings import Settings
from dal.utils.seeding import generator

BLOCK = {"random": 1, "loss": 10}
"""Samples among which one is drawn, by how it is drawn; each block is used once, see `dal.risk`."""
MOST = 0.3
"""Share of the candidates that is put aside at most, where nothing else is said."""


def reserved(source: Source, initial: Tensor, settings: Settings) -> Tensor:
    """The reserve of a run, as blocks in the order in which they are drawn from.

    Samples that are labeled first, and copies of them, are not in it; nor are those that came after
    the run had begun.

    Args:
        source: The data.
        initial: int64, (M,), the samples that are labeled, or asked about, before the first round.
        settings: ``audit``, ``audit_by`` and ``audit_reserve``, and the seed.

    Returns:
        int64, (blocks, K), distinct; without blocks where no audit is asked for.

    Raises:
        ValueError: There are not enough candidates for a single block.
    """
    size = BLOCK[settings.audit_by]
    if not settings.audit:
        return torch.empty(0, size, dtype=torch.int64)
    first = torch.isin(source.train.positions[: source.begun], source.train.positions[initial])
    free = (~first).nonzero().squeeze(1)
    share = settings.audit_reserve
    if share is None:  # as many as the largest budget takes, within bounds
        share = min(max(MOST, settings.audit), size * settings.audit)
    blocks = math.ceil(share * len(free)) // size
    if blocks == 0:
        raise ValueError(
            f"audit_by={settings.audit_by} draws each label among {size} samples, and the reserve "
            f"is {share:g} of {len(free)} candidates; raise audit_reserve, or set audit=0"
        )
    keys = random_keys(source.begun, generator(settings.seed, "audit"))[free]
    return free[keys.argsort()[: blocks * size]].view(blocks, size)


def with_copies(source: Source, samples: Tensor) -> Tensor:
    """bool, (number of training samples,): where some samples are, and copies of them."""
    positions = source.train.positions
    return torch.isin(positions, positions[samples.flatten()])
