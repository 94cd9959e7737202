"""The audit slice in runs: who is asked about, what is learned from, what the rows say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_job import dataset
from run_parts import parts

import dal
from dal import risk
from dal.data import initial_labels, make_source
from dal.data.source import Source
from dal.learners import RoundContext
from dal.models import LogisticRegression
from dal.oracles import Answers, SimulatedOracle
from dal.query import Margin, PoolView, Query, Random, Strategy
from dal.runs.parts import Standing
from dal.runs.reserve import BLOCK
from dal.training.trainer import Trainer

SOURCE = make_source(dataset(), seed=0, kind="none")
INITIAL = initial_labels(SOURCE.train.targets, seed=0, count=9)


class Seeing(Random):
    """Keeps what it could choose from, and how many it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[set[int]] = []
        self.sizes: list[int] = []

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        self.seen.append(set(view.indices.tolist()))
        self.sizes.append(query_size)
        return super().select(view, query_size, rng)


def run(
    strategy: Strategy | None = None,
    run_dir: Path | None = None,
    source: Source = SOURCE,
    **settings: Any,
) -> dal.Result:
    oracle = settings.pop("oracle", None)
    usual = {"budget": 40, "query_size": 10, "audit": 0.2, "threads": 1, "figures": False}
    return dal.run(
        source,
        LogisticRegression,
        strategy or Margin(),
        initial=INITIAL,
        trainer=Trainer(epochs=3),
        oracle=oracle,
        settings=dal.Settings(**usual | settings),
        run_dir=run_dir,
    )


def audits(result: dal.Result) -> list[int]:
    return [e["index"] for e in result.job.pool.events() if e["origin"] == "audit"]


@pytest.mark.parametrize("by", ["random", "loss"])
def test_audits_are_asked_with_each_query_and_never_learned_from(by: str) -> None:
    strategy = Seeing()
    result = run(strategy, audit_by=by)
    pool, reserve = result.job.pool, result.job.standing.reserve
    found = audits(result)
    assert strategy.sizes == [8] * 4
    assert len(found) == len(set(found)) == 8
    assert pool.num_queried == 40
    assert result.reason == "budget"
    assert [row["query/size"] for row in result.rows[:-1]] == [10] * 4
    assert not set(pool.train_set().indices.tolist()) & set(found)
    assert [row["trained_on"] for row in result.rows] == [9, 17, 25, 33, 41]
    assert all(not seen & set(reserve.flatten().tolist()) for seen in strategy.seen)
    # One of each block, in the order of the blocks.
    assert [int((reserve == index).nonzero()[0, 0]) for index in found] == list(range(8))
    assert [row.get("audit/labels", 0) for row in result.rows] == [0, 2, 4, 6, 8]
    asked = [(number, index) for number, index, score, _ in pool.queries() if score is None]
    assert [number for number, _ in asked] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_no_audit_keeps_nothing_back() -> None:
    result = run(audit=0.0)
    assert result.job.standing.among is None
    assert not any(name.startswith("audit") for row in result.rows for name in row)


@pytest.mark.parametrize("by", ["random", "loss"])
def test_rows_say_what_the_labels_say_of_the_last_model(by: str) -> None:
    result = run(audit_by=by, budget=80, audit=0.5)
    events = [e for e in result.job.pool.events() if e["origin"] == "audit"]
    split = SOURCE.train.part(torch.tensor([e["index"] for e in events]))
    logits = result.job.learner.predict(split, RoundContext(0)).double()
    wrong = (logits.argmax(1) != split.targets).double()
    losses = torch.nn.functional.cross_entropy(logits, split.targets, reduction="none")
    weights = 1 / torch.tensor([e["score"] for e in events]).double()
    assert (weights == 1).all() == (by == "random")
    row = result.rows[-1]
    assert row["audit/labels"] == len(events) == (40 if by == "random" else 14)
    assert row["audit/accuracy"] == pytest.approx(1 - float((weights * wrong).mean()))
    assert row["audit/loss"] == pytest.approx(float((weights * losses).mean()))
    assert 0 <= row["audit/low"] < row["audit/accuracy"] < row["audit/high"] <= 1


def test_shares_of_a_sample_add_up_and_single_queries_can_be_audits() -> None:
    result = run(audit=0.05, budget=60)
    assert [row.get("audit/labels", 0) for row in result.rows] == [0, 0, 1, 1, 2, 2, 3]
    strategy = Seeing()
    result = run(strategy, audit=0.5, query_size=1, budget=6)
    assert strategy.sizes == [1, 1, 1]
    assert len(audits(result)) == 3
    assert "query/score_mean" not in result.rows[1]


def test_reserve_is_drawn_by_the_seed_alone() -> None:
    def reserve(strategy: Strategy, **settings: Any) -> torch.Tensor:
        made = parts(strategy, settings={"audit": 0.2, "budget": 12} | settings)
        return Standing.at_start(made).reserve

    first = reserve(Random())
    assert torch.equal(first, reserve(Margin()))
    assert torch.equal(first, reserve(Random(), budget=100))
    assert not torch.equal(first, reserve(Random(), seed=1))
    assert len(first) == 41  # a fifth of 201 candidates
    assert reserve(Random(), audit_by="loss").shape == (6, BLOCK["loss"])  # of 0.3 of them
    assert len(reserve(Random(), audit_reserve=0.5)) == 101
    few = parts(Random(), settings={"audit": 0.1, "audit_by": "loss", "audit_reserve": 0.04})
    with pytest.raises(ValueError, match=r"among 10 samples, .* raise audit_reserve"):
        Standing.at_start(few)


def test_candidates_are_drawn_beside_the_reserve() -> None:
    strategy = Seeing()
    result = run(strategy, candidates=50, audit=0.5, query_size=4, budget=8)
    assert [len(seen) for seen in strategy.seen] == [50, 48]
    reserve = set(result.job.standing.reserve.flatten().tolist())
    assert len(reserve) == 146
    assert not strategy.seen[0] & reserve


def test_copies_of_the_reserve_are_out_of_reach_too() -> None:
    train = SOURCE.train
    rows = torch.cat([train.rows, train.rows])
    targets = torch.cat([train.targets, train.targets])
    doubled = replace(SOURCE, train=type(train)(train.store, rows, targets, train.prepare))
    strategy = Seeing()
    reserve = run(strategy, source=doubled, budget=10).job.standing.reserve.flatten()
    originals = {index % len(train) for index in reserve.tolist()}
    assert not originals & {index % len(train) for index in strategy.seen[0]}
    assert not originals & set(INITIAL.tolist())


def test_used_up_reserve_is_said_and_the_strategy_takes_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    strategy = Seeing()
    result = run(strategy, audit=0.5, audit_reserve=0.03, budget=40)  # of 291 candidates
    assert len(audits(result)) == 9
    assert strategy.sizes == [5, 6, 10, 10]
    said = [r.message for r in caplog.records if "takes the last of the reserve" in r.message]
    assert len(said) == 1


def test_run_with_audits_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    options: dict[str, Any] = {"audit_by": "loss", "audit": 0.3}
    whole = run(run_dir=tmp_path / "whole", **options)
    run(run_dir=tmp_path / "parts", max_rounds=2, **options)
    again = run(run_dir=tmp_path / "parts", **options)
    assert again.job.pool.events() == whole.job.pool.events()

    def values(result: dal.Result) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k[-2:] != "_s"} for row in result.rows]

    assert values(again) == values(whole)


class Unsure(SimulatedOracle):
    """Cannot tell what samples with even numbers are; keeps what it was asked."""

    def submit(self, query: Query, round_number: int) -> Any:
        self.asked = [*getattr(self, "asked", []), query]
        return super().submit(query, round_number)

    def collect(self, ticket: Any) -> Answers:
        answers = super().collect(ticket)
        return replace(answers, abstained=answers.indices % 2 == 0)


def test_samples_without_an_answer_are_left_out_of_the_estimate() -> None:
    result = run(oracle=Unsure(SOURCE.train.targets), audit=0.5)
    odd = [index for index in audits(result) if index % 2]
    assert 0 < len(odd) < len(audits(result)) == 20
    row, split = result.rows[-1], SOURCE.train.part(torch.tensor(odd))
    right = result.job.learner.predict(split, RoundContext(0)).argmax(1) == split.targets
    assert row["audit/labels"] == len(odd)
    assert row["audit/accuracy"] == pytest.approx(float(right.double().mean()))
    low, high = risk.interval(
        (~right).double(), torch.ones(len(odd)), torch.ones(len(odd), dtype=torch.bool), 1.0
    )
    assert (row["audit/low"], row["audit/high"]) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_people_cannot_tell_audits_from_picks() -> None:
    oracle = Unsure(SOURCE.train.targets)
    result = run(oracle=oracle, audit=0.2, audit_by="loss")
    found, places = audits(result), set()
    for query in oracle.asked:
        assert query.audit is None
        assert query.scores.isnan().all()
        places |= {n for n, index in enumerate(query.indices.tolist()) if index in found}
    assert len(places) > 3  # not always the last ones


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"audit": 1.0}, "audit=1; give a share"),
        ({"audit": -0.1}, "audit=-0.1; give a share"),
        ({"audit_by": "luck"}, "audit_by=luck; give one of random, loss"),
        ({"audit_reserve": 0.0}, "audit_reserve=0; give a share"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        dal.Settings(**settings)
