"""What a file holds becomes no larger than the file, however it is written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dal.utils.unfolded import check_unfolded


def itself() -> dict[str, Any]:
    state: dict[str, Any] = {}
    state["front"] = {"model": state}
    return state


def folded() -> list[Any]:
    names: list[Any] = ["a"]
    for _ in range(30):
        names = [names, names]
    return names


def deep() -> list[Any]:
    names: list[Any] = []
    for _ in range(50):
        names = [names]
    return names


@pytest.mark.parametrize(
    ("state", "fact"),
    [
        (itself(), "holds itself"),
        ({"names": folded()}, "more than 10,000,000 values"),
        ({"names": deep()}, "nested more than 40 deep"),
        ({"w": torch.zeros(1).expand(10**9)}, "repeat few numbers"),
        ([torch.zeros(1).expand(10**7)] * 3, "repeat few numbers"),
        ({"w": torch.zeros(3).to_sparse()}, "sparse"),
        ({"w": torch.zeros(3, device="meta")}, "of no memory"),
    ],
)
def test_what_a_small_file_makes_large_is_refused(state: Any, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        check_unfolded(state)


def test_what_shares_memory_is_not_refused() -> None:
    stacked = torch.zeros(5, 1000, 1000)
    same = (0.5,) * 3
    check_unfolded(
        {"mean": same, "std": same, "w": list(stacked), "one": torch.ones(()).expand(99)}
    )
