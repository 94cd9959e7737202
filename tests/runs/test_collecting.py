"""Answers as people give them: in part, late, changed, by several; and who waits for them."""

from __future__ import annotations

import csv
import json
import logging
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_job import answer_partly, dataset, run_partly, run_partly_and_die
from run_parts import SOURCE
from scripted_people import TRUE, People
from test_resume import assert_same, finish

import dal
from dal.data import make_source
from dal.data.initial import ColdStart
from dal.data.source import UNKNOWN
from dal.models import MLP
from dal.oracles import FilesOracle, Oracle, SimulatedOracle
from dal.pool import REJECTED
from dal.query import Margin, PoolView, Query, Strategy
from dal.training.trainer import Trainer
from dal.utils.safe_files import csv_text
from dal.utils.signals import PreemptedError

INITIAL = torch.arange(9)


def run(
    oracle: Oracle,
    run_dir: Path | None = None,
    strategy: Strategy | None = None,
    budget: int = 12,
    source: Any = SOURCE,
    initial: Any = INITIAL,
    earlier: tuple[Oracle, ...] = (),
    **settings: Any,
) -> dal.Result:
    return dal.run(
        source,
        MLP,
        strategy or Margin(),
        initial=initial,
        trainer=Trainer(epochs=1),
        oracle=oracle,
        earlier=earlier,
        settings=dal.Settings(
            query_size=4, budget=budget, batch_size=64, figures=False, threads=1, **settings
        ),
        run_dir=run_dir,
    )


def events(result: dal.Result, first: int = 9) -> list[tuple[int, int, int, str]]:
    """Round, sample, target and annotator of the answers."""
    found = result.job.pool.events(first)
    return [(e["round"], e["index"], e["target"], e["annotator"]) for e in found]


def test_an_oracle_is_waited_for_in_the_process_told_and_closed() -> None:
    people = People(patience=100)

    def later(number: int) -> None:
        if people.waited % 2 == 0:
            people.say(number, slice(len(people.said[number]) + 2))

    people.at_wait = later
    result = run(people)
    assert (result.status, result.reason) == ("complete", "budget")
    assert (people.opened, people.closed) == (1, 1)
    assert people.waited == 3 * 4
    assert [e[:2] for e in events(result)] == [(r, i) for r in range(3) for i in people.asked[r]]
    assert result.job.pool.spent("minutes") == pytest.approx(12 * 2 / 60)
    told = [sorted(set(news) - {"values"}) for news in people.news]
    assert told[:2] == [["epoch", "round"], ["round", "row"]]
    assert people.news[-1] == {"round": 3, "status": "complete", "reason": "budget"}
    rows = [news["row"] for news in people.news if "row" in news]
    assert [row["labels"] for row in rows] == [9, 13, 17, 21]


def test_a_round_goes_on_with_enough_answers_and_the_others_come_late() -> None:
    people = People(enough=0.5, patience=3)
    people.at_wait = lambda number: people.say(number, slice(2))
    result = run(people)
    # Six answers are missing of twelve: the budget is spent, and the run waits for them.
    assert result.status == "waiting"
    assert [row["query/open"] for row in result.rows[:3]] == [
        people.asked[number][2:] for number in range(3)
    ]
    assert len({index for asked in people.asked.values() for index in asked}) == 12
    assert [row["trained_on"] for row in result.rows] == [9, 11, 13, 15]


def test_late_answers_are_learned_from_in_the_next_round_and_a_last_time(tmp_path: Path) -> None:
    people = People(enough=0.5)
    for number in range(3):
        assert run(people, tmp_path).status == "waiting"
        people.say(number, slice(3 if number else 2))
        if number == 1:
            people.say(0)
    result = run(people, tmp_path)
    assert (result.status, result.job.state.round) == ("waiting", 3)
    people.say(1)
    assert run(people, tmp_path).status == "waiting"
    people.say(2)
    result = run(people, tmp_path)
    assert result.status == "complete"
    asked = people.asked
    assert [e[:2] for e in events(result)] == [
        *((0, i) for i in asked[0][:2]),
        *((1, i) for i in asked[1][:3]),
        *((1, i) for i in asked[0][2:]),
        *((2, i) for i in asked[2][:3]),
        (3, asked[1][3]),
        (3, asked[2][3]),
    ]
    assert [row["trained_on"] for row in result.rows] == [9, 11, 16, 19, 21]
    assert [row["labels"] for row in result.rows] == [9, 11, 16, 19, 21]
    scores = [event["score"] for event in result.job.pool.events(9)]
    assert None not in scores
    again = run(people, tmp_path)
    assert again.job.pool.events() == result.job.pool.events()
    assert [row["labels"] for row in again.rows] == [row["labels"] for row in result.rows]


def test_a_changed_answer_supersedes_is_not_paid_again_and_is_learned_from(tmp_path: Path) -> None:
    people = People()
    run(people, tmp_path)
    people.say(0, by=1)
    run(people, tmp_path)
    people.say(0, slice(2))
    people.said[0][people.asked[0][2], "eva"] = -1
    people.say(1)
    run(people, tmp_path)
    people.say(2)
    result = run(people, tmp_path)
    assert (result.status, result.job.pool.num_queried) == ("complete", 12)
    assert result.rows[-1]["labels"] == 9 + 12
    assert result.rows[-1]["cost"] == 9 + 12
    changed = result.job.pool.events(9 + 8)[:3]
    assert [e["round"] for e in changed] == [1, 1, 1]
    assert [e["supersedes"] for e in changed] == [9, 10, 11]
    assert [e["cost"] for e in changed] == [0, 0, 0]
    assert [e["seconds"] for e in changed] == [None, None, None]  # told before
    train_set = result.job.pool.train_set()
    found = dict(zip(train_set.indices.tolist(), train_set.targets.tolist(), strict=True))
    one, two, three, four = people.asked[0]
    assert (found[one], found[two]) == (int(TRUE[one]), int(TRUE[two]))
    assert three not in found
    assert found[four] == (int(TRUE[four]) + 1) % 3
    # One more after the run had ended: it learns from that once more.
    people.say(1, by=1)
    after = run(people, tmp_path)
    assert (after.status, len(after.rows)) == ("complete", len(result.rows) + 1)
    assert len(run(people, tmp_path).rows) == len(after.rows)


def test_several_people_answer_each_sample_and_each_answer_is_counted(tmp_path: Path) -> None:
    people = People(per_sample=2)
    run(people, tmp_path)
    people.say(0)
    assert run(people, tmp_path).status == "waiting"
    people.say(0, name="max", by=1)
    people.say(0, slice(1), name="tom", by=1)
    result = run(people, tmp_path)
    pool = result.job.pool
    assert pool.num_queried == 9
    assert {e[3] for e in events(result)} == {"eva", "max", "tom"}
    train_set = pool.train_set()
    found = dict(zip(train_set.indices.tolist(), train_set.targets.tolist(), strict=True))
    first = people.asked[0][0]
    assert found[first] == (int(TRUE[first]) + 1) % 3
    # Three of twelve labels are left: one sample for two people.
    assert len(people.asked[1]) == 1
    people.say(1)
    people.say(1, name="max")
    result = run(people, tmp_path)
    assert (result.status, result.reason, result.job.pool.num_queried) == ("complete", "budget", 11)


@pytest.mark.parametrize(("unit", "budget", "rounds"), [("cost", 6, 2), ("minutes", 1, 2)])
def test_a_budget_in_cost_or_minutes(unit: str, budget: int, rounds: int) -> None:
    people = People(patience=100)
    people.cost, people.seconds = 1.2, 12.0
    people.at_wait = people.say
    result = run(people, budget=budget, budget_in=unit)
    assert result.reason == "budget"
    # Four cost 4.8 of 6, or take 48 s of 60: what is left affords one more.
    assert [len(asked) for asked in people.asked.values()] == [4, 1]
    assert len(people.asked) == rounds


def test_budgets_that_nothing_can_spend_are_refused() -> None:
    with pytest.raises(ValueError, match="budget_in=hours; give one of labels, cost, minutes"):
        dal.Settings(budget_in="hours")
    settings = dal.Settings(query_size=4, budget=1, budget_in="minutes", max_rounds=1)
    with pytest.raises(ValueError, match=r"budget_in=minutes.*give oracle=costly and oracle.sec"):
        dal.run(SOURCE, MLP, Margin(), initial=INITIAL, settings=settings)


@pytest.mark.parametrize(
    ("unit", "fact"), [("minutes", "says how many seconds it took"), ("cost", "cost anything")]
)
def test_a_budget_that_answers_do_not_spend_is_told(
    unit: str, fact: str, caplog: pytest.LogCaptureFixture
) -> None:
    people = People(patience=9)
    people.cost, people.seconds = 0.0, math.nan
    people.at_wait = people.say
    run(people, budget=1, budget_in=unit, max_rounds=1)
    assert f"no answer {fact}: budget_in={unit} ends nothing so far" in caplog.text


def test_samples_of_none_of_the_classes_are_answered_and_not_learned_from(tmp_path: Path) -> None:
    people = People()
    run(people, tmp_path)
    people.say(0)
    junk = people.asked[0][1]
    people.said[0][junk, "eva"] = REJECTED
    result = run(people, tmp_path)
    assert result.job.pool.rejected_idx.tolist() == [junk]
    assert (result.rows[-1]["trained_on"], result.rows[-1]["rejected"]) == (12, 1)
    assert result.rows[0]["query/wasted"] == 1
    with (tmp_path / "queries.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)][1] == "-"


@pytest.mark.parametrize(("target", "message"), [(3, "target 3"), (-3, "target -3")])
def test_answers_of_no_class_are_refused(target: int, message: str) -> None:
    people = People(patience=9)
    people.at_wait = lambda number: people.said[number].update(
        {(people.asked[number][0], "eva"): target}
    )
    with pytest.raises(ValueError, match=message):
        run(people)
    assert people.closed == 1
    assert people.news[-1]["status"] == "failed"
    assert message in people.news[-1]["reason"]


class Twice(Margin):
    """Asks about two candidates, and once more about two samples that have a label."""

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        query = super().select(view, query_size, rng)
        again = torch.tensor([0, 1])
        return replace(
            query, indices=query.indices[:-2], scores=query.scores[:-2], again=again
        )  # fmt: skip


def test_labeled_samples_are_asked_again_and_the_later_question_counts(tmp_path: Path) -> None:
    people = People()
    run(people, tmp_path, Twice())
    assert people.asked[0][-2:] == [0, 1]
    people.say(0, by=1)
    run(people, tmp_path, Twice())
    assert people.asked[1][-2:] == [0, 1]
    people.say(1)
    result = run(people, tmp_path, Twice())
    assert [row["query/size"] for row in result.rows[:2]] == [4, 4]
    assert [row["query/again"] for row in result.rows[:2]] == [2, 2]
    assert result.job.pool.num_queried == 8
    # Both were answered by eva, in two rounds: what she said first does not come back.
    assert [e for e in events(result) if e[1] == 0] == [
        (0, 0, (int(TRUE[0]) + 1) % 3, "eva"),
        (1, 0, int(TRUE[0]), "eva"),
    ]
    assert [e["score"] for e in result.job.pool.events(9) if e["index"] < 2] == [None] * 4
    people.said[1][0, "eva"] = (int(TRUE[0]) + 2) % 3
    people.say(2)
    found = [e[:3] for e in events(run(people, tmp_path, Twice())) if e[1] == 0]
    assert found[2:] == [(2, 0, int(TRUE[0]))]


def test_a_second_question_may_stay_open(tmp_path: Path) -> None:
    people = People(enough=0.5)
    run(people, tmp_path, Twice())
    people.say(0, slice(2))
    assert "query/open" not in run(people, tmp_path, Twice()).rows[0]


def test_a_run_that_waits_for_nobody_keeps_no_question(tmp_path: Path) -> None:
    run(SimulatedOracle(TRUE), tmp_path)
    assert not (tmp_path / "question.pt").exists()


def test_only_labeled_samples_are_asked_again() -> None:
    class Wrong(Twice):
        def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
            query = super().select(view, query_size, rng)
            return replace(query, again=view.indices[:2])

    with pytest.raises(ValueError, match="Wrong must ask again about distinct samples that have"):
        run(People(), strategy=Wrong())


def test_questions_before_the_first_round_are_answered_in_part_and_late(tmp_path: Path) -> None:
    data = dataset()
    source = make_source(replace(data, targets=torch.full((300,), UNKNOWN)), seed=0, kind="none")
    initial = ColdStart(torch.arange(6))
    people = People(enough=0.5)
    ask = {"source": source, "initial": initial}
    assert run(people, tmp_path, **ask).status == "waiting"
    people.said[-1] = {(index, "eva"): index % 3 for index in (0, 1, 2)}
    result = run(people, tmp_path, **ask)
    assert result.job.state.round == 0
    assert result.rows[0]["labels"] == 3
    assert set(people.asked[0]).isdisjoint(range(6))
    people.said[-1] |= {(index, "eva"): index % 3 for index in (3, 4, 5)}
    people.said[0] = {(index, "eva"): index % 3 for index in people.asked[0]}
    result = run(people, tmp_path, **ask)
    late = result.job.pool.events()[-3:]
    assert [(e["round"], e["index"], e["origin"]) for e in late] == [
        (0, index, "initial") for index in (3, 4, 5)
    ]
    assert result.rows[-1]["labels"] == 10
    assert result.rows[-1]["queried"] == 4
    people.said[1] = {(index, "eva"): index % 3 for index in people.asked[1]}
    people.said[-1] |= {(0, "eva"): 1}
    assert run(people, tmp_path, **ask).rows[-1]["queried"] == 8


class Other(People):
    """Other people, asked in another way."""

    name = "other"


def test_another_oracle_goes_on_with_what_the_one_before_was_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = People(), Other()
    run(first, tmp_path)
    first.say(0, slice(1))
    with pytest.raises(ValueError, match=r"round 0 are missing, .* is with oracle=people now"):
        run(second, tmp_path)
    for _ in range(2):  # again: nothing is doubled
        with caplog.at_level(logging.INFO):
            assert run(second, tmp_path, earlier=(first,)).status == "waiting"
    assert "round 0 asks 3 samples that oracle=people has no answer for" in caplog.text
    assert second.asked[0] == first.asked[0][1:]
    first.say(0, slice(2))  # late, in the old place
    second.said[0] = {(index, "max"): int(TRUE[index]) for index in second.asked[0]}
    result = run(second, tmp_path, earlier=(first,))
    assert [(e[1], e[3]) for e in events(result)] == [
        (first.asked[0][0], "eva"),
        *((index, "max") for index in second.asked[0]),
        (first.asked[0][1], "eva"),
    ]
    assert (first.closed, second.closed) == (4, 4)
    first.say(0, slice(2, 3))
    second.said[1] = {(index, "max"): int(TRUE[index]) for index in second.asked[1]}
    assert events(run(second, tmp_path, earlier=(first,)))[-1][1:2] == (first.asked[0][2],)


def test_a_share_that_is_none_is_refused() -> None:
    for enough in (0.0, 1.5):
        people = People(enough=enough)
        with pytest.raises(ValueError, match=f"oracle.enough={enough:g}; give a share"):
            run(people)


def test_questions_asked_before_there_were_partial_answers_go_on(tmp_path: Path) -> None:
    from dal.checkpoint import Checkpoints

    people = People()
    run(people, tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    content = checkpoints.read(lambda found: found, lambda found: found)
    state = content["state"]
    for name in ("tickets", "stopping"):
        del state[name]
    kept = ("indices", "scores", "pool_scores", "guesses", "ticket")
    state["pending"] = {name: state["pending"][name] for name in kept}
    checkpoints.save(content)
    people.say(0)
    result = run(people, tmp_path)
    assert [e[:2] for e in events(result)] == [(0, index) for index in people.asked[0]]


def written(folder: Path, name: str, label: Callable[[int], str]) -> None:
    """Fill in, or change, labels of a file."""
    path = folder / "queries" / name
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = label(int(row["index"])) or row["label"]
    path.write_text(csv_text([list(rows[0]), *[list(row.values()) for row in rows]]))


def test_files_late_changed_and_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def files() -> FilesOracle:
        return FilesOracle(tmp_path / "queries", ("a", "b", "c"), enough=0.5)

    run(files(), tmp_path)
    written(tmp_path, "round_0000.csv", lambda index: "" if index % 2 else "a")
    result = run(files(), tmp_path)
    answered = len(events(result))
    if result.job.state.round == 0:  # too few were even
        written(tmp_path, "round_0000.csv", lambda index: "b")
        result = run(files(), tmp_path)
    written(tmp_path, "round_0000.csv", lambda index: "c")
    written(tmp_path, "round_0001.csv", lambda index: "a")
    result = run(files(), tmp_path)
    latest = {index: target for _, index, target, _ in events(result)}
    assert sorted(latest.values()) == [0] * 4 + [2] * 4
    assert result.job.pool.num_queried == 8
    (tmp_path / "queries" / "round_0000.csv").unlink()
    (tmp_path / "queries" / "round_0001.csv").write_text("damaged")
    written(tmp_path, "round_0002.csv", lambda index: "b")
    result = run(files(), tmp_path)
    assert result.status == "complete"
    assert caplog.text.count("what it said before stands") == 2 + 2 * (answered > 99)
    assert not (tmp_path / "queries" / "round_0000.csv").exists()


def killed_and_whole(tmp_path: Path, seeds: range) -> int:
    """A run killed at random events, and the same run in one go: how often the first was killed."""
    whole, killed, deaths = tmp_path / "whole", tmp_path / "killed", 0
    for _ in range(20):
        if run_partly(whole).status != "waiting":
            break
        assert answer_partly(whole)
    for seed in seeds:
        code = finish(run_partly_and_die, killed, seed)
        assert code in (0, -signal.SIGKILL)
        deaths += code != 0
        if code == 0 and not answer_partly(killed):
            break
    assert_same(killed, whole)
    ledgers = [(folder / "ledger.jsonl").read_text() for folder in (killed, whole)]
    assert ledgers[0] == ledgers[1]
    events = [json.loads(line) for line in ledgers[0].splitlines()[1:]]
    answers = [event for event in events if event["origin"] == "oracle"]
    assert len({event["index"] for event in answers}) == 12
    assert sum(event["supersedes"] is not None for event in answers) == 3
    assert sum(event["cost"] for event in answers) == 12
    return deaths


def test_a_run_killed_among_late_and_changed_answers_has_the_same_ledger(tmp_path: Path) -> None:
    assert killed_and_whole(tmp_path, range(200)) >= 3


@pytest.mark.slow
def test_fifty_kills_lose_and_double_no_answer(tmp_path: Path) -> None:
    deaths = 0
    for number in range(12):
        deaths += killed_and_whole(
            tmp_path / str(number), range(1000 * number, 1000 * number + 200)
        )
    assert deaths >= 50


def test_a_signal_ends_the_wait_and_no_answer_is_lost(tmp_path: Path) -> None:
    people = People(patience=100)

    def interrupted(number: int) -> None:
        people.say(number, slice(2))
        signal.raise_signal(signal.SIGTERM)

    people.at_wait = interrupted
    with pytest.raises(PreemptedError):
        run(people, tmp_path)
    assert (people.waited, people.closed) == (1, 1)
    assert people.news[-1]["status"] == "preempted"
    people.at_wait = people.say
    result = run(people, tmp_path)
    assert result.status == "complete"
    assert [e[1] for e in events(result)][:4] == people.asked[0]
