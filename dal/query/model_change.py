"""Expected model change: how far a gradient step on a candidate would move the model."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy
from dal.query.needs import GradNorms, Probs


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
    expected: Tensor = torch.linalg.vecdot(probs_NC, grad_norms_NC)
    return expected


def last_layer_lengths(probs_NC: Tensor, features_ND: Tensor, bias: bool = True) -> Tensor:
    """Length of the last layer's loss gradient for each label, from cached predictions.

    The gradient of the cross-entropy is the outer product of p - e_y and the layer's input, so its
    length is ‖p - e_y‖ √(‖h‖² + 1). ``1 - p_y`` is taken as the sum of the other probabilities,
    which keeps its digits however confident the network is. Costs O(N (C² + D)). The need
    ``GradNorms("last")`` gives the same from the pass, without keeping the features.

    Args:
        probs_NC: float, (N, C), softmax probabilities.
        features_ND: float, (N, D), the input of the last layer.
        bias: Whether the layer has one that is trained too.

    Returns:
        float, (N, C), >= 0.
    """
    others_CC = 1 - torch.eye(probs_NC.shape[1], dtype=probs_NC.dtype, device=probs_NC.device)
    squares_NC = (probs_NC @ others_CC).square_().addmm_(probs_NC.square(), others_CC)
    inputs_N = torch.linalg.vector_norm(features_ND, dim=1).square_()
    return squares_NC.sqrt_().mul_((inputs_N + bias).sqrt_().unsqueeze(1))


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
