"""Keys, shares and order: the pure parts of the labeling page."""

from __future__ import annotations

import string
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import torch
import yaml
from hypothesis import given, settings

from dal.oracles.page.keys import class_keys, none_keys
from dal.oracles.page.order import along, chain
from dal.oracles.page.shares import Shares
from dal.settings import differing

ROOT = Path(__file__).parents[3]


def test_digits_are_their_own_keys() -> None:
    digits = [str(d) for d in range(10)]
    assert class_keys(digits) == digits
    assert none_keys(digits) == ["n", "-"]
    assert class_keys(["b", "A"]) == ["b", "a"]


def test_other_classes_have_digits_and_then_letters() -> None:
    assert class_keys(["cat", "dog"]) == ["1", "2"]
    assert none_keys(["cat", "dog"]) == ["n", "0", "-"]
    assert class_keys(["a", "dog"]) == ["1", "2"]
    assert class_keys(["a", "A"]) == ["1", "2"]  # one key would mean both
    assert class_keys(["é", "b"]) == ["1", "2"]
    many = class_keys([f"class {number}" for number in range(40)])
    letters = [letter for letter in string.ascii_lowercase if letter != "n"]
    assert many == [*"123456789", *letters, *[None] * 6]


def test_none_of_these_keeps_a_key() -> None:
    letters = list(string.ascii_letters[:26])
    assert class_keys(letters) == letters
    assert none_keys(letters) == ["0", "-"]
    assert none_keys([*letters[:20], "0"]) == ["-"]


PEOPLE = ["Ann", "Bob", "Cem"]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 12),
    wanted=st.integers(1, 3),
    moves=st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=60),
)
def test_shares_end_with_all_answered_and_nobody_has_too_much(
    count: int, wanted: int, moves: list[tuple[int, bool, bool]]
) -> None:
    items = [str(number) for number in range(count)]
    shares = Shares(dict.fromkeys(items, wanted))
    for who, back, alone in moves:
        name = PEOPLE[who]
        others = [] if alone else [other for other in PEOPLE if other != name]
        mine = shares.of(name, others)
        assert mine == [item for item in items if item in mine]
        done = [item for item in mine if name in shares.answered[item]]
        left = [item for item in mine if item not in done]
        if back and done:
            shares.answer(name, done[-1], False)
            assert done[-1] in shares.of(name, others)
        elif left:
            shares.answer(name, left[0], True)
        having = Counter(item for own in shares.held.values() for item in own)
        taken_back = any(back for _, back, _ in moves)
        for item in items:
            if not taken_back:
                assert having[item] + len(shares.answered[item]) <= wanted
    for _ in range(wanted * count * 4):  # the three go on until nothing is left
        for name in PEOPLE:
            mine = shares.of(name, [])
            left = [item for item in mine if name not in shares.answered[item]]
            if left:
                shares.answer(name, left[0], True)
    assert all(map(shares.is_done, items))


def test_who_left_does_not_keep_samples() -> None:
    shares = Shares(dict.fromkeys("abcd", 1))
    assert shares.of("Ann", []) == list("abcd")
    assert shares.of("Bob", []) == list("abcd")  # Ann is away
    assert shares.of("Ann", ["Bob"]) == list("cd")


def test_a_sample_asked_again_is_not_kept_from_the_only_person_there_is() -> None:
    shares = Shares(dict.fromkeys("ab", 1), {"a": {"Ann"}})
    assert shares.of("Ann", ["Bob"]) == ["b"]
    assert Shares(dict.fromkeys("ab", 1), {"a": {"Ann"}}).of("Ann", []) == ["a", "b"]
    assert Shares(dict.fromkeys("ab", 1), {"a": {"Ann", "Bob"}}).of("Ann", ["Bob"]) == ["a", "b"]


def test_a_chain_goes_to_the_nearest_that_is_left() -> None:
    points = torch.tensor([[5.0], [0.0], [6.5], [1.0], [9.0]], dtype=torch.float64)
    assert chain(points).tolist() == [0, 2, 4, 3, 1]


def test_many_are_ordered_along_what_differs_most() -> None:
    generator = torch.Generator().manual_seed(0)
    heights = torch.randn(500, generator=generator, dtype=torch.float64)
    noise = 0.01 * torch.randn(500, 8, generator=generator, dtype=torch.float64)
    points = noise + heights[:, None] * torch.arange(1.0, 9.0)
    order = along(points)
    sizes = heights[order]
    up = sizes if sizes[0] < sizes[-1] else sizes.flip(0)
    assert (up.diff() > -0.05).all()
    assert sorted(order.tolist()) == list(range(500))


def test_what_people_are_shown_and_where_makes_no_other_run() -> None:
    usual = yaml.safe_load((ROOT / "conf/oracle/page.yaml").read_text())
    apart = {"guess": True, "sort_labels": True, "order": "alike", "host": "0.0.0.0", "port": 1}
    config = {"oracle": usual | apart | {"open_browser": False}}
    assert differing(config, {"oracle": usual}) == {}
    others = {"oracle": usual | {"annotators_per_sample": 2}}
    assert differing(others, {"oracle": usual}) == {"oracle.annotators_per_sample": 2}
