"""Expected model change: how far a gradient step on a candidate would move the model."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dal.query.base import GradNorms, PoolView, Probs, ScoreStrategy


def expected_gradient_length(probs_NC: Tensor, grad_norms_NC: Tensor) -> Tensor:
    """Mean length of the loss gradient, over labels drawn from the model's own prediction.

    Helps when a few informative samples dominate training; sensitive to the scale of features,
    and drawn to outliers.

    Args:
        probs_NC: float, (N, C), class probabilities.
        grad_norms_NC: float, (N, C), euclidean length of the gradient for each label y.

    Returns:
        float, (N,), >= 0: sum over y of p_y ||grad loss(x, y)||; higher = query first.

    Reference:
        B. Settles, M. Craven and S. Ray. Multiple-instance active learning. NIPS 2007, section 4.
    """
    return (probs_NC * grad_norms_NC).sum(1)


class ExpectedGradientLength(ScoreStrategy):
    """Query the samples expected to change the model most; see `expected_gradient_length`.

    Args:
        scope: Gradient with respect to ``all`` trainable parameters, the ``last`` layer, or the
            ``input``.
        labels: ``expected``: the mean over labels by predicted probability; ``pseudo``: the
            gradient for the predicted label alone, at a fraction of the cost.

    Raises:
        ValueError: A scope or kind of labels is unknown.
    """

    def __init__(
        self,
        scope: Literal["all", "last", "input"] = "all",
        labels: Literal["expected", "pseudo"] = "expected",
    ) -> None:
        if scope not in ("all", "last", "input"):
            raise ValueError(f"strategy.scope={scope!r}; choose all, last or input")
        if labels not in ("expected", "pseudo"):
            raise ValueError(f"strategy.labels={labels!r}; choose expected or pseudo")
        self.expected = labels == "expected"
        self.gradients = GradNorms(scope, "all" if self.expected else "predicted")
        self.needs = frozenset({Probs(), self.gradients})

    def score(self, view: PoolView) -> Tensor:
        """See `expected_gradient_length`; with pseudo-labels the one length itself."""
        norms = view[self.gradients]
        return expected_gradient_length(view[Probs()], norms) if self.expected else norms[:, 0]
