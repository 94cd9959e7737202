"""Several people with names, each asked about a part of the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from dal.data.source import Source
from dal.oracles.base import Answers, Oracle
from dal.oracles.wrapped import before, name_person, part_of
from dal.query.base import Query
from dal.utils.seeding import derive

__all__ = ["Several"]


class Several(Oracle):
    """Shares the samples of a query out among people.

    Who is asked about a sample follows from the seed, the sample, and how many answers it had
    before: whoever has not been asked comes first, and nobody is asked again before all were. Of a
    sample that has answers already one more person is asked.

    Args:
        people: An oracle for each, by name: the annotator that the ledger names.
        seed: Decides who is asked.
        annotators_per_sample: How many of them are asked about each sample.

    Raises:
        ValueError: There is nobody, or there are fewer people than are to be asked.
    """

    name = "several"

    def __init__(
        self, people: Mapping[str, Oracle], seed: int = 0, annotators_per_sample: int = 1
    ) -> None:
        if not 1 <= annotators_per_sample <= len(people):
            raise ValueError(
                f"oracle.annotators_per_sample={annotators_per_sample} with {len(people)} people; "
                "give at least 1, and name as many people in oracle.people"
            )
        for name, oracle in people.items():
            name_person(oracle, name)
        self.people, self.seed = dict(people), seed
        self.answers_per_sample = annotators_per_sample
        self.wants_probs = any(oracle.wants_probs for oracle in people.values())

    def open(self, source: Source) -> None:
        """Show the data to everybody."""
        for oracle in self.people.values():
            oracle.open(source)

    def why_not_made(self) -> str:
        """Why somebody cannot."""
        return next(filter(None, (o.why_not_made() for o in self.people.values())), "")

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Ask everybody about their part; who has none is not asked."""
        chosen = [self._chosen(index, count) for index, count in before(query)]
        tickets = {}
        for name, oracle in self.people.items():
            times = torch.tensor([who.get(name, -1) for who in chosen])
            places = (times >= 0).nonzero().squeeze(1)
            if len(places):
                part = replace(part_of(query, places), before=times[places])
                tickets[name] = oracle.submit(part, round_number)
        return {"indices": query.indices.tolist(), "tickets": tickets}

    def _chosen(self, index: int, count: int) -> dict[str, int]:
        """Who is asked about a sample that had so many answers; how often each was before."""
        order = sorted(self.people, key=lambda name: derive(self.seed, "asked", index, name))
        turns = range(count, count + (1 if count else self.answers_per_sample))
        return {order[turn % len(order)]: turn // len(order) for turn in turns}

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers of everybody, as far as they are there."""
        tickets = ticket["tickets"].items()
        return self._together({name: self.people[name].collect(inner) for name, inner in tickets})

    def revisit(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers of everybody to an earlier ticket."""
        tickets = ticket["tickets"].items()
        return self._together({name: self.people[name].revisit(inner) for name, inner in tickets})

    def _together(self, answers: Mapping[str, Answers | None]) -> Answers | None:
        """The answers of all in a drawn order, since the latest may count; None for none."""
        found = {name: given for name, given in answers.items() if given is not None}
        parts = list(found.values())
        if not parts:
            return None
        times = [
            torch.full((len(part.indices),), torch.nan) if part.seconds is None else part.seconds
            for part in parts
        ]
        names = [name for name, part in found.items() for _ in part.indices]
        indices = torch.cat([part.indices for part in parts])
        rows = list(zip(indices.tolist(), names, strict=True))
        order = sorted(range(len(rows)), key=lambda n: derive(self.seed, "answered", *rows[n]))
        return Answers(
            indices=indices[order],
            targets=torch.cat([part.targets for part in parts])[order],
            abstained=torch.cat([part.abstained for part in parts])[order],
            cost=torch.cat([part.cost.double() for part in parts])[order],
            seconds=torch.cat([time.double() for time in times])[order],
            annotators=[names[n] for n in order],
        )

    def wait(self, ticket: dict[str, Any], seconds: float) -> bool:
        """Wait for one after the other; whether anybody is worth it."""
        share, again = seconds / len(ticket["tickets"]), False
        for name, inner in ticket["tickets"].items():
            again |= self.people[name].wait(inner, share)
        return again

    def tell(self, news: Mapping[str, Any]) -> None:
        """Tell everybody."""
        for oracle in self.people.values():
            oracle.tell(news)

    def close(self) -> None:
        """Let go of everybody."""
        for oracle in self.people.values():
            oracle.close()
