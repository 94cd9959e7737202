"""What is said of groups that differ."""

from __future__ import annotations

from typing import Any

import pytest

from dal.reporting.titles import told_apart

NOISY = {"noisy": {"_target_": "dal.data.hard_pools.Noisy", "rate": 0.1}}
NOISIER = {"noisy": {"_target_": "dal.data.hard_pools.Noisy", "rate": 0.3}}
EIGHT = {"ood": {"_target_": "dal.data.foreign.Ood", "classes": ["8", 9]}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([{"a": 1}, {"a": 2}], ["a=1", "a=2"]),
        ([{"a": 1, "b": 1}, {"a": 1, "b": None}], ["b=1", "b=null"]),
        ([{"a": True}, {"a": "dal.models.MLP"}], ["a=true", "a=MLP"]),
        ([{"m": {"_target_": "dal.x.One"}}, {"m": {"_target_": "dal.x.Two"}}], ["m=One", "m=Two"]),
        (
            [{"difficulty": {}, "a": 1}, {"difficulty": NOISY, "a": 1}],
            ["pool as it is", "pool noisy"],
        ),
        (
            [{"difficulty": NOISY}, {"difficulty": NOISIER}, {"difficulty": NOISY | EIGHT}],
            [
                "pool noisy, noisy.rate=0.1",
                "pool noisy, noisy.rate=0.3",
                "pool noisy and ood, noisy.rate=0.1",
            ],
        ),
        (
            [{"difficulty": EIGHT, "a": 1}, {"difficulty": NOISY, "a": 2}],
            ["pool ood, a=1", "pool noisy, a=2"],
        ),
        ([{"difficulty": NOISY}, {"difficulty": NOISIER}], ["noisy.rate=0.1", "noisy.rate=0.3"]),
        ([{"difficulty.noisy.rate": 0.1}, {"a": 1}], ["pool noisy", "pool as it is, a=1"]),
        ([{"a": 1}, {}], ["", ""]),
        ([{"a": 1}, {"a": 1}], ["", ""]),
        (
            [{f"k{n}": side for n in range(7)} for side in (0, 1)],
            ["k0=0, k1=0, k2=0, k3=0, 3 settings more", "k0=1, k1=1, k2=1, k3=1, 3 settings more"],
        ),
    ],
)
def test_groups_are_told_apart(settings: list[dict[str, Any]], words: list[str]) -> None:
    assert told_apart(settings) == words
