"""Scores that are made batch by batch are those made of all candidates at once, bit for bit."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import dal
import dal.query
from dal.data import Dataset, make_source
from dal.inference.pool_pass import pool_pass
from dal.models import LogisticRegression, Output
from dal.query import ScoreStrategy
from dal.query.base import PoolView
from dal.query.by_block import AT_HAND, in_blocks
from dal.query.needs import Heights, Needs, Probs, Scores
from dal.task import Multiclass, Multilabel, Task
from dal.training import Trainer

CPU = torch.device("cpu")
COUNT, CLASSES = 500, 7


class Network(nn.Module):
    """Some samples are predicted so surely that their highest probability rounds to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(5, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Output:
        features = self.hidden(x).tanh()
        return Output(self.head(features) * x[:, :1].exp() * 5, features)


def rows(count: int = COUNT) -> Tensor:
    x = torch.randn(count, 5, generator=torch.Generator().manual_seed(1))
    x[::9] = x[3]  # ties
    return x


def scores_in_blocks() -> list[ScoreStrategy]:
    found = []
    for name in dal.query.__all__:
        kind = getattr(dal.query, name)
        if inspect.isclass(kind) and issubclass(kind, ScoreStrategy) and kind is not ScoreStrategy:
            parameters = inspect.signature(kind).parameters.values()
            if all(p.default is not p.empty for p in parameters) and kind().fits_blocks:
                found.append(kind())
    return found


def passed(needs: Needs, task: Task, batch_size: int, indices: Tensor) -> PoolView:
    torch.manual_seed(0)
    network, x = Network(), rows()
    results, _ = pool_pass(
        network,
        lambda batch, device: x[batch],
        indices,
        needs,
        task,
        device=CPU,
        batch_size=batch_size,
    )
    return PoolView(indices, results, num_total=COUNT, num_classes=CLASSES)


def test_there_are_such_scores() -> None:
    names = {type(strategy).__name__ for strategy in scores_in_blocks()}
    assert {"Margin", "Entropy", "LeastConfidence", "ExpectedGradientLength"} <= names
    assert not names & {"Instability", "BALD", "DensityWeighted"}


@pytest.mark.parametrize("batch_size", [64, 33])
@pytest.mark.parametrize("strategy", scores_in_blocks(), ids=lambda each: type(each).__name__)
def test_blocks_give_the_same_bits_and_the_same_query(
    strategy: ScoreStrategy, batch_size: int
) -> None:
    task = Multiclass(CLASSES) if "multiclass" in strategy.tasks else Multilabel(CLASSES)
    indices = torch.randperm(COUNT, generator=torch.Generator().manual_seed(2))[:411]
    whole = passed(strategy.needs, task, batch_size, indices)
    blocks = passed(frozenset({Scores(strategy)}), task, batch_size, indices)
    scores = strategy.score(whole)
    assert torch.equal(blocks[Scores(strategy)], scores)
    heights = strategy.heights(whole, scores)
    assert torch.equal(blocks.get(Heights(strategy), scores), heights)
    assert not any(need in blocks for need in strategy.needs)
    queries = [strategy.select(v, 50, torch.Generator().manual_seed(3)) for v in (whole, blocks)]
    assert torch.equal(queries[0].indices, queries[1].indices)
    assert torch.equal(queries[0].scores, queries[1].scores)
    assert queries[0].info == queries[1].info


def test_small_pools_keep_what_scores_are_made_of() -> None:
    strategy = dal.query.Margin()
    assert in_blocks(strategy, strategy.needs, AT_HAND) == {Probs()}
    assert in_blocks(strategy, strategy.needs, AT_HAND + 1) == {Scores(strategy)}


@dataclass
class Doubt(ScoreStrategy):
    """A strategy that can be compared, and so has no hash."""

    power: float = 1.0
    needs = frozenset({Probs()})

    def score(self, view: PoolView) -> Tensor:
        return (1 - view[Probs()].amax(1)) ** self.power


def test_a_strategy_may_define_equality() -> None:
    strategy, task, indices = Doubt(2.0), Multiclass(CLASSES), torch.arange(COUNT)
    whole = passed(strategy.needs, task, 64, indices)
    blocks = passed(in_blocks(strategy, strategy.needs, AT_HAND + 1), task, 64, indices)
    queries = [strategy.select(v, 50, torch.Generator().manual_seed(3)) for v in (whole, blocks)]
    assert torch.equal(queries[0].indices, queries[1].indices)
    assert Scores(strategy) in blocks
    assert Scores(Doubt(2.0)) not in blocks
    assert Scores(strategy) != Heights(strategy)


@pytest.mark.parametrize("strategy", [dal.query.CoreSet(), dal.query.Instability()])
def test_what_is_no_score_of_single_candidates_stays_whole(strategy: dal.query.Strategy) -> None:
    assert in_blocks(strategy, strategy.needs, 10**12) == strategy.needs


def test_runs_on_large_pools_ask_for_the_same_samples() -> None:
    """Predictions are kept as a whole where they are remembered, and else one score a candidate."""
    count, classes = AT_HAND // 64 + 300, 64
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 2, generator=rng)
    targets = torch.arange(count) % classes
    names = tuple(f"class {number}" for number in range(classes))
    test = {"test_inputs": inputs[:100], "test_targets": targets[:100]}
    source = make_source(Dataset("large", inputs, targets, names, **test), seed=0)

    def run(keep_history: bool) -> dal.Result:
        return dal.run(
            source,
            LogisticRegression,
            dal.query.Margin(),
            initial=torch.arange(64),
            trainer=Trainer(epochs=2),
            settings=dal.Settings(
                budget=6, query_size=3, keep_history=keep_history, threads=1, batch_size=4096
            ),
        )

    whole, blocks = run(True), run(False)
    assert blocks.job.pool.queries() == whole.job.pool.queries()
    assert len(blocks.job.pool.queries()) == 6
