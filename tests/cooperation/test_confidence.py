"""Confidence, thresholds and limits against definitions written out in loops."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from dal.cooperation.confidence import (
    flexible_thresholds,
    likeliest,
    limited,
    rank_within,
    top_share,
)


def some_probs(rows: int, classes: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(rows, classes, generator=generator)).softmax(1)


def test_the_likeliest_class_and_how_sure_it_is() -> None:
    probs = some_probs(50, 4)
    targets, confidence, doubt = likeliest(probs, exclusive=True)
    for row, target, sure, rest in zip(
        probs.tolist(), targets.tolist(), confidence.tolist(), doubt.tolist(), strict=True
    ):
        assert row[target] == max(row) == sure
        others = sum(p for c, p in enumerate(row) if c != target)
        assert math.isclose(rest, others, rel_tol=1e-5)


def test_doubt_tells_apart_what_rounds_to_the_same_confidence() -> None:
    probs = torch.tensor([[20.0, 0.0], [30.0, 0.0], [25.0, 0.0]]).softmax(1)
    _, confidence, doubt = likeliest(probs, exclusive=True)
    assert confidence.tolist() == [1.0, 1.0, 1.0]
    assert doubt.argsort().tolist() == [1, 2, 0]


def test_several_labels_are_as_sure_as_the_least_sure_one() -> None:
    probs = torch.tensor([[0.9, 0.2, 0.97], [0.5, 0.01, 0.0], [0.99, 0.99, 0.98]])
    targets, confidence, doubt = likeliest(probs, exclusive=False)
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 1]]
    torch.testing.assert_close(confidence, torch.tensor([0.8, 0.5, 0.98]))
    torch.testing.assert_close(doubt, torch.tensor([0.2, 0.5, 0.02]))


@pytest.mark.parametrize(("seed", "threshold"), [(0, 0.6), (1, 0.9), (2, 0.3), (3, 1.0)])
def test_flexible_thresholds_are_those_of_the_paper(seed: int, threshold: float) -> None:
    probs = some_probs(200, 5, seed)
    classes, confidence, _ = likeliest(probs, exclusive=True)
    found = flexible_thresholds(threshold, confidence, classes, 5)
    learned = Counter(
        c for c, p in zip(classes.tolist(), confidence.tolist(), strict=True) if p > threshold
    )
    unused = sum(p <= threshold for p in confidence.tolist())
    for c in range(5):
        beta = learned[c] / max(*(learned[k] for k in range(5)), unused)
        assert math.isclose(float(found[c]), threshold * beta / (2 - beta))
    assert found.max() <= threshold


def test_ranks_count_those_of_the_same_class_before() -> None:
    classes = torch.tensor([2, 0, 2, 2, 5, 0])
    assert rank_within(classes).tolist() == [0, 0, 1, 2, 0, 1]
    assert rank_within(torch.empty(0, dtype=torch.int64)).tolist() == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_surest_share_of_each_class(share: float) -> None:
    classes, _, doubt = likeliest(some_probs(97, 4), exclusive=True)
    found = top_share(doubt, classes, share)
    for c in range(4):
        places = [n for n in range(97) if classes[n] == c]
        places.sort(key=lambda n: float(doubt[n]))
        wanted = set(places[: math.floor(share * len(places) + 1e-9)])
        assert {n for n in places if found[n]} == wanted


@pytest.mark.parametrize("most", [None, 0, 7, 1000])
@pytest.mark.parametrize("limits", [None, [0, 3, 100, 5]])
def test_limits_keep_the_surest(limits: list[int] | None, most: int | None) -> None:
    classes, confidence, doubt = likeliest(some_probs(80, 4), exclusive=True)
    sure = confidence > 0.5
    bounds = None if limits is None else torch.tensor(limits)
    found = limited(sure, doubt, classes, bounds, most)
    kept: list[int] = []
    seen: Counter[int] = Counter()
    for place in sorted(range(80), key=lambda n: float(doubt[n])):
        c = int(classes[place])
        if not sure[place] or (limits is not None and seen[c] >= limits[c]):
            continue
        seen[c] += 1
        kept.append(place)
    assert found.tolist() == sorted(kept[:most])
