"""Selection against a full sort in plain Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dal.query.selection import random_keys, top_k


def full_sort(scores: list[float], keys: list[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: (-scores[i], keys[i]))[:k]


def drawn(scores: list[float], k: int) -> int:
    """Size of the draw among equals of the k-th score, 0 when none of them was left out."""
    lowest = sorted(scores, reverse=True)[k - 1]
    left_out = sorted(scores, reverse=True)[k:]
    return scores.count(lowest) if lowest in left_out else 0


def keys_of(count: int, seed: int = 0) -> Tensor:
    return random_keys(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 7, 499, 500])
def test_top_k_of_distinct_scores(k: int, dtype: torch.dtype) -> None:
    scores = torch.randn(500, generator=torch.Generator().manual_seed(3)).to(dtype)
    positions, tied = top_k(scores, k, keys_of(500))
    assert positions.tolist() == full_sort(scores.tolist(), [0.0] * 500, k)
    assert positions.dtype == torch.int64
    assert tied == 0


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0]), min_size=1, max_size=40),
    st.data(),
    st.integers(0, 99),
)
def test_top_k_of_tied_scores(scores: list[float], data: st.DataObject, seed: int) -> None:
    k = data.draw(st.integers(1, len(scores)))
    keys = keys_of(len(scores), seed)
    positions, tied = top_k(torch.tensor(scores), k, keys)
    assert positions.tolist() == full_sort(scores, keys.tolist(), k)
    assert tied == drawn(scores, k)


def test_top_k_by_hand() -> None:
    scores = torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0])
    keys = torch.tensor([0.9, 0.5, 0.1, 0.2, 0.3], dtype=torch.float64)
    positions, tied = top_k(scores, 3, keys)
    assert (positions.tolist(), tied) == ([3, 1, 2], 3)
    positions, tied = top_k(scores, 2, keys)
    assert (positions.tolist(), tied) == ([3, 1], 0)


@pytest.mark.parametrize("k", [-1, 0, 6])
def test_top_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=rf"query_size={k} but 5 "):
        top_k(torch.zeros(5), k, keys_of(5))


def test_top_k_leaves_its_arguments_alone() -> None:
    scores, keys = torch.tensor([0.5, 0.5, 1.0]), keys_of(3)
    copies = scores.clone(), keys.clone()
    top_k(scores, 2, keys)
    assert torch.equal(scores, copies[0])
    assert torch.equal(keys, copies[1])


def test_random_keys_are_uniform_distinct_and_seeded() -> None:
    keys = keys_of(10_000)
    assert keys.dtype == torch.float64
    assert len(keys.unique()) == 10_000
    assert float(keys.min()) >= 0
    assert float(keys.max()) < 1
    counts = torch.histc(keys, 10, 0, 1)
    assert float((counts - 1000).square().sum() / 1000) < 27.9  # chi-square, 9 dof, p = 0.001
    assert torch.equal(keys, keys_of(10_000))
    assert not torch.equal(keys, keys_of(10_000, seed=1))


@settings(deadline=None, max_examples=100)
@given(st.permutations(range(12)), st.integers(1, 12), st.data())
def test_gathered_keys_do_not_depend_on_order_or_subset(
    order: list[int], size: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, size))
    candidates = torch.tensor(order[:size])
    keys = keys_of(12)
    level = torch.tensor([0.0, 1.0] * 6)

    def choose(indices: Tensor) -> list[int]:
        picked: list[int] = indices[top_k(level[indices], k, keys[indices])[0]].tolist()
        return picked

    chosen = choose(candidates)
    assert chosen == choose(candidates.sort().values)
    rest = [i for i in order[:size] if i not in chosen]
    kept = [i for i in order[:size] if i in chosen or i in rest[::2]]
    assert chosen == choose(torch.tensor(kept))
