"""Expected error reduction: how sure the model would be of the pool after each label."""

from __future__ import annotations

import math

from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy
from dal.query.needs import LookAhead, Probs


def expected_error_reduction(probs_NC: Tensor, risk_NC: Tensor) -> Tensor:
    """Minus the expected risk over the pool after learning a candidate's label.

    s(x) = -sum_y p(y|x) R(x, y), where R(x, y) is the mean entropy, in nats, of the predictions of
    the model trained with (x, y) in addition. Looks at the whole pool, so it prefers samples that
    say something about many others and leaves outliers alone. Costs a training for every candidate
    and label, exact or approximated by the learner (see `dal.learners.look_ahead`): for small
    pools. Hurts while the model is sure and wrong: it then prefers labels that make it surer.

    Args:
        probs_NC: float, (N, C), rows sum to one: the current model.
        risk_NC: float, (N, C), in [0, ln C].

    Returns:
        float, (N,), in [-ln C, 0]; higher = query first.

    Reference:
        N. Roy and A. McCallum. Toward optimal active learning through sampling estimation of error
        reduction. ICML 2001, section 2 (log loss, estimated on a sample of the pool).

    Differs from the paper: a candidate that is in the reference sample stays in it, so that all
    candidates are compared on the same samples.
    """
    return -(probs_NC * risk_NC).sum(1)


class ExpectedErrorReduction(ScoreStrategy):
    """Query what leaves the least expected entropy in the pool; see `expected_error_reduction`.

    Scikit-learn models are fitted again for each candidate and label, at most 20,000 times a round;
    of networks the last layer alone is moved, by an approximation.

    Args:
        reference: The risk is measured on so many samples of the pool, drawn by the run's seed.

    Raises:
        ValueError: ``reference`` is below 1.
    """

    lower_bound = -math.inf  # -ln C, and C is not known before the first view
    independent = False  # the reference is drawn from the candidates

    def __init__(self, reference: int = 500) -> None:
        if reference < 1:
            raise ValueError(f"strategy.reference={reference}; give at least 1")
        self.look_ahead = LookAhead(reference)
        self.needs = frozenset({Probs(), self.look_ahead})

    def score(self, view: PoolView) -> Tensor:
        """See `expected_error_reduction`."""
        return expected_error_reduction(view[Probs()], view[self.look_ahead])
