"""BAIT: batches after which the parameters of the last layer are known where the pool needs it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView
from dal.query.needs import Features, Probs
from dal.query.selection import blocks, pick_max, random_keys
from dal.query.uncertainty import least_confidence


def binary_weights(probs_NC: Tensor) -> Tensor:
    """Fisher information of whether the predicted class is right, on its logit: p (1 - p).

    Args:
        probs_NC: float, (N, C), rows sum to one; p is the largest of a row.

    Returns:
        float64, (N,), in [0, 1/4].
    """
    wrong = least_confidence(probs_NC)
    return wrong * (1 - wrong)


def fisher(features_ND: Tensor, weights_N: Tensor, scale: float = 1.0) -> Tensor:
    """Sum of w h h' over samples, their features divided by a scale: float64, (D, D). O(N D²)."""
    total = torch.zeros(2 * features_ND.shape[1:], dtype=torch.float64, device=features_ND.device)
    for start, block in blocks(features_ND):
        rows = block.double() / scale
        weights = weights_N[start : start + len(block)].to(rows.device)
        total += rows.T @ (weights.unsqueeze(1) * rows)
    return total


class Information:
    """What samples add to a precision M, measured by the trace of M⁻¹ F; see `greedy_trace`.

    With v = M⁻¹ h, adding w h h' to M lowers the trace by w v'F v / (1 + w h'v). Both products are
    kept for all candidates and brought up to date by two numbers each, from one pass over the
    features, O(N D) a change.

    Args:
        features_ND: float, (N, D).
        weights_N: float64, (N,), w of each, >= 0.
        precision_DD: float64, M, positive definite.
        fisher_DD: float64, F.
        scale: What features are divided by.
    """

    def __init__(
        self,
        features_ND: Tensor,
        weights_N: Tensor,
        precision_DD: Tensor,
        fisher_DD: Tensor,
        scale: float = 1.0,
    ) -> None:
        self._features, self._scale, self._fisher = features_ND, scale, fisher_DD
        self.weights = weights_N.to(features_ND.device)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(precision_DD))
        middle = self._inverse @ fisher_DD @ self._inverse
        found = []
        for _, block in blocks(features_ND):
            rows = block.double() / scale
            found.append([((rows @ matrix) * rows).sum(1) for matrix in (self._inverse, middle)])
        self._within, self._gained = map(torch.cat, zip(*found, strict=True))

    def gains(self) -> Tensor:
        """How much adding each candidate lowers the trace: float64, (N,), >= 0."""
        return self.weights * self._gained / (1 + self.weights * self._within)

    def losses(self) -> Tensor:
        """How much taking each one away that was added raises the trace: float64, (N,)."""
        left = 1 - self.weights * self._within
        return self.weights * self._gained / left.clamp(min=torch.finfo(left.dtype).eps)

    def change(self, position: int, sign: int) -> None:
        """Add a candidate (sign 1), or take it away again (-1)."""
        row = next(blocks(self._features[position : position + 1]))[1][0].double() / self._scale
        weight = sign * self.weights[position]
        v = self._inverse @ row
        r = self._inverse @ (self._fisher @ v)
        factor = weight / (1 + weight * (row @ v))
        both = torch.stack([v, r], 1) / self._scale
        to_v, to_r = torch.cat(
            [(block @ both.to(block.dtype)).double() for _, block in blocks(self._features)]
        ).unbind(1)
        self._within -= factor * to_v.square()
        self._gained += factor * to_v * (factor * (v @ self._fisher @ v) * to_v - 2 * to_r)
        self._inverse -= factor * torch.outer(v, v)


def greedy_trace(
    information: Information, count: int, keys_N: Tensor, oversample: int = 2
) -> Tensor:
    """Choose what lowers the trace of M⁻¹ F: too many one by one, then drop the least useful.

    F is what the pool's predictions depend on, M what the labels tell about the parameters, so the
    trace is, about, how uncertain the pool's predictions are left.

    Args:
        information: Of N candidates.
        count: b, from 1 to N.
        keys_N: float64, (N,), distinct random numbers, decide among equals; on the same device.
        oversample: So many times b are chosen first, as far as there are.

    Returns:
        Positions, int64, (b,), distinct, in the order of choice.

    Reference:
        J. T. Ash, S. Goel, A. Krishnamurthy and S. Kakade. Gone fishing: neural active learning
        with Fisher embeddings. NeurIPS 2021, algorithm 1.
    """
    chosen: list[int] = []
    for _ in range(min(oversample * count, len(keys_N))):
        gains = information.gains()
        gains[chosen] = -torch.inf
        chosen.append(pick_max(gains, keys_N))
        information.change(chosen[-1], 1)
    while len(chosen) > count:
        positions = torch.tensor(chosen, device=keys_N.device)
        dropped = pick_max(-information.losses()[positions], keys_N[positions])
        information.change(chosen.pop(dropped), -1)
    return torch.tensor(chosen, device=keys_N.device)


class Bait(BatchStrategy):
    """Query what leaves the pool's predictions least uncertain, by Fisher information.

    Of each sample the information is that of whether the predicted class is right, p (1 - p) h h',
    so matrices have D² entries where the whole information of the last layer has (C D)². Batches
    are made to complement what is labeled and each other. Helps on frozen features at any budget.
    Hurts where probabilities are poor: confident mistakes tell nothing. O(N D²), and O(N D) for
    each of 2 b picks; O(D²) memory beside a few numbers a candidate.

    Args:
        regularization: Precision of the prior on the weights, for features of mean square 1; > 0.

    Raises:
        ValueError: ``regularization`` is out of range.

    Reference:
        J. T. Ash, S. Goel, A. Krishnamurthy and S. Kakade. Gone fishing: neural active learning
        with Fisher embeddings. NeurIPS 2021. D. Huseljic, P. Hahn, M. Herde, L. Rauch and B. Sick.
        Fast fishing: approximating BAIT for efficient and scalable deep active image
        classification. ECML PKDD 2024 (the binary information).

    Differs from the paper: the information of the labels is summed, not averaged, so that the prior
    weighs less the more there are; features are divided by their root mean square.
    """

    needs = frozenset({Features(), Features("labeled"), Probs(), Probs("labeled")})

    def __init__(self, regularization: float = 1.0) -> None:
        if not 0 < regularization < float("inf"):
            raise ValueError(f"strategy.regularization={regularization} must be finite and > 0")
        self.regularization = regularization

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; the score is how much a pick alone would lower the trace."""
        features, labeled = view[Features()], view[Features("labeled")]
        weights = binary_weights(view[Probs()])
        squares = sum(float(block.double().square().sum()) for _, block in blocks(features))
        scale = (squares / max(features.numel(), 1)) ** 0.5 or 1.0
        known = fisher(labeled, binary_weights(view[Probs("labeled")]), scale)
        wanted = (known + fisher(features, weights, scale)) / (len(labeled) + len(features))
        precision = known + self.regularization * torch.eye(len(known)).to(known)
        try:
            information = Information(features, weights, precision, wanted, scale)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise ValueError(
                f"strategy.regularization={self.regularization} is lost in rounding beside the "
                "information of the labels; raise it"
            ) from error
        alone = information.gains()
        keys = random_keys(view.num_total, rng)[view.indices.cpu()].to(alone.device)
        positions = greedy_trace(information, query_size, keys)
        return positions, alone[positions], {}
