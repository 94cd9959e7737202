"""Oracles around oracles: what simulated people have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dal.data.source import Source
from dal.oracles.base import Answers, Oracle
from dal.query.base import Query
from dal.utils.seeding import derive


class Wrapped(Oracle):
    """Passes questions on to another oracle, and changes its answers.

    What is drawn for an answer follows from the seed, the person, the sample, and how many answers
    the sample had before: not from the order of the questions, and not from the strategy.

    Args:
        of: The oracle that answers.
        seed: Decides the draws.
    """

    def __init__(self, of: Oracle, seed: int = 0) -> None:
        self.of, self.seed, self.name = of, seed, of.name
        self.wants_probs, self.enough = of.wants_probs, of.enough
        self.answers_per_sample = of.answers_per_sample

    @abstractmethod
    def change(self, answers: Answers, draws: Draws) -> Answers:
        """The answers as this oracle gives them."""

    def open(self, source: Source) -> None:
        """Pass on."""
        self.of.open(source)

    def why_not_made(self) -> str:
        """Pass on."""
        return self.of.why_not_made()

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Pass on; the ticket holds how many answers the samples had before."""
        return self.of.submit(query, round_number) | {"before": before(query)}

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers so far, changed."""
        return self._changed(self.of.collect(ticket), ticket)

    def revisit(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers to an earlier ticket, changed in the same way."""
        return self._changed(self.of.revisit(ticket), ticket)

    def _changed(self, answers: Answers | None, ticket: Mapping[str, Any]) -> Answers | None:
        if answers is None:
            return None
        names = answers.annotators or [self.name] * len(answers.indices)
        times = dict(ticket["before"])
        keys = [
            (name, index, times.get(index, 0))
            for name, index in zip(names, answers.indices.tolist(), strict=True)
        ]
        return self.change(answers, Draws(self.seed, type(self).__name__, keys))

    def wait(self, ticket: dict[str, Any], seconds: float) -> bool:
        """Pass on."""
        return self.of.wait(ticket, seconds)

    def tell(self, news: Mapping[str, Any]) -> None:
        """Pass on."""
        self.of.tell(news)

    def close(self) -> None:
        """Pass on."""
        self.of.close()


class Draws:
    """Random numbers for some answers, each of them a function of its answer alone.

    Args:
        seed: The run's.
        purpose: Whose draws they are.
        keys: Of each answer who gives it, on which sample, and how many it had before.
    """

    def __init__(self, seed: int, purpose: str, keys: Sequence[tuple[str, int, int]]) -> None:
        self.seed, self.purpose, self.keys = seed, purpose, keys

    def uniform(self, what: str) -> Tensor:
        """float64, (b,), in [0, 1): one number an answer."""
        return self._uniform((what, *key) for key in self.keys)

    def of_samples(self, what: str) -> Tensor:
        """float64, (b,), in [0, 1): one number a sample, the same for whoever is asked."""
        return self._uniform((what, sample) for _, sample, _ in self.keys)

    def _uniform(self, keys: Any) -> Tensor:
        drawn = [derive(self.seed, self.purpose, *key) / 2**63 for key in keys]
        return torch.tensor(drawn, dtype=torch.float64).clamp(max=1 - 2**-53)


def before(query: Query) -> list[list[int]]:
    """Pairs of a sample of a query and the answers that it had before, as plain values."""
    counts = torch.zeros_like(query.indices) if query.before is None else query.before
    return torch.stack([query.indices, counts], 1).tolist()


def name_person(oracle: Oracle, name: str) -> None:
    """Have an oracle answer under a name, and those that it wraps."""
    oracle.name = name
    if isinstance(oracle, Wrapped):
        name_person(oracle.of, name)


def part_of(query: Query, places: Tensor) -> Query:
    """Some samples of a query: int64 (m,), places among its samples."""
    rows = {
        field: value[places]
        for field in ("indices", "scores", "probs", "before")
        if (value := getattr(query, field)) is not None
    }
    return replace(query, **rows)
