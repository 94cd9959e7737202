"""Density by a window, and what is said of a window in which nothing, or all, was asked about."""

from __future__ import annotations

import pytest
import torch

from dal.streams.watch import Watch, length, watched
from dal.streams.window import window_density


@pytest.mark.parametrize(("window", "first"), [(3, 0), (50, 4), (7, 12)])
def test_window_density_is_the_mean_similarity_to_the_samples_before(
    window: int, first: int
) -> None:
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    expected = []
    for place in range(first, 20):
        before = rows[max(0, place - window) : place]
        cosines = torch.nn.functional.cosine_similarity(before, rows[place][None])
        expected.append(float((1 + cosines).mean() / 2) if len(before) else 1.0)
    found = window_density(rows, first, window)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_window_density_of_zeros_is_a_right_angle() -> None:
    assert window_density(torch.zeros(3, 2), 1, 5).tolist() == [0.5, 0.5]


def sentences(asked: list[bool], share: float, fixed: float | None) -> list[tuple[int, str]]:
    watch, found = Watch(), []
    for number, decision in enumerate(asked, 1):
        watch, said = watched(watch, number / 1000, decision, share, fixed)
        found += [(number, said)] if said else []
    return found


def test_nothing_asked_is_said_after_a_window_and_once_for_windows_in_a_row() -> None:
    found = sentences([False] * 300 + [True] * 100 + [False] * 100, 0.5, 0.9)
    assert [number for number, _ in found] == [100, 400, 500]
    assert "none of the last 100" in found[0][1]
    assert "0.001 to 0.1, are all below setting.manager.threshold=0.9; lower it" in found[0][1]
    assert "every one of the last 100" in found[1][1]


def test_everything_is_what_was_asked_for_where_no_threshold_stays() -> None:
    assert sentences([True] * 300, 1.0, None) == []


def test_a_small_share_is_given_time() -> None:
    assert length(0.01) == 1000
    assert [number for number, _ in sentences([False] * 1500, 0.01, None)] == [1000]
