"""People whose answers a test says, and when they give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from run_parts import SOURCE

from dal.oracles import Answers, Oracle
from dal.query import Query

TRUE = SOURCE.train.targets


class People(Oracle):
    """People made of a function: what they said until now, by question, sample and name."""

    name = "people"

    def __init__(self, patience: int = 0, enough: float = 1.0, per_sample: int = 1) -> None:
        self.enough, self.answers_per_sample = enough, per_sample
        self.patience = patience
        self.said: dict[int, dict[tuple[int, str], int]] = {}
        self.seconds, self.cost = 2.0, 1.0
        self.asked: dict[int, list[int]] = {}
        self.news: list[dict[str, Any]] = []
        self.opened = self.closed = self.waited = 0
        self.at_wait: Callable[[int], None] = lambda number: None

    def open(self, source: Any) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        self.asked[round_number] = query.indices.tolist()
        self.said.setdefault(round_number, {})
        return {"number": round_number}

    def say(self, number: int, places: slice = slice(None), name: str = "eva", by: int = 0) -> None:
        """Answer some of a question, by the true class or another one."""
        for index in self.asked[number][places]:
            self.said[number][index, name] = (int(TRUE[index]) + by) % 3

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        said = self.said[ticket["number"]]
        if not said:
            return None
        targets = torch.tensor(list(said.values()))
        return Answers(
            torch.tensor([index for index, _ in said]),
            targets,
            targets == -1,
            torch.full((len(said),), self.cost),
            torch.full((len(said),), self.seconds, dtype=torch.float64),
            [name for _, name in said],
        )

    def revisit(self, ticket: dict[str, Any]) -> Answers | None:
        return self.collect(ticket)

    def wait(self, ticket: dict[str, Any], seconds: float) -> bool:
        assert 0 < seconds <= 2
        self.waited += 1
        self.at_wait(ticket["number"])
        return self.waited <= self.patience

    def tell(self, news: Mapping[str, Any]) -> None:
        self.news.append(dict(news))
