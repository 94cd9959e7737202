"""REFINE: what is left after each step, and who chooses among it."""

from __future__ import annotations

import pytest
import torch

from dal.query import Entropy, Margin, MultilabelMargin, PoolView, Probs, Query, Random, Refine
from dal.query.base import Strategy
from dal.query.needs import Needs


def view(count: int = 60) -> PoolView:
    probs = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    return PoolView(2 * torch.arange(count), {Probs(): probs}, num_total=2 * count, num_classes=3)


class Watched(Strategy):
    """Chooses the first or the last of the candidates, and remembers those it was shown."""

    needs: Needs = frozenset({Probs()})

    def __init__(self, last: bool = False) -> None:
        self.last, self.seen = last, list[list[int]]()

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        self.seen.append(view.indices.tolist())
        part = view.indices[-query_size:] if self.last else view.indices[:query_size]
        return Query(part, torch.zeros(query_size))


def refine(*filters: Strategy, then: Strategy | None = None, **settings: float) -> Refine:
    criteria = {f"c{number}": strategy for number, strategy in enumerate(filters)}
    return Refine(criteria, then or Margin(), **settings)  # type: ignore[arg-type]


def test_what_any_strategy_chose_of_any_part_is_left() -> None:
    first, last, then = Watched(), Watched(last=True), Watched()
    strategy = refine(first, last, then=then, depth=2, batches=3, share=0.5, part=20)
    query = strategy.select(view(), 4, torch.Generator())
    left = set(range(0, 120, 2))
    for step in range(2):
        own, others = (w.seen[3 * step : 3 * step + 3] for w in (first, last))
        size = 20 if step == 0 else max(len(left) // 2, 4)
        assert all(len(part) == size and set(part) <= left for part in own + others)
        left = {i for p in own for i in p[:4]} | {i for p in others for i in p[-4:]}
    assert then.seen == [sorted(left)]
    assert query.indices.tolist() == sorted(left)[:4]
    assert query.info["left"] == len(left)


def test_parts_of_a_step_differ() -> None:
    watched = Watched()
    refine(watched, depth=1, batches=3, part=20).select(view(), 4, torch.Generator())
    assert len({tuple(part) for part in watched.seen}) == 3


def test_one_strategy_on_the_whole_pool_is_that_strategy() -> None:
    strategy = refine(Entropy(), depth=3, batches=2, share=1.0)
    query = strategy.select(view(), 7, torch.Generator())
    want = Entropy().select(view(), 7, torch.Generator())
    assert set(query.indices.tolist()) == set(want.indices.tolist())


def test_without_steps_the_last_strategy_chooses() -> None:
    query = refine(Random(), depth=0).select(view(), 7, torch.Generator())
    want = Margin().select(view(), 7, torch.Generator())
    assert query.indices.tolist() == want.indices.tolist()
    assert query.info["left"] == 60


def test_parts_hold_a_query_at_least() -> None:
    query = refine(Random(), depth=4, batches=1, share=0.01, part=1).select(
        view(), 9, torch.Generator()
    )
    assert len(query.indices) == query.info["left"] == 9


def test_needs_and_tasks_are_those_of_all() -> None:
    assert refine(Random(), Watched()).needs == {Probs()}
    with pytest.raises(ValueError, match="no kind of task suits all"):
        refine(Margin(), then=MultilabelMargin())


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="no criteria"):
        Refine({}, Margin())
    message = r"first=0\.5 is no strategy; set it by strategy@strategy\.criteria\.first=entropy"
    with pytest.raises(TypeError, match=message):
        Refine({"first": 0.5}, Margin())  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"set it by strategy@strategy\.then=entropy"):
        Refine({"first": Margin()}, 3)  # type: ignore[arg-type]
    for name, wrong in [("depth", -1), ("batches", 0), ("part", 0), ("share", 0), ("share", 1.5)]:
        with pytest.raises(ValueError, match=rf"strategy\.{name}={wrong}"):
            refine(Margin(), **{name: wrong})
