"""EPIG against the sum over all pairs of labels, written out in float64."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import Tensor

from dal.query import EPIG, Members, PoolView, bald, epig


def committee(size: int, count: int, classes: int, spread: float = 1.0, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    common = torch.randn(count, classes, generator=rng).double()
    return (common + spread * torch.randn(size, count, classes, generator=rng)).softmax(-1)


def information(one_KC: Tensor, other_KC: Tensor) -> float:
    """I(y; z) = H(y) + H(z) - H(y, z), of probabilities that are written out."""
    size, classes = one_KC.shape
    one, other = one_KC.tolist(), other_KC.tolist()
    joint = [
        math.fsum(one[k][y] * other[k][z] for k in range(size)) / size
        for y in range(classes)
        for z in range(classes)
    ]
    margins = [
        [math.fsum(row[y] for row in rows) / size for y in range(classes)] for rows in (one, other)
    ]

    def entropy(probs: list[float]) -> float:
        return -math.fsum(p * math.log(p) for p in probs if p > 0)

    return entropy(margins[0]) + entropy(margins[1]) - entropy(joint)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0])
def test_score_is_the_mean_information_over_the_targets(classes: int, spread: float) -> None:
    members, targets = (committee(4, 7, classes, spread, seed) for seed in (0, 1))
    want = [
        math.fsum(information(members[:, i], targets[:, j]) for j in range(7)) / 7 for i in range(7)
    ]
    for dtype, tolerance in [(torch.float64, 1e-9), (torch.float32, 1e-3)]:
        found = epig(members.to(dtype), targets.to(dtype))
        assert found.tolist() == pytest.approx(want, rel=tolerance, abs=1e-12)


def test_a_sample_is_no_target_of_its_own() -> None:
    members = committee(4, 6, 3)
    own = torch.arange(6)
    want = [
        math.fsum(information(members[:, i], members[:, j]) for j in range(6) if j != i) / 5
        for i in range(6)
    ]
    assert epig(members, members, own).tolist() == pytest.approx(want, rel=1e-9)
    assert epig(members[:, :1], members[:, :1], own[:1]).tolist() == [0.0]


def test_members_that_agree_on_the_targets_tell_nothing_though_they_differ_elsewhere() -> None:
    members = committee(4, 5, 3)
    sure = members[:1, :2].expand(4, 2, 3)
    assert epig(members, sure).abs().max() < 1e-9
    assert bald(members).min() > 0.01


def test_certain_members_have_finite_scores() -> None:
    hard = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1], [1, 1, 0]]), 2).float()
    scores = epig(hard, hard[:, 2:])
    assert scores.tolist() == pytest.approx([math.log(2), 0.0, math.log(2)], abs=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    members = committee(3, 50, 4)
    whole = epig(members, members[:, :9])
    module = importlib.import_module("dal.query.epig")
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 4 * 4 * 9 * 7)
    torch.testing.assert_close(epig(members, members[:, :9]), whole)


def view(members: Tensor) -> PoolView:
    count = members.shape[1]
    return PoolView(
        torch.arange(count) + 3, {Members(): members}, num_total=count + 9, num_classes=3
    )


def test_targets_are_a_sample_of_the_candidates_that_changes_with_the_pool() -> None:
    members = committee(4, 40, 3)
    every = EPIG(100).score(view(members))
    torch.testing.assert_close(every, epig(members, members, torch.arange(40)))
    few = EPIG(5).score(view(members))
    assert not torch.allclose(few, every)
    assert torch.equal(few, EPIG(5).score(view(members)))
    fewer = EPIG(5).score(view(members[:, :39]))
    assert not torch.allclose(fewer, few[:39])


def test_reference_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"strategy\.reference=0"):
        EPIG(0)
