"""A strategy: the Gini impurity of the predicted probabilities."""

from torch import Tensor

from dal.query import PoolView, Probs, ScoreStrategy


def gini(probs_NC: Tensor) -> Tensor:
    """1 - Σ p², float (N,), in [0, 1 - 1/C], of probabilities (N, C); higher = query first."""
    return 1 - probs_NC.square().sum(1)


class Gini(ScoreStrategy):
    """Query where two labels drawn from the prediction would differ most often; see `gini`."""

    needs = frozenset({Probs()})

    def score(self, view: PoolView) -> Tensor:
        """One number a candidate, float (N,)."""
        return gini(view[Probs()])
