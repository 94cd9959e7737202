"""How wide the intervals of an audit are, and how often they cover the truth, in made-up runs.

Writes the tables of benchmarks/audit.md: ``python benchmarks/audit.py``. Errors of the model are
drawn sample by sample, each with a probability of its own (logits are normal, deviation 2.5), and
the model's doubts are these, sharpened by a factor: 1 is calibrated, 3 too sure, 0.3 too unsure, -1
the wrong way round.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from dal import risk
from dal.runs.reserve import BLOCK

ACCURACIES, SIZES, SHARPNESS = (
    (0.6, 0.8, 0.9, 0.95, 0.99),
    (20, 50, 100, 200),
    (1.0, 3.0, 0.3, -1.0),
)
COVERED, WIDTHS = 1000, 20
"""Made-up runs of a cell, for coverage and for widths."""
K = BLOCK["loss"]


def errors(accuracy: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """How probable it is for each sample that the model is wrong: float64, of mean 1 - accuracy."""
    draws = torch.randn(100_000, generator=rng).double() * 2.5
    low, high = -30.0, 30.0
    for _ in range(50):
        middle = (low + high) / 2
        high, low = (
            (middle, low) if (draws + middle).sigmoid().mean() > 1 - accuracy else (high, middle)
        )
    return (torch.randn(shape, generator=rng).double() * 2.5 + low).sigmoid()


def audits(
    accuracy: float, sharpness: float, runs: int, size: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Whether each label drawn by loss was wrong, and its weight: float64, (runs, size)."""
    chances = errors(accuracy, (runs * size, K), rng)
    rates = risk.rates((chances.logit() * sharpness).sigmoid())
    places = risk.drawn(rates, torch.rand(runs * size, generator=rng).double())[:, None]
    wrong = torch.rand(runs * size, generator=rng) < chances.gather(1, places)[:, 0]
    return wrong.double().view(runs, size), 1 / rates.gather(1, places)[:, 0].view(runs, size)


def covered(wrong: Tensor, weights: Tensor, most: float, accuracy: float) -> float:
    """The share of runs whose interval covers the truth."""
    means = torch.full((len(wrong),), 1 - accuracy).double()
    low, high = risk.support(wrong, weights, torch.ones(wrong.shape).bool(), most, means)
    return float(((low >= 0.025) & (high <= 0.975)).double().mean())


def width(wrong: Tensor, weights: Tensor, most: float) -> float:
    """The mean width of the intervals of some runs."""
    known = torch.ones(wrong.shape[1]).bool()
    ends = [risk.interval(x, w, known, most) for x, w in zip(wrong, weights, strict=True)]
    return sum(high - low for low, high in ends) / len(ends)


def main() -> None:
    """Write the table, line by line."""
    rng = torch.Generator().manual_seed(0)
    sys.stdout.write(
        "| accuracy | labels | covered: random | loss, least of four | width: random | loss "
        "| ratio | loss, doubts reversed | variance of the estimate, loss / random |\n"
        f"|{'---:|' * 9}\n"
    )
    for accuracy in ACCURACIES:
        for size in SIZES:
            plain = (torch.rand(COVERED, size, generator=rng) > accuracy).double()
            ones = torch.ones(plain.shape).double()
            drawn = {s: audits(accuracy, s, COVERED, size, rng) for s in SHARPNESS}
            most = 1 / risk.EVEN
            shares = [covered(*pair, most, accuracy) for pair in drawn.values()]
            alone = width(plain[:WIDTHS], ones[:WIDTHS], 1.0)
            wide, turned = (
                width(*(x[:WIDTHS] for x in drawn[sharpness]), most) for sharpness in (1.0, -1.0)
            )
            wrong, weights = drawn[1.0]
            gain = float((wrong * weights).mean(1).var()) / (accuracy * (1 - accuracy) / size)
            sys.stdout.write(
                f"| {accuracy} | {size} | {covered(plain, ones, 1.0, accuracy):.3f} | "
                f"{min(shares):.3f} | {alone:.3f} | {wide:.3f} | {wide / alone:.2f} | "
                f"{turned:.3f} | {gain:.2f} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
