"""Pairs of opposite classes: halving, and going along the boundary."""

from __future__ import annotations

import torch

from dal.synthesis.bisection import advanced, between, drawn_pairs


def test_an_answer_takes_the_place_of_the_end_of_its_class() -> None:
    labels = {1: 0, 2: 1, 7: 0, 8: 1, 9: 2}
    chains = [[1, 2, 7], [1, 2, 8], [1, 2, 9], [1, 2, 5], [1, 7, 8]]
    # 5 has no label; 1 and 7 have become of one class, and 8 parts them again.
    assert advanced(chains, labels) == [[7, 2, -1], [1, 8, -1], [1, 9, -1], [1, 8, -1]]


def test_pairs_are_of_different_classes() -> None:
    labels = {10: 0, 11: 0, 12: 1, 13: 2}
    pairs = drawn_pairs(labels, 50, torch.Generator().manual_seed(0))
    assert len(pairs) == 50
    assert all(labels[a] != labels[b] and asked == -1 for a, b, asked in pairs)
    assert {n for pair in pairs for n in pair[:2]} == set(labels)
    assert drawn_pairs({1: 0, 2: 0}, 5, torch.Generator()) == []
    assert drawn_pairs(labels, 0, torch.Generator()) == []


def test_halving_finds_the_boundary_to_any_precision() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    labels = {0: 0, 1: 1}
    chains = [[0, 1, -1]]
    for number in range(2, 14):
        (a, b, _), rng = chains[0], torch.Generator().manual_seed(0)
        made, beside = between(points[[a]], points[[b]], close=1e-6, reach=0.5, rng=rng)
        assert not beside.any()
        points = torch.cat([points, made])
        labels[number] = int(made[0, 0] > 0.3)
        chains = advanced([[a, b, number]], labels)
    a, b, _ = chains[0]
    assert abs(float(points[a, 0]) - 0.3) < 2**-11
    assert abs(float(points[b, 0]) - 0.3) < 2**-11


def test_beside_a_close_pair_points_lie_at_right_angles_within_reach() -> None:
    a = torch.full((200, 3), 0.5, dtype=torch.float64)
    b = a + torch.tensor([0.001, 0.002, 0.0], dtype=torch.float64)
    made, beside = between(a, b, close=0.05, reach=0.2, rng=torch.Generator().manual_seed(0))
    away = made - (a + b) / 2
    assert beside.all()
    assert (away * (b - a)).sum(1).abs().max() < 1e-12
    assert away.norm(dim=1).max() <= 0.2 * 3**0.5
    assert away.norm(dim=1).max() > 0.1
