"""Who answers queries. An answer may take days: asking and collecting are two steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dal.data.source import Source
from dal.query.base import Query


@dataclass(frozen=True)
class Answers:
    """Labels for a query, as far as they are there: the loop writes each into the ledger.

    A sample may have several answers, of different annotators, and may have none yet.

    Attributes:
        indices: int64, (b,), positions in the training part.
        targets: int64, (b,), class numbers; or (b, C), 1 where a label holds and 0 where not.
            Without meaning where the annotator abstained.
        abstained: bool, (b,), where no label could be given.
        cost: float, (b,), what each answer cost; not negative.
        seconds: float, (b,), how long each answer took, NaN where that is unknown; None where it
            is unknown of all.
        annotators: b names, who gave each answer; None where the oracle's own name says it.
    """

    indices: Tensor
    targets: Tensor
    abstained: Tensor
    cost: Tensor
    seconds: Tensor | None = None
    annotators: Sequence[str] | None = None


def check_answers(answers: Any, asked: Sequence[int], oracle: str) -> None:
    """Refuse what is no answer to a query: oracles are written by others, too.

    Args:
        answers: What the oracle collected.
        asked: Positions in the training part, those of the query.
        oracle: Named in the error.

    Raises:
        TypeError: It is no `Answers`, or holds something else than tensors.
        ValueError: A sample was not asked about, or answered twice by one annotator; or a field
            does not have one value an answer.
    """
    if not isinstance(answers, Answers):
        raise TypeError(
            f"{oracle} collected a {type(answers).__name__}; give dal.oracles.Answers, or None "
            "while the answers are not there"
        )
    for field in ("indices", "targets", "abstained", "cost"):
        if not isinstance(value := getattr(answers, field), Tensor):
            raise TypeError(
                f"{oracle} collected {field} as a {type(value).__name__}; give a tensor"
            )
    found = answers.indices.tolist()
    for field in ("targets", "abstained", "cost", "seconds", "annotators"):
        value = getattr(answers, field)
        if value is not None and len(value) != len(found):
            raise ValueError(f"{oracle} collected {len(found)} indices and {len(value)} {field}")
    if others := set(found) - set(asked):
        raise ValueError(
            f"{oracle} was asked about the samples {_some(asked)}, and answered about "
            f"{_some(list(others))} as well; answer about those asked"
        )
    given = Counter(zip(found, answers.annotators or [oracle] * len(found), strict=True))
    for (index, name), times in given.items():
        if times > 1:
            raise ValueError(
                f"{oracle} collected {times} answers of {name} about sample {index}; give the "
                "latest of each annotator"
            )


def _some(indices: Sequence[int]) -> str:
    """The first numbers of samples, in ascending order."""
    listed = ", ".join(map(str, sorted(indices)[:20]))
    return f"{listed}, ..." if len(indices) > 20 else listed or "none"


def known_by(indices: Tensor, positions: Tensor | None, source: Source | None) -> list[int]:
    """The numbers that people know some samples by, those that a run made as well.

    Args:
        indices: int64, (b,), positions in the training part.
        positions: int64, (num_total,), the numbers of its samples; None for their own.
        source: The data, where an oracle has them.
    """
    if positions is None:
        return list(indices.tolist())
    if source is not None:
        return source.train.original(indices)
    return list(positions[indices].tolist())


class Oracle(ABC):
    """Gives labels for queries.

    Attributes:
        name: Who the answers are recorded as coming from, where these do not say it themselves.
        wants_probs: Queries shall come with the model's probabilities (`Query.probs`), for people
            to see its guess.
        enough: Share of a query's samples, in (0, 1], that must be answered for the run to go on.
            What is still open then is not asked again, and may be answered later (`revisit`).
        answers_per_sample: How many annotators each sample is meant for; answered is one that has
            so many answers.
    """

    name: str
    wants_probs: bool = False
    enough: float = 1.0
    answers_per_sample: int = 1

    def open(self, source: Source) -> None:  # noqa: B027 - most oracles show nothing
        """Take the data whose samples may be shown; called before any query of a run.

        Raises:
            ValueError: They cannot be shown as the oracle was told to.
        """

    def why_not_made(self) -> str:
        """Why it cannot answer about samples that a run makes; empty where it can.

        These are numbered from the length of the training part on; asked after `open`.
        """
        return ""

    @abstractmethod
    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Ask. Submitting the same query of the same round again must do no harm.

        Args:
            query: The samples.
            round_number: The round; -1, -2, ... for the questions that come before round 0 where no
                label is known: their samples are drawn at random, so that all scores are NaN and
                there are no probabilities.

        Returns:
            A ticket of plain values, kept in the run's state until the answers are there.
        """

    @abstractmethod
    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers to a ticket so far, or None while there is none.

        Raises:
            ValueError: An answer is no label.
        """

    def revisit(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers to an earlier ticket as they stand now; None where they cannot change.

        Asked in every later round: what came late, and what was changed, is entered then.
        """
        return None

    def wait(self, ticket: dict[str, Any], seconds: float) -> bool:
        """Wait for answers, at most so long; whether to ask `collect` again.

        False, at once, from an oracle that nobody waits for in the process: the run is saved, ends
        as ``waiting``, and the same command goes on.
        """
        return False

    def tell(self, news: Mapping[str, Any]) -> None:  # noqa: B027 - most oracles show nothing
        """Take what people who wait may want to see, as plain values.

        Args:
            news: ``round``, and either ``epoch`` (from 0) with ``values`` while a model is fitted,
                or ``row``, that of ``metrics.jsonl``, when it is; or ``status`` and ``reason``, as
                in ``status.json``, when the run ends.
        """

    def close(self) -> None:  # noqa: B027 - most oracles hold nothing open
        """Let go of what `open` took; called when the run ends, in whatever way."""
