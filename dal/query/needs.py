"""What a strategy may ask to be computed for the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dal.query.base import ScoreStrategy


Of = Literal["pool", "labeled", "rejected"]
"""Samples that a pass computes something of: the candidates in the ``pool``, the ``labeled`` ones
and those ``rejected`` as none of the classes, both in the order of labeling.
"""


@dataclass(frozen=True)
class Probs:
    """Class probabilities of the current model: float32, (N, C), rows sum to one.

    Attributes:
        of: Which samples N counts.
    """

    of: Of = "pool"

    def __repr__(self) -> str:
        return "Probs()" if self.of == "pool" else f"Probs({self.of!r})"


@dataclass(frozen=True)
class Features:
    """Last hidden features of the current model: float, (N, D).

    Attributes:
        of: Which samples N counts.
    """

    of: Of = "pool"


@dataclass(frozen=True)
class Members:
    """Class probabilities of the members of a committee: float32, (K, N, C).

    Who they are is an option of the learner, not of the strategy: dropout samples, an ensemble,
    the last rounds' models, scikit-learn estimators. K may be 1 in the first round of the last
    kind only.
    """


@dataclass(frozen=True)
class Decision:
    """Decision values of the classes: float32, (N, C), the highest is predicted.

    For two classes (N, 1), positive for the second. See `Fitted.decision` of
    `dal.models.estimators`.
    """


@dataclass(frozen=True)
class LookAhead:
    """Risk over the pool after training on each candidate with each label: float32, (N, C).

    The risk is the mean entropy of the predicted classes, in nats, over ``reference`` samples of
    the pool (all of it if it is smaller), drawn from the run's seed.

    Attributes:
        reference: Size of the sample the risk is measured on.
    """

    reference: int = 500


@dataclass(frozen=True)
class GradNorms:
    """Euclidean length of the loss gradient for each possible label: float32, (N, C) or (N, 1).

    Attributes:
        scope: With respect to ``all`` trainable parameters, those of the ``last`` layer, or the
            ``input``.
        labels: ``all`` C labels, one column each, or the ``predicted`` label alone.
    """

    scope: Literal["all", "last", "input"] = "all"
    labels: Literal["all", "predicted"] = "all"


@dataclass(frozen=True)
class History:
    """Class probabilities of the last models, oldest first: float32, (T, N, C), T <= rounds.

    The current model is the last of them; T is smaller while fewer models have been fitted.
    """

    rounds: int


@dataclass(frozen=True)
class Labels:
    """Classes that the labeled samples are trained as: int64, (M,), in the order of labeling.

    Where a sample has any of L labels, (M, L), 1 for each that holds. Labels are what people said,
    here and wherever a need is ``of`` the labeled: guesses of a model are none.
    """


@dataclass(frozen=True)
class AnswersSoFar:
    """What people said of the labeled samples: int64, (A, 4), in the order of their answers.

    The columns are the sample's row in ``Probs("labeled")``, its position in the training part,
    the number of the annotator, and the class. The latest answer of each annotator about a sample
    counts; who could not tell, or said that it is none of the classes, is left out.
    """


@dataclass(frozen=True, eq=False)
class _OfStrategy:
    """What is made by one strategy: equal where it is the very same one.

    A strategy may define equality, as data classes do, and then has no hash.
    """

    of: ScoreStrategy

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.of is self.of

    def __hash__(self) -> int:
        return hash((type(self), id(self.of)))


@dataclass(frozen=True, eq=False)
class Scores(_OfStrategy):
    """Scores of a strategy, made of each batch as it is computed: float, (N,).

    So the pass keeps one number a candidate, where what the scores are made of may have thousands.

    Attributes:
        of: The strategy; see `ScoreStrategy.fits_blocks`.
    """


@dataclass(frozen=True, eq=False)
class Heights(_OfStrategy):
    """What candidates rank by where that is not their `Scores`; see `ScoreStrategy.heights`."""


Need = (
    Probs
    | Features
    | GradNorms
    | History
    | Members
    | Decision
    | LookAhead
    | Labels
    | AnswersSoFar
    | Scores
    | Heights
)
Needs = frozenset[Need]


def of_candidates(need: Need) -> bool:
    """Whether a need's answer has a row for each candidate."""
    if isinstance(need, Probs | Features):
        return need.of == "pool"
    return not isinstance(need, Labels | AnswersSoFar)


def of_others(needs: Needs) -> dict[Of, dict[Need, Need]]:
    """Needs about samples that are no candidates, by these, and by the same need of candidates."""
    found: dict[Of, dict[Need, Need]] = {}
    for need in needs:
        if isinstance(need, Probs | Features) and need.of != "pool":
            found.setdefault(need.of, {})[type(need)()] = need
    return found


def without_scores_of(kind: Need, needs: Needs) -> Needs:
    """Needs, where scores that are made of one kind give way to all that they are made of."""
    return frozenset[Need]().union(
        *(n.of.needs if isinstance(n, Scores) and kind in n.of.needs else {n} for n in needs)
    )


def of_one_row(need: Need) -> bool:
    """Whether a need's answer for a candidate depends on no other candidate."""
    return need in (Probs(), Features()) or isinstance(need, GradNorms)
