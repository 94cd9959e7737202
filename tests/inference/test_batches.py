"""In which batches samples are gone through."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.inference.batches import Batches

INDICES = torch.tensor([5, 3, 8, 1, 9, 2, 7])
LENGTHS = torch.tensor([0, 8, 16, 8, 8, 16, 8, 24, 8, 8])


def buckets(indices: Tensor) -> Tensor:
    return LENGTHS[indices]


def test_without_lengths_batches_are_stretches() -> None:
    batches = Batches(INDICES, 3)
    assert [(b.tolist(), kept) for b, kept in batches] == [
        ([5, 3, 8], 3),
        ([1, 9, 2], 3),
        ([7, 7, 7], 1),
    ]
    assert batches.count == 7
    results = {"": INDICES}
    assert batches.in_order(results, {}) is results


def test_batches_are_of_one_length_each_and_of_one_size() -> None:
    batches = list(Batches(INDICES, 3, buckets))
    assert [(b.tolist(), kept) for b, kept in batches] == [
        ([7, 7, 7], 1),
        ([5, 2, 2], 2),
        ([3, 8, 1], 3),
        ([9, 9, 9], 1),
    ]


def test_results_come_in_the_order_of_the_indices() -> None:
    batches = Batches(INDICES, 3, buckets)
    rows = torch.cat([batch[:kept] for batch, kept in batches])
    results = batches.in_order(
        {"rows": rows, "members": torch.stack([rows, -rows])}, {"members": 1}
    )
    assert torch.equal(results["rows"], INDICES)
    assert torch.equal(results["members"], torch.stack([INDICES, -INDICES]))
