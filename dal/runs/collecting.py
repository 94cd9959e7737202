"""Questions sent to an oracle, and how their answers become labels, as they come.

A question is a query that was submitted, in plain values: it stands in `State.pending` while its
round waits for answers, then among `State.tickets`, since answers may come late and may change.

- ``round``: in which it was asked; -1, -2, ... before the first.
- ``name``: of the oracle that was asked; ``ticket``: what that gave.
- ``indices``, ``scores``: the samples, and by which score each was picked, NaN for none.
- ``audit``, ``again``: those of them that are measured by, and those that had an answer before.
- ``since``: the length of the ledger when it was asked: later events are what is known of it.
- ``per_sample``: how many annotators each sample was meant for; of those again, one more.
- ``open``: how many answers are missing, by sample.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

from dal.data.source import Source
from dal.events import NONE, Origin
from dal.oracles import Answers, Oracle
from dal.oracles.base import check_answers
from dal.pool import is_rejected
from dal.query import PoolView, Probs, Query
from dal.runs.fitting import context_of
from dal.runs.job import Job
from dal.utils.clock import clock
from dal.utils.ranks import current
from dal.utils.signals import PreemptedError

log = logging.getLogger(__name__)

LATE = 2**62
"""Later than any event."""
TURN = 1.0
"""Seconds that an oracle waits at a time: signals, and other processes, wait no longer."""


@contextmanager
def opened(oracles: Sequence[Oracle], source: Source) -> Iterator[None]:
    """A block in which oracles have the data; they are closed after it in any case.

    The main process alone talks to people. It tells the first oracle how the block failed.

    Raises:
        ValueError: The data cannot be shown as an oracle was told to.
    """
    ranks = current()

    def open_all() -> None:
        for oracle in oracles:
            if not 0 < oracle.enough <= 1:
                raise ValueError(f"oracle.enough={oracle.enough:g}; give a share, above 0 up to 1")
            stack.callback(oracle.close)
            oracle.open(source)

    with ExitStack() as stack:
        ranks.broadcast(open_all)
        try:
            yield
        except BaseException as error:
            if ranks.is_main:
                kind = "preempted" if isinstance(error, PreemptedError) else "failed"
                oracles[0].tell({"status": kind, "reason": str(error)})
            raise


def check_questions(job: Job) -> None:
    """Refuse to go on without the oracle whose answers the run waits for.

    Raises:
        ValueError: Naming it.
    """
    if (pending := job.state.pending) is not None and "since" not in pending:
        _complete(job, pending)
    for entry in _questions(job):
        if _oracle_of(job, entry) is not None:
            continue
        name = entry["name"]
        if entry is job.state.pending or entry["open"]:
            raise ValueError(
                f"answers of round {entry['round']} are missing, and its question is with "
                f"oracle={name} now; go on with that, not with oracle={job.oracle.name}"
            )
        log.warning(
            "the question of round %d is with oracle=%s: changes of its answers are not seen",
            entry["round"],
            name,
        )


def shown(job: Job, query: Query, view: PoolView | None = None) -> Query:
    """The query with the model's probabilities, where they are at hand or shown to people.

    They come from the pass where it computed them, else from a prediction of the picks: neither
    draws anything, nor changes what the run computes.
    """
    within = view is not None and query.again is None and query.audit is None
    probs = view.rows(Probs(), query.indices) if view is not None and within else None
    if probs is None and (job.oracle.wants_probs or Probs() in job.parts.strategy.needs):
        logits = job.learner.predict(job.source.train.part(query.indices), context_of(job))
        probs = job.task.probs(logits)
    return query if probs is None else replace(query, probs=probs.float().cpu())


def ask(job: Job, query: Query, number: int, guesses: Sequence[Any] = ()) -> dict[str, Any]:
    """Send a query to the oracle: the question, with nothing answered.

    Args:
        job: The run.
        query: Whose ``indices`` are all samples that are asked about.
        number: The round, or a negative number before the first.
        guesses: What the model thinks they are, see `dal.task.Task.guess`.
    """
    query = replace(query, before=job.pool.num_answers(query.indices))
    told = query
    if query.audit is not None:  # by their scores people could tell them apart
        told = replace(query, audit=None, scores=torch.full_like(query.scores, math.nan))
    with clock(job.state.row, "oracle_s"):
        ticket = current().broadcast(lambda: job.oracle.submit(told, number))
    indices, per_sample = query.indices.tolist(), job.oracle.answers_per_sample
    again = [] if query.again is None else query.again.tolist()
    return {
        "round": number,
        "name": job.oracle.name,
        "ticket": ticket,
        "indices": indices,
        "scores": query.scores.tolist(),
        "audit": [] if query.audit is None else query.audit.tolist(),
        "again": again,
        "since": job.pool.num_events,
        "per_sample": per_sample,
        "open": dict.fromkeys(indices, per_sample) | dict.fromkeys(again, 1),
        "guesses": list(guesses),
    }


def collect(job: Job) -> bool:
    """Enter the answers to the open question once there are enough; False while there are not.

    An oracle that waits in the process is waited for. Where another one than this run's was asked,
    what that holds is entered, and the rest is asked anew.

    Raises:
        PreemptedError: A signal came; what was answered is with the oracle.
    """
    state, entry = job.state, job.state.pending
    assert entry is not None
    if entry["name"] != job.oracle.name:
        before = _oracle_of(job, entry)
        assert before is not None
        answers = current().broadcast(
            lambda: _checked(job, before, before.collect(entry["ticket"]), entry)
        )
        if answers is not None:
            enter(job, entry, answers, _round_of(job, entry))
        if not _enough(job, entry, entry["open"]):
            _hand_over(job, entry)
    kept = False
    while not _enough(job, entry, entry["open"]):
        if (answers := current().broadcast(lambda: _collected(job, entry))) is not None:
            enter(job, entry, answers, _round_of(job, entry))
            break
        if not kept:
            job.keeper.keep_question(state)
        kept = True
        if not _waited(job, entry):
            return False
    return True


def revisit(job: Job) -> None:
    """Enter what came late, and what was changed, of the answers to earlier questions."""
    kept = []
    for entry in job.state.tickets:
        if (oracle := _oracle_of(job, entry)) is not None:
            answers = _look(job, oracle, entry)
            if answers is None:
                continue
            enter(job, entry, answers, job.state.round)
        kept.append(entry)
    job.state.tickets = kept


def await_open(job: Job) -> bool:
    """Wait for the answers that are still missing; False where nobody waits in the process.

    Raises:
        PreemptedError: A signal came; what was answered is with the oracle.
    """
    while missing := [entry for entry in job.state.tickets if entry["open"]]:
        if not _waited(job, missing[-1]):
            return False
        revisit(job)
    return True


def enter(job: Job, entry: dict[str, Any], answers: Answers, round_number: int) -> None:
    """Write the answers to a question into the ledger that it does not know yet.

    Another annotator's answer is another event. So is a changed one; it supersedes the one before,
    and is not paid for again. Of a sample that was asked about again, the later question counts.

    Args:
        job: The run.
        entry: The question, whose ``open`` is brought up to date.
        answers: Checked.
        round_number: In which the answers are entered: rounds behind it learn from them.
    """
    names = answers.annotators or [entry["name"]] * len(answers.indices)
    keys = list(zip(answers.indices.tolist(), names, strict=True))
    later, known = _asked_anew(job, entry), job.pool.answers_about
    before = torch.tensor([known(index).get(name, NONE) for index, name in keys]).long()
    fixed = before >= torch.tensor([later.get(index, LATE) for index, _ in keys]).long()
    targets_before, seconds_before = job.pool.said(before)
    targets = answers.targets.clone()
    targets[answers.abstained] = NONE
    changed = (targets_before != targets).unsqueeze(1).flatten(1).any(1)
    first = before < entry["since"]
    new = first | (changed & ~fixed)
    seconds = torch.full((len(keys),), math.nan) if answers.seconds is None else answers.seconds
    seconds = seconds.masked_fill(~first & (seconds == seconds_before), math.nan)
    score_of = dict(zip(entry["indices"], entry["scores"], strict=True))
    audited = torch.isin(answers.indices, torch.tensor(entry["audit"]).long())
    usual: Origin = "initial" if entry["round"] < 0 else "oracle"
    made = answers.indices >= job.pool.num_total
    kinds: tuple[tuple[Origin, torch.Tensor], ...] = (
        (usual, new & ~audited & ~made),
        ("audit", new & audited),
        (job.setting.origin, new & made),
    )
    for origin, mine in kinds:
        if not mine.any():
            continue
        places = mine.nonzero().squeeze(1)
        indices = answers.indices[places]
        scores = [score_of[index] for index in indices.tolist()]
        job.pool.label(
            round_number,
            indices,
            answers.targets[places],
            origin=origin,
            again=None,
            abstained=answers.abstained[places],
            cost=answers.cost.masked_fill(~first, 0)[places],
            score=torch.tensor(scores, dtype=torch.float64),
            seconds=seconds[places],
            annotator=[names[place] for place in places.tolist()],
        )
    entry["open"] = _missing(job, entry)


def as_earlier(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A question as it is kept behind its round: without what only its round shows."""
    return {k: v for k, v in entry.items() if k not in ("guesses", "pool_scores")} | changes


def _questions(job: Job) -> list[dict[str, Any]]:
    """All that were asked and may get answers, in the order of asking."""
    pending = job.state.pending
    return [*job.state.tickets, *([] if pending is None else [pending])]


def _complete(job: Job, entry: dict[str, Any]) -> None:
    """Add what a question lacks that was asked before there were partial answers."""
    indices, per_sample = entry["indices"], job.oracle.answers_per_sample
    usual = {"round": job.state.round, "name": job.oracle.name, "audit": [], "again": []}
    usual |= {"since": job.pool.num_events, "scores": [math.nan] * len(indices), "guesses": []}
    usual |= {"per_sample": per_sample, "open": dict.fromkeys(indices, per_sample)}
    entry |= usual | entry


def _oracle_of(job: Job, entry: dict[str, Any]) -> Oracle | None:
    """Who was asked a question, where that oracle is at hand."""
    found = [o for o in (job.oracle, *job.earlier) if o.name == entry["name"]]
    return found[0] if found else None


def _round_of(job: Job, entry: dict[str, Any]) -> int:
    """In which round the answers to the open question are entered."""
    return int(entry["round"]) if entry["round"] < 0 else job.state.round


def _collected(job: Job, entry: dict[str, Any]) -> Answers | None:
    """The answers to the open question, if there are enough."""
    with clock(job.state.row, "oracle_s"):
        answers = _checked(job, job.oracle, job.oracle.collect(entry["ticket"]), entry)
    enough = answers is not None and _enough(job, entry, _missing(job, entry, answers))
    return answers if enough else None


def _waited(job: Job, entry: dict[str, Any]) -> bool:
    """Wait for a moment, all processes together; False where nobody waits in the process.

    Raises:
        PreemptedError: A signal came.
    """
    oracle = _oracle_of(job, entry) or job.oracle
    goes_on = current().broadcast(lambda: oracle.wait(entry["ticket"], TURN))
    if goes_on and job.interrupts.pending:
        job.interrupts.check()
    return goes_on


def _look(job: Job, oracle: Oracle, entry: dict[str, Any]) -> Answers | None:
    """The answers to an earlier question as they stand."""
    with clock(job.state.row, "oracle_s"):
        return current().broadcast(
            lambda: _checked(job, oracle, oracle.revisit(entry["ticket"]), entry)
        )


def _checked(
    job: Job, oracle: Oracle, answers: Answers | None, entry: dict[str, Any]
) -> Answers | None:
    """Answers of which every one is about a sample asked, and a target of the task."""
    if answers is None:
        return None
    check_answers(answers, entry["indices"], type(oracle).__name__)
    told = answers.targets[~answers.abstained]
    job.task.check_targets(told[~is_rejected(told)] if job.task.exclusive else told)
    return answers


def _enough(job: Job, entry: dict[str, Any], missing: dict[int, int]) -> bool:
    """Whether so many samples have all their answers that the run may go on."""
    asked = len(entry["indices"])
    return asked - len(missing) >= max(1, math.ceil(job.oracle.enough * asked - 1e-9))


def _missing(job: Job, entry: dict[str, Any], answers: Answers | None = None) -> dict[int, int]:
    """How many answers each sample lacks that lacks some, in the ledger and among some more."""
    who = {
        index: {n for n, e in job.pool.answers_about(index).items() if e >= entry["since"]}
        for index in entry["indices"]
    }
    if answers is not None:
        names = answers.annotators or [entry["name"]] * len(answers.indices)
        for index, name in zip(answers.indices.tolist(), names, strict=True):
            who[index].add(name)
    wanted = dict.fromkeys(who, entry["per_sample"]) | dict.fromkeys(entry["again"], 1)
    return {n: wanted[n] - len(names) for n, names in who.items() if len(names) < wanted[n]}


def _asked_anew(job: Job, entry: dict[str, Any]) -> dict[int, int]:
    """From which event on samples of a question belong to a later one, which asked them again."""
    asked = _questions(job)
    later = asked[next(n for n, other in enumerate(asked) if other is entry) + 1 :]
    return {index: other["since"] for other in reversed(later) for index in other["again"]}


def _hand_over(job: Job, entry: dict[str, Any]) -> None:
    """Ask this run's oracle what another one has not been answered."""
    state, before = job.state, entry["name"]
    left = [place for place, index in enumerate(entry["indices"]) if index in entry["open"]]
    indices, scores = torch.tensor(entry["indices"])[left], torch.tensor(entry["scores"])[left]
    query = Query(indices, scores)
    query = shown(job, query) if state.fitted else query
    log.info(
        "round %d asks %d samples that oracle=%s has no answer for through oracle=%s",
        entry["round"], len(left), before, job.oracle.name,
    )  # fmt: skip
    asked = ask(job, query, entry["round"])
    state.tickets.append(as_earlier(entry, open={}))
    entry |= {name: asked[name] for name in ("name", "ticket", "per_sample")}
    entry["open"] = _missing(job, entry)
    job.commit(state.next)
