"""Every strategy on made-up views of any size: right, seeded, and blind to the pool's order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_strategies_contract import SETTINGS
from torch import Tensor

from dal.query import (
    Decision,
    Features,
    GradNorms,
    History,
    Members,
    PoolView,
    Probs,
    Query,
    Strategy,
)
from dal.query.needs import AnswersSoFar, Labels, Need, of_candidates
from dal.utils.build import build


def answer(
    need: Need, size: int, classes: int, coarse: bool, multilabel: bool, rng: torch.Generator
) -> Tensor:
    """A random answer to a need; coarse ones have many ties and exact zeros."""

    def numbers(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=rng)
        return values.round() if coarse else values

    def probs(*shape: int) -> Tensor:
        if multilabel:
            return (numbers(*shape) > 0).float() if coarse else numbers(*shape).sigmoid()
        one_hot = torch.nn.functional.one_hot(numbers(*shape).argmax(-1), shape[-1]).float()
        return one_hot if coarse else numbers(*shape).softmax(-1)

    match need:
        case Features(of="labeled" | "rejected"):
            return numbers(3, 4)
        case Probs(of="labeled"):
            return probs(3, classes)
        case Labels():
            return (numbers(3, classes) > 0).long() if multilabel else torch.arange(3) % classes
        case AnswersSoFar():
            said = torch.tensor([[0, 1, 0, 1], [1, 2, 1, 0], [0, 1, 1, 0], [2, 3, 0, 0]])
            said[:, 1] = size + 7 - said[:, 1]
            return said
        case Features():
            return numbers(size, 4)
        case Members():
            return probs(5, size, classes)
        case History(rounds=rounds):
            return probs(rounds, size, classes)
        case Decision():
            return numbers(size, 1 if classes == 2 else classes)
        case GradNorms():
            return numbers(size, classes).abs()
        case Probs():
            return probs(size, classes)
        case _:
            return numbers(size, classes).abs()


def make_view(
    strategy: Strategy, size: int, classes: int, coarse: bool, multilabel: bool, seed: int
) -> PoolView:
    rng = torch.Generator().manual_seed(seed)
    total = size + 7
    indices = torch.randperm(total, generator=rng)[:size].sort().values
    results = {
        need: answer(need, size, classes, coarse, multilabel, rng)
        for need in sorted(strategy.needs, key=repr)
    }
    return PoolView(indices, results, num_total=total, num_classes=classes, multilabel=multilabel)


def shuffled(view: PoolView, strategy: Strategy, order: Tensor) -> PoolView:
    results = {}
    for need in strategy.needs:
        value = view[need]
        if isinstance(need, Members | History):
            value = value[:, order]
        elif of_candidates(need):
            value = value[order]
        results[need] = value
    return PoolView(
        view.indices[order],
        results,
        num_total=view.num_total,
        num_classes=view.num_classes,
        multilabel=view.multilabel,
    )


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_invariants_hold_for_any_view(name: str, data: st.DataObject) -> None:
    strategy: Strategy = build(SETTINGS[name])
    size = data.draw(st.integers(1, 24), "size")
    query_size = data.draw(st.integers(1, size), "query_size")
    classes = data.draw(st.integers(2, 5), "classes")
    coarse = data.draw(st.booleans(), "coarse")
    kind = data.draw(st.sampled_from(sorted(strategy.tasks)), "kind")
    seed = data.draw(st.integers(0, 10**6), "seed")
    view = make_view(strategy, size, classes, coarse, kind == "multilabel", seed)
    before = {need: view[need].clone() for need in strategy.needs}

    def select(seen: PoolView) -> Query:
        chooser: Strategy = build(SETTINGS[name])
        return chooser.select(seen, query_size, torch.Generator().manual_seed(seed))

    query = select(view)
    again = [] if query.again is None else query.again.tolist()
    assert query.indices.shape == query.scores.shape == (query_size - len(again),)
    assert len(set(query.indices.tolist())) == len(query.indices)
    assert set(again) <= {size + 7 - n for n in (1, 2, 3)}
    assert set(query.indices.tolist()) <= set(view.indices.tolist())
    assert bool(torch.isfinite(query.scores).all())
    assert torch.equal(select(view).indices, query.indices)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed + 1))
    other = select(shuffled(view, strategy, order))
    assert torch.equal(other.indices, query.indices)
    assert torch.equal(other.scores, query.scores)
    assert all(torch.equal(view[need], before[need]) for need in strategy.needs)
