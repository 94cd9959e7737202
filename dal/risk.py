"""How often a model is wrong, told from few labels: whom to ask about, an estimate, an interval.

Labels are asked for block by block: of every K samples in a fixed random order one is drawn, with a
chance of each that may follow the model's doubts. A label counts 1 / (K chance), so that easy and
hard samples stand for as many as there are of them. Blocks are samples of the population, and
nobody else looks at them; so each gives an unbiased answer, by whichever model it was drawn, and
the answers are independent.

Reference:
    S. Farquhar, Y. Gal and T. Rainforth. On statistical bias in active learning: how and when to
    fix it. ICLR 2021, equation 8 (LURE): with one label a block its weights are those above.
    J. Kossen, S. Farquhar, Y. Gal and T. Rainforth. Active testing: sample-efficient model
    evaluation. ICML 2021, sections 3 and 4: chances that follow the expected loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

EVEN = 0.7
"""Share of the chances that is even: no label counts more than 1 / EVEN."""

_STEPS = 60
"""Of bisections; each halves what is unknown."""
_ROWS = 2**20
"""Complex numbers at once, 16 MB."""
_LINE = torch.linspace(0, 13, 209, dtype=torch.float64)
"""Points of the line of integration, in widths of the integrand at its top, as arsinh."""
_NEAR = 1e-8
"""Ends this near to 0 or 1 are meant as 0 or 1."""


def rates(doubts: Tensor) -> Tensor:
    """How much likelier than by an even draw each sample of a block shall be asked about.

    Differs from the paper: the chances follow the square root of the expected loss, by which the
    variance is lowest where the loss is 0 or 1 (of a sample that is wrong with probability r, the
    mean square loss is r), and a part of them is even, since models err where they are sure.

    Args:
        doubts: float, (blocks, K), how probable it is that the model is wrong, 0 to 1.

    Returns:
        float64, (blocks, K): K times the chance; at least `EVEN`, of mean 1 in each block.
    """
    wanted = doubts.double().clamp(0, 1).sqrt() + 1e-9  # even where there is no doubt at all
    return EVEN + (1 - EVEN) * wanted / wanted.mean(1, keepdim=True)


def drawn(chances: Tensor, uniform: Tensor) -> Tensor:
    """The place of one sample in each block, by chances and uniform random numbers.

    Args:
        chances: float64, (blocks, K), not negative; in each block proportional to the chances.
        uniform: float64, (blocks,), in [0, 1).

    Returns:
        int64, (blocks,), in [0, K).
    """
    steps = chances.cumsum(1)
    places = torch.searchsorted(steps, uniform[:, None] * steps[:, -1:], right=True).squeeze(1)
    return places.clamp(max=chances.shape[1] - 1)


def mean_loss(losses: Tensor, weights: Tensor, known: Tensor) -> float:
    """The mean loss over the population: unbiased where all labels are known.

    Where some have none, it is the weighted mean of those known, for samples that have a label: a
    ratio of two unbiased sums (Hájek), which is never beyond the losses themselves.

    Args:
        losses: float, (M,), of each label asked for; what stands where there is none plays no part.
        weights: float, (M,), how much each counts.
        known: bool, (M,), whether an answer is a label.

    Returns:
        The mean; NaN without labels.
    """
    sums, shares = _terms(losses, weights, known)
    return float(sums.sum() / shares.sum()) if known.any() else float("nan")


def interval(
    losses: Tensor, weights: Tensor, known: Tensor, most: float, level: float = 0.95
) -> tuple[float, float]:
    """What the mean loss may be, by losses between 0 and 1 of independent draws.

    Gaffke's bounds. With equal weights they are the interval of Clopper and Pearson, which covers
    the truth at least as often as ``level`` says, whatever the model. With others they are
    conjectured to, for all distributions of bounded values: nobody has proved it, and where it was
    tried they did (benchmarks/audit.md). They hold for one model by itself, not for many at once.

    Args:
        losses: float, (M,), in [0, 1]; see `mean_loss`.
        weights: float, (M,), at most ``most``.
        known: bool, (M,); see `mean_loss`.
        most: The largest weight that a draw may have, 1 or more.
        level: How often it covers the truth.

    Returns:
        Its ends, in [0, 1]: 0 and 1 without labels.

    Reference:
        N. Gaffke. Three test statistics for a nonparametric one-sided hypothesis on the mean of a
        nonnegative variable. Mathematical Methods of Statistics 14, 2005.
        E. Learned-Miller and P. S. Thomas. A new confidence interval for the mean of a bounded
        random variable. arXiv:1905.06208, 2019.
    """
    if not known.any():
        return 0.0, 1.0
    terms = torch.stack(_terms(losses, weights, known))
    equal, counts = torch.unique(terms, dim=1, return_counts=True)
    sums, shares = (row.expand(2, -1) for row in equal)
    share = _largest_share(known, most)
    wanted = torch.tensor([1 - level, 1 + level], dtype=torch.float64) / 2
    low, high = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    for _ in range(_STEPS // 2):
        middle = (low + high) / 2
        found = torch.stack(_support(sums, shares, counts, most, share, middle)).diagonal()
        below = found < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    first, last = float(low[0]), float(high[1])
    return first if first > _NEAR else 0.0, last if last < 1 - _NEAR else 1.0


def support(
    losses: Tensor, weights: Tensor, known: Tensor, most: float, means: Tensor
) -> tuple[Tensor, Tensor]:
    """How far some draws speak for a mean loss below each of some numbers.

    The losses, with one more that is as low or as high as can be, get random weights that are
    spread evenly over all that sum to 1; so the chance that their mean lies below a number is that
    of a sum of exponential variables to lie below 0.

    Args:
        losses: float, (M,) or for several runs (R, M); see `interval`, and for the next three.
        weights: float, of the same shape.
        known: bool, of the same shape.
        most: The largest weight.
        means: float64, (R,), numbers in [0, 1].

    Returns:
        float64, (R,), (R,), in [0, 1]: with the lowest loss as one more, and with the highest. The
        mean is in the interval of level 1 - 2 a where the first is a or more, and the second 1 - a
        or less.
    """
    sums, shares = _terms(losses, weights, known)
    counts = torch.ones(sums.shape[-1], dtype=torch.int64)
    return _support(sums, shares, counts, most, _largest_share(known, most), means)


def _support(
    sums: Tensor, shares: Tensor, counts: Tensor, most: float, share: Tensor, means: Tensor
) -> tuple[Tensor, Tensor]:
    """See `support`; each of the terms stands for so many equal ones: int64, (M,)."""
    rows = sums - means[:, None] * shares
    counts = torch.cat([counts, torch.ones(1, dtype=torch.int64)])
    lowest, highest = (
        chance_below(torch.cat([rows, (more - means * share)[:, None]], 1), counts)
        for more in (0.0, most)
    )
    return lowest, highest


def chance_below(factors: Tensor, counts: Tensor) -> Tensor:
    """The chance that a sum of exponential variables times factors is not above 0.

    The inverse of the moment generating function of the sum, prod 1 / (1 - z f), by a line through
    the saddle point, where the integrand is highest and turns least.

    Args:
        factors: float64, (R, n): R sums, of n factors each; 0 adds nothing.
        counts: int64, (n,), how many variables have each factor.

    Returns:
        float64, (R,), to about 1e-7.
    """
    turned = (counts * factors).sum(1) > 0
    factors = torch.where(turned[:, None], -factors, factors)  # now the mean is 0 or lower
    above = torch.zeros(len(factors), dtype=torch.float64)
    some = factors.amax(1) > 0
    parts = torch.split(factors[some], max(1, _ROWS // (len(_LINE) * len(counts))))
    above[some] = torch.cat([above[:0], *(_upper_tail(part, counts) for part in parts)])
    return torch.where(turned, above, 1 - above)


def _upper_tail(factors: Tensor, counts: Tensor) -> Tensor:
    """The chance to be above 0 where the mean is 0 or lower, and some factor higher."""
    low, high = torch.zeros(len(factors), dtype=torch.float64), 1 / factors.amax(1)
    for _ in range(_STEPS):
        place = (low + high) / 2
        slopes = factors / (1 - place[:, None] * factors)
        rising = (counts * slopes).sum(1) > 1 / place
        low, high = torch.where(rising, low, place), torch.where(rising, place, high)
    slopes = factors / (1 - low[:, None] * factors)
    width = ((counts * slopes**2).sum(1) + low**-2).rsqrt()[:, None]
    points = torch.complex(low[:, None].expand(-1, len(_LINE)), width * _LINE.sinh())
    logs = torch.log(1 - points[:, :, None] * factors[:, None])
    heights = torch.exp(-(counts * logs).sum(2) - points.log()).real * width * _LINE.cosh()
    return (torch.trapezoid(heights, _LINE) / torch.pi).clamp(0, 1)


def _terms(losses: Tensor, weights: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Sums and shares, of which the ratio is the mean loss: (..., M) each, float64.

    Where all labels are known the shares are 1, which is the mean of the weights. Where some are
    not, the weights of the known ones say how much of the population has a label.
    """
    weights = weights.double()
    sums = torch.where(known, weights * losses.double(), 0.0)
    shares = torch.where(known.all(-1, keepdim=True), 1.0, weights)
    return sums, torch.where(known, shares, 0.0)


def _largest_share(known: Tensor, most: float) -> Tensor:
    """float64, (...): the largest share that a further draw may have, see `_terms`."""
    return torch.where(known.all(-1), 1.0, most).double()
