"""Batches of candidates whose predicted class flips when their features are disturbed a little."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from dal.query.badge import output_errors
from dal.query.base import BatchStrategy, PoolView
from dal.query.combination import spread_out
from dal.query.logistic import Logistic
from dal.query.needs import Features, Labels
from dal.query.selection import blocks, random_keys


def dropout_flips(
    head: Logistic, features_ND: Tensor, dropout: float, times: int, rng: torch.Generator
) -> Tensor:
    """How often the predicted class of each sample changes when features of it are left out.

    Each time each feature of each sample is 0 by chance, and those kept are larger by as much. One
    product with the head a time, O(N C D).

    Args:
        head: Predicts classes from features.
        features_ND: float, (N, D).
        dropout: Share of the features that is left out, in (0, 1).
        times: How often.
        rng: CPU generator.

    Returns:
        int64, (N,), from 0 to ``times``, on the CPU.
    """
    predicted = head.logits(features_ND).argmax(1)
    flips = torch.zeros_like(predicted)
    for _ in range(times):
        for start, block in blocks(features_ND):
            kept = torch.rand(block.shape, generator=rng) >= dropout
            disturbed = block.cpu().double() * kept / (1 - dropout)
            part = slice(start, start + len(block))
            flips[part] += head.logits(disturbed).argmax(1) != predicted[part]
    return flips


def mix_reaches(head: Logistic, features_ND: Tensor, anchors_AD: Tensor, epsilon: float) -> Tensor:
    """How far mixing with the anchors moves each sample, in distances to where its class flips.

    Mixing z with an anchor z* by the share alpha = epsilon |z* - z| g / (|g| (z* - z)), element by
    element, where g is the gradient of the loss of the predicted class, moves z by
    epsilon |z* - z| g / |g|: the direction is that of the gradient for any anchor, and the farthest
    one moves it farthest. Along a line the logits of a linear head are linear, so where the class
    flips is known without mixing. O(N A D + N C²).

    Args:
        head: Predicts classes from features.
        features_ND: float, (N, D).
        anchors_AD: float64, (A, D), on the CPU.
        epsilon: See above, > 0.

    Returns:
        float64, (N,), >= 0, above 1 where the class flips, on the CPU.

    Reference:
        A. Parvaneh, E. Abbasnejad, D. Teney, R. Haffari, A. van den Hengel and J. Q. Shi. Active
        learning by feature mixing. CVPR 2022 (the closed form).
    """
    parts = [torch.cdist(block.cpu().double(), anchors_AD) for _, block in blocks(features_ND)]
    steps_N = epsilon * torch.cat(parts).amax(1)
    logits_NC = head.logits(features_ND)
    errors_NC = output_errors(logits_NC.softmax(1))
    largest = errors_NC.abs().amax(1, keepdim=True)
    errors_NC = errors_NC / largest.clamp(min=torch.finfo(largest.dtype).tiny)
    pulls_NC = errors_NC @ (head.weights.T @ head.weights)  # of g, on each logit
    length_N = (pulls_NC * errors_NC).sum(1).clamp(min=0).sqrt()
    top = logits_NC.argmax(1, keepdim=True)
    gained_NC = (pulls_NC - pulls_NC.gather(1, top)).clamp(min=0)
    lead_NC = logits_NC.gather(1, top) - logits_NC
    ratios_NC = (gained_NC / lead_NC.clamp(min=1e-30)).scatter(1, top, 0.0)
    moved_N = steps_N / length_N.clamp(min=1e-30)
    return torch.where(length_N > 0, moved_N * ratios_NC.amax(1), 0.0).clamp(max=1e30)


class _Flipping(BatchStrategy):
    """Clusters what flips, and queries the candidate nearest to each center.

    What predicts classes is a logistic regression on the features of the labeled samples, so that
    models of all kinds can be asked; where the model is one on frozen features, it is about the
    model itself. While one class alone has labels the query is random.
    """

    needs = frozenset({Features(), Features("labeled"), Labels()})

    def ready(self, view: PoolView) -> bool:
        """Whether labels are of two classes at least: nothing flips between fewer."""
        return bool((view[Labels()] != view[Labels()][:1]).any())

    @abstractmethod
    def flips(self, head: Logistic, view: PoolView, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """How near each candidate is to flipping, float, (N,), and which do, bool, (N,)."""

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; where too few flip, those are taken that are nearest to it."""
        head = Logistic(view[Features("labeled")], view[Labels()])
        heights, flipped = self.flips(head, view, rng)
        keys = random_keys(view.num_total, rng)[view.indices.cpu()]
        count = int(flipped.sum())
        chosen, clusters = spread_out(
            view[Features()], heights, max(count, query_size), query_size, keys, rng
        )
        return chosen, heights[chosen].double(), {"flipped": count, "clusters": clusters}


class DropQuery(_Flipping):
    """Query the centers of clusters of candidates whose class does not survive dropout.

    Features of each candidate are left out at random a few times; where the predicted class changes
    in more than half of them, it is a candidate, and k-means spreads the query over these. Helps on
    frozen features of a large network, from few labels on. Hurts where features are few, each of
    which decides. O(N C D) a time, and k-means of what flips.

    Args:
        dropout: Share of the features that is left out, in (0, 1).
        times: How often.

    Raises:
        ValueError: A setting is out of range.

    Reference:
        S. R. Gupte, J. Aklilu, J. J. Nirschl and S. Yeung-Levy. Revisiting active learning in the
        era of vision foundation models. TMLR 2024 (arXiv:2401.14555).

    Differs from the paper: classes are predicted by a logistic regression on the labeled features,
    whatever the model is; where fewer flip than are queried, those follow that flip more often.
    """

    def __init__(self, dropout: float = 0.75, times: int = 3) -> None:
        if not 0 < dropout < 1:
            raise ValueError(f"strategy.dropout={dropout} must be above 0 and below 1")
        if times < 1:
            raise ValueError(f"strategy.times={times} must be at least 1")
        self.dropout, self.times = dropout, times

    def flips(self, head: Logistic, view: PoolView, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """See `dropout_flips`."""
        flips = dropout_flips(head, view[Features()], self.dropout, self.times, rng)
        return flips, flips > self.times // 2


class AlfaMix(_Flipping):
    """Query the centers of clusters of candidates whose class flips when mixed with the labeled.

    Features are mixed with the mean of each class's labeled ones, by the small shares that raise
    the loss most (see `mix_reaches`); what flips is clustered by k-means. What is near a boundary,
    and far from a class's labeled samples, flips first. Helps early on features that are good. Few
    flip where the boundaries are sharp: then it is a margin in the space of the features, spread
    out no more. O(N C D) and k-means of what flips.

    Args:
        epsilon: Longest share of the features that is mixed, times the root of their number; > 0.

    Raises:
        ValueError: ``epsilon`` is out of range.

    Reference:
        A. Parvaneh, E. Abbasnejad, D. Teney, R. Haffari, A. van den Hengel and J. Q. Shi. Active
        learning by feature mixing. CVPR 2022 (with the closed form of the shares).

    Differs from the paper: classes are predicted by a logistic regression on the labeled features,
    whatever the model is; where fewer flip than are queried, the nearest to it follow, not random
    ones.
    """

    def __init__(self, epsilon: float = 0.2) -> None:
        if not 0 < epsilon < float("inf"):
            raise ValueError(f"strategy.epsilon={epsilon} must be finite and > 0")
        self.epsilon = epsilon

    def flips(self, head: Logistic, view: PoolView, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """See `mix_reaches`."""
        labeled, labels = view[Features("labeled")].cpu().double(), view[Labels()].cpu()
        anchors = torch.stack([labeled[labels == c].mean(0) for c in head.classes])
        share = self.epsilon / labeled.shape[1] ** 0.5
        reaches = mix_reaches(head, view[Features()], anchors, share)
        return reaches, reaches > 1
