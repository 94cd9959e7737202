"""BatchBALD: the batch whose labels together tell most about the model's parameters.

The joint mutual information of a batch grows, with each sample n added, by

    I(y_n; w | y_B) = E over y_B of [H(y_n | y_B)] - mean over k of H(y_n | member k),

the conditional information of its label given those of the samples chosen before (chain rule). The
gain is computed instead of the joint entropy it is a difference of: it needs no large number, and
given one outcome of y_B it is a mutual information under reweighted members, so that sampled
outcomes give gains with little noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView
from dal.query.committee import member_statistics
from dal.query.needs import Members
from dal.query.selection import pick_max, random_keys, top_k

OUTCOMES_AT_ONCE = 512
COLUMNS_AT_ONCE = 640
"""Candidates times classes worked on at once, for `OUTCOMES_AT_ONCE` outcomes."""
REFRESHED_AT_ONCE = 64
"""Candidates whose gains are computed before looking whether others may still win."""
NEGLIGIBLE = 1e-9
"""Probability of outcomes that are left out."""
LOWEST = -1.0
"""Below any gain; samples already chosen lie below it."""
SLACK = 1e-6
"""Nats by which rounding may let a gain exceed an earlier one."""


class Outcomes:
    """Outcomes of the labels of the samples chosen so far, and what each says about the members.

    Each step extends every outcome by every class of the next sample. Outcomes that carry less than
    `NEGLIGIBLE` probability in all are dropped. While no more than ``samples`` remain, sums over
    them are exact; after that the most probable are kept and the others drawn systematically, each
    with a weight such that every sum over outcomes is unbiased.

    Args:
        num_members: K.
        samples: At most so many outcomes S.
        device: Where to compute.

    Attributes:
        exact: All outcomes are there.
        shares_S: float64, (S,), sums to one: how much each outcome counts.
        weights_SK: float64, (S, K), rows sum to one: probability of each member given the outcome.

    Reference:
        P. Fearnhead and P. Clifford. On-line inference for hidden Markov models via particle
        filters. Journal of the Royal Statistical Society B 65(4), 2003, section 3.2 (the drawing).
    """

    def __init__(self, num_members: int, samples: int, device: torch.device) -> None:
        self.samples = samples
        self.exact = True
        self.shares_S = torch.ones(1, dtype=torch.float64, device=device)
        self.weights_SK = torch.ones(1, num_members, dtype=torch.float64, device=device)
        self.weights_SK /= num_members

    def add(self, chosen_KC: Tensor, rng: torch.Generator) -> None:
        """Extend the outcomes by the label of one more chosen sample."""
        chosen_KC = chosen_KC.double()
        probs_SC = self.weights_SK @ chosen_KC
        masses = (self.shares_S.unsqueeze(1) * probs_SC).flatten()
        kept, shares = thin(masses, self.samples, rng)
        self.exact &= len(kept) == len(shares) and bool((shares == masses[kept]).all())
        rows, classes = kept // chosen_KC.shape[1], kept % chosen_KC.shape[1]
        self.weights_SK = self.weights_SK[rows] * chosen_KC.T[classes]
        self.weights_SK /= self.weights_SK.sum(1, keepdim=True)
        self.shares_S = shares / shares.sum()


def thin(masses: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Represent a distribution by at most ``count`` of its outcomes, unbiased.

    Outcomes above a threshold keep their mass; those below are drawn with probability mass over
    threshold, systematically along their order, and weigh as much as the threshold.

    Args:
        masses: float64, (S,), >= 0.
        count: At least 1.
        rng: CPU generator; one number is drawn.

    Returns:
        Positions of the outcomes kept, int64, ascending, and their weights, float64.
    """
    start = torch.rand((), generator=rng, dtype=torch.float64).to(masses.device)
    falling, order = masses.sort(descending=True, stable=True)
    tails = falling.flip(0).cumsum(0).flip(0)
    needed = int((tails > NEGLIGIBLE * tails[0]).sum())
    if needed <= count:
        kept = order[:needed].sort().values
        return kept, masses[kept]
    room = count - torch.arange(count, device=masses.device)
    sure = int((falling[:count] * room >= tails[:count]).long().cumprod(0).sum())
    threshold = tails[sure] / (count - sure)
    rest = order[sure:].sort().values
    steps = (masses[rest] / threshold).cumsum(0) + start
    drawn = steps.floor() > torch.cat([start.view(1), steps[:-1]]).floor()
    shares = masses.clone()
    shares[rest] = threshold
    kept = torch.cat([order[:sure], rest[drawn]]).sort().values
    return kept, shares[kept]


def conditional_gains(outcomes: Outcomes, members_KNC: Tensor) -> Tensor:
    """What the label of each candidate tells about the parameters, given those chosen before.

    Cost: S N C (K + one logarithm), in blocks of `OUTCOMES_AT_ONCE` x `COLUMNS_AT_ONCE`
    numbers. Products and logarithms in the members' dtype, sums over outcomes in float64.

    Args:
        outcomes: S outcomes of the samples chosen so far.
        members_KNC: float32 or float64, (K, N, C), rows sum to one.

    Returns:
        float64, (N,), nats, >= 0 up to rounding.
    """
    num_members, count, num_classes = members_KNC.shape
    shares_S = outcomes.shares_S
    posterior_K = shares_S @ outcomes.weights_SK
    weights_SK = outcomes.weights_SK.to(members_KNC.dtype)
    tiny = torch.finfo(members_KNC.dtype).tiny
    gains = torch.empty(count, dtype=torch.float64, device=members_KNC.device)
    size = max(COLUMNS_AT_ONCE // num_classes, 1)
    for start in range(0, count, size):
        block = members_KNC[:, start : start + size]
        flat = block.reshape(num_members, -1)
        total = torch.zeros(flat.shape[1], dtype=torch.float64, device=flat.device)
        for first in range(0, len(weights_SK), OUTCOMES_AT_ONCE):
            rows = slice(first, first + OUTCOMES_AT_ONCE)
            probs = weights_SK[rows] @ flat
            summands = probs.clamp(min=tiny).log_().mul_(probs)
            total -= (shares_S[rows].to(probs.dtype) @ summands).double()
        noise_KN = -torch.xlogy(block, block).double().sum(-1)
        joint = total.view(-1, num_classes).sum(1)
        gains[start : start + size] = joint - posterior_K @ noise_KN
    return gains


def batchbald(
    members_KNC: Tensor,
    query_size: int,
    rng: torch.Generator,
    keys: Tensor,
    samples: int = 4000,
) -> tuple[Tensor, Tensor, int]:
    """Greedily choose the batch whose labels tell most about the model's parameters together.

    Each step takes the sample of the largest gain I(y_n; w | y_B), which is at least 1 - 1/e of
    the best batch's information in the end, because the information is submodular. For the same
    reason a gain never grows from step to step, so only candidates whose last known gain exceeds
    the best found in a step are computed anew.

    Gains are exact while the outcomes of the samples chosen that matter number at most ``samples``;
    after that so many stand for all of them; see `Outcomes`.

    Cost: at most b S N C (K + 1), S <= ``samples``; often a fraction of the N. Extra memory,
    whatever b: S (C + 2 K) float64 numbers, and blocks.

    Args:
        members_KNC: float32 or float64, (K, N, C), rows sum to one.
        query_size: b, from 1 to N.
        rng: CPU generator of the drawn outcomes.
        keys: float64, (N,), distinct random numbers that break ties.
        samples: At most so many outcomes.

    Returns:
        Positions, int64, (b,), in the order of choice; their gains, float64, (b,), whose sum is
        the batch's mutual information in nats; and how many were chosen by exact gains.

    Reference:
        A. Kirsch, J. van Amersfoort and Y. Gal. BatchBALD: efficient and diverse batch acquisition
        for deep Bayesian active learning. NeurIPS 2019, equations 9 to 12, algorithm 1.

    Differs from the paper: gains instead of joint entropies (the same choice), outcomes that are
    thinned out instead of drawn anew, and lazy evaluation (M. Minoux, 1978).
    """
    outcomes = Outcomes(len(members_KNC), samples, members_KNC.device)
    bounds = member_statistics(members_KNC).disagreement.double()
    fresh = torch.ones_like(bounds, dtype=torch.bool)
    chosen: list[int] = []
    gains: list[Tensor] = []
    exact = 0
    for step in range(query_size):
        if step:
            outcomes.add(members_KNC[:, chosen[-1]], rng)
            fresh = _refresh(bounds, outcomes, members_KNC)
        position = pick_max(torch.where(fresh, bounds, -torch.inf), keys)
        exact += outcomes.exact
        chosen.append(position)
        gains.append(bounds[position].clone())
        bounds[position] = -torch.inf
    return torch.tensor(chosen), torch.stack(gains), exact


def _refresh(bounds: Tensor, outcomes: Outcomes, members_KNC: Tensor) -> Tensor:
    """Replace bounds by gains, the highest first, until no bound left exceeds the best gain.

    Returns:
        bool, (N,): which of the bounds are gains now.
    """
    order = bounds.argsort(descending=True, stable=True)
    fresh = torch.zeros_like(bounds, dtype=torch.bool)
    best = LOWEST
    for candidates in torch.split(order, REFRESHED_AT_ONCE):
        block = candidates[bounds[candidates] >= max(best - SLACK, LOWEST)]
        if len(block) == 0:
            break
        bounds[block] = conditional_gains(outcomes, members_KNC[:, block])
        fresh[block] = True
        best = max(best, float(bounds[block].max()))
    return fresh


class BatchBALD(BatchStrategy):
    """Query the batch whose labels together tell most about the parameters; see `batchbald`.

    Unlike the highest values of BALD, the batch does not repeat itself: a near-duplicate of a
    chosen sample gains little more. Worth its cost where the pool is redundant and b is from about
    5 to 20; the information saturates at ln K, so b should stay below what K members can tell
    apart.

    Args:
        samples: At most so many outcomes of the batch's labels; more for less noise.
        max_candidates: Choose among the so many samples of highest BALD only; None for all.

    Raises:
        ValueError: A number is below 1.
    """

    needs = frozenset({Members()})

    def __init__(self, samples: int = 4000, max_candidates: int | None = None) -> None:
        for name, value in (("samples", samples), ("max_candidates", max_candidates)):
            if value is not None and value < 1:
                raise ValueError(f"strategy.{name}={value}; give at least 1")
        self.samples, self.max_candidates = samples, max_candidates

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See `batchbald`; scores are gains, in nats."""
        members_KNC = view[Members()]
        keys = random_keys(view.num_total, rng)[view.indices.cpu()].to(members_KNC.device)
        among = torch.arange(len(view), device=members_KNC.device)
        if self.max_candidates is not None and self.max_candidates < len(view):
            scores = member_statistics(members_KNC).disagreement
            among = top_k(scores, max(self.max_candidates, query_size), keys)[0].sort().values
            members_KNC, keys = members_KNC[:, among], keys[among]
        positions, gains, exact = batchbald(members_KNC, query_size, rng, keys, self.samples)
        info = {"information": float(gains.sum()), "exact": exact}
        return among[positions.to(among.device)], gains, info
