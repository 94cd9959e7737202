"""Estimates and intervals from few labels, against binomials, plain sums and made-up runs."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from dal import risk

ALL = torch.ones
SIDE = 0.025
"""What an interval of 95 % leaves out on each side."""


def lure_weights(chances: list[float], total: int) -> list[float]:
    """Farquhar et al. 2021, equation 8, with M picks of N samples, each by its chance."""
    drawn = len(chances)
    return [
        1 + (total - drawn) / (total - m) * (1 / ((total - m + 1) * chance) - 1)
        for m, chance in enumerate(chances, 1)
    ]


def known(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def sigmoids(mean: float, spread: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Chances to be wrong, of a given mean, that differ from sample to sample."""
    draws, low, high = torch.randn(100_000, generator=rng).double() * spread, -30.0, 30.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if (draws + middle).sigmoid().mean() > mean else (middle, high)
    return (torch.randn(shape, generator=rng).double() * spread + middle).sigmoid()


@pytest.mark.parametrize(
    ("count", "wrong"), [(1, 0), (1, 1), (5, 5), (20, 0), (20, 1), (100, 7), (2000, 900)]
)
def test_interval_of_equal_weights_is_that_of_clopper_and_pearson(count: int, wrong: int) -> None:
    losses = (torch.arange(count) < wrong).double()
    low, high = risk.interval(losses, ALL(count), known(count), 1.0)
    binomial = stats.binomtest(wrong, count).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((binomial.low, binomial.high), abs=1e-7)
    wider = risk.interval(losses, ALL(count), known(count), 1.0, level=0.99)
    assert wider[0] <= low <= high <= wider[1]


def test_chance_of_a_sum_of_exponentials_below_zero() -> None:
    factors = torch.tensor([[3.0, -1.0], [-1.0, -2.0], [0.0, 2.0], [1.0, -1.0]]).double()
    chance = risk.chance_below(factors, torch.ones(2).long())
    assert chance.tolist() == pytest.approx([1 / 4, 1, 0, 1 / 2], abs=1e-7)
    rng = torch.Generator().manual_seed(0)
    factors = torch.randn(1, 7, generator=rng).double() - 0.3
    counts = torch.tensor([1, 2, 1, 3, 1, 1, 5])
    draws = torch.empty(400_000, int(counts.sum())).double().exponential_(generator=rng)
    sums = draws @ factors[0].repeat_interleave(counts)
    assert float(risk.chance_below(factors, counts)) == pytest.approx(
        float((sums <= 0).double().mean()), abs=0.004
    )


def test_rates_follow_doubts_and_leave_no_sample_out() -> None:
    doubts = torch.tensor([[0.0, 0.04, 0.64], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    rates = risk.rates(doubts)
    assert torch.allclose(rates.mean(1), torch.ones(3).double())
    assert (rates >= risk.EVEN).all()
    assert torch.allclose(rates[1:], torch.ones(2, 3).double())
    above = rates[0] - risk.EVEN
    assert float(above[2] / above[1]) == pytest.approx(4, abs=1e-6)  # square roots


def test_one_label_a_block_has_the_weight_of_lure() -> None:
    rates = risk.rates(torch.rand(4, 6, generator=torch.Generator().manual_seed(1)))
    for rate in rates.flatten().tolist():
        assert lure_weights([rate / 6], 6) == pytest.approx([1 / rate])


def test_estimate_is_unbiased_over_all_that_may_be_drawn() -> None:
    rng = torch.Generator().manual_seed(2)
    rates, losses = risk.rates(torch.rand(1, 5, generator=rng))[0], torch.rand(5, generator=rng)
    found = [
        rate / 5 * risk.mean_loss(loss[None], 1 / rate[None], known(1))
        for rate, loss in zip(rates, losses, strict=True)
    ]
    assert float(sum(found)) == pytest.approx(float(losses.mean()), abs=1e-6)


def test_samples_without_a_class_are_left_out() -> None:
    losses, there = torch.tensor([1.0, 0, 0, 1, 0]), torch.tensor([True, True, False, True, True])
    assert risk.mean_loss(losses, ALL(5), there) == 0.5
    left = risk.interval(losses[there], ALL(4), known(4), 1.0)
    assert risk.interval(losses, ALL(5), there, 1.0) == pytest.approx(left, abs=1e-6)
    nobody = torch.zeros(5, dtype=torch.bool)
    assert risk.interval(losses, ALL(5), nobody, 1.0) == (0.0, 1.0)
    assert risk.mean_loss(losses, ALL(5), nobody) != risk.mean_loss(losses, ALL(5), nobody)
    # With weights: many draws tell the share of errors among samples that have a class.
    rng = torch.Generator().manual_seed(3)
    wrong, classed = (
        torch.rand(2, 20_000, 10, generator=rng) < torch.tensor([0.3, 0.8])[:, None, None]
    )
    rates = risk.rates(torch.rand(20_000, 10, generator=rng))
    places = risk.drawn(rates, torch.rand(20_000, generator=rng).double())[:, None]
    chosen, has, rate = (x.gather(1, places)[:, 0] for x in (wrong, classed, rates))
    truth = float(wrong[classed].double().mean())
    assert risk.mean_loss(chosen.double(), 1 / rate, has) == pytest.approx(truth, abs=0.01)


def test_estimate_among_samples_with_a_class_is_a_mean_of_their_losses() -> None:
    # Two that count little have a class, and three that count much have none.
    weights, there = torch.tensor([0.4, 0.2, 1.4, 1.4, 1.4]), torch.arange(5) < 2
    losses = torch.tensor([1.0, 0, 1, 1, 1])
    found = risk.mean_loss(losses, weights, there)
    assert found == pytest.approx(2 / 3)
    low, high = risk.interval(losses, weights, there, 1 / risk.EVEN)
    assert 0 <= low < found < high <= 1
    assert risk.mean_loss(ALL(5), weights, there) == pytest.approx(1)
    assert risk.interval(ALL(5), weights, there, 1 / risk.EVEN)[1] == 1


@pytest.mark.parametrize("doubt", [0.0, 0.6])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_weighted_intervals_cover_the_truth_where_many_samples_have_no_class(
    share: float, doubt: float
) -> None:
    rng, labels = torch.Generator().manual_seed(7), 30
    chances = sigmoids(0.15, 2.0, (1000 * labels, 10), rng)
    foreign = torch.rand(chances.shape, generator=rng) < share
    rates = risk.rates(torch.where(foreign, doubt, chances))
    places = risk.drawn(rates, torch.rand(1000 * labels, generator=rng).double())[:, None]
    wrong = torch.rand(1000 * labels, generator=rng) < chances.gather(1, places)[:, 0]
    drawn = (wrong.double(), 1 / rates.gather(1, places)[:, 0], ~foreign.gather(1, places)[:, 0])
    low, high = risk.support(
        *(one.view(1000, labels) for one in drawn),
        1 / risk.EVEN,
        torch.full((1000,), 0.15).double(),
    )
    assert enough(int(((low >= SIDE) & (high <= 1 - SIDE)).sum()))


def test_draws_follow_the_chances() -> None:
    chances = torch.tensor([[1.0, 2.0, 0.0, 5.0]]).double()
    uniform = (torch.arange(800).double() + 0.5) / 800
    places = risk.drawn(chances.expand(800, -1), uniform)
    assert torch.bincount(places, minlength=4).tolist() == [100, 200, 0, 500]


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.9, 0.99])
def test_random_intervals_cover_the_truth_over_made_up_runs(accuracy: float) -> None:
    rng = torch.Generator().manual_seed(4)
    for labels in (20, 50, 200):
        wrong = (torch.rand(1000, labels, generator=rng) > accuracy).double().sum(1)
        counts, times = torch.unique(wrong.long(), return_counts=True)
        losses = (torch.arange(labels) < counts[:, None]).double()
        ones, there = torch.ones(losses.shape), torch.ones(losses.shape, dtype=torch.bool)
        means = torch.full((len(counts),), 1 - accuracy).double()
        low, high = risk.support(losses, ones, there, 1.0, means)
        assert enough(int(times[(low >= SIDE) & (high <= 1 - SIDE)].sum()))


@pytest.mark.parametrize("sharpness", [1.0, 0.3, -1.0])
@pytest.mark.parametrize(("accuracy", "labels"), [(0.6, 30), (0.9, 50), (0.99, 20)])
def test_weighted_intervals_cover_the_truth_over_made_up_runs(
    accuracy: float, labels: int, sharpness: float
) -> None:
    # The model's doubts are too extreme, too even, or the wrong way round.
    rng = torch.Generator().manual_seed(int(100 * accuracy))
    chances = sigmoids(1 - accuracy, 2.5, (1000 * labels, 10), rng)
    rates = risk.rates((chances.logit() * sharpness).sigmoid())
    places = risk.drawn(rates, torch.rand(1000 * labels, generator=rng).double())[:, None]
    wrong = torch.rand(1000 * labels, generator=rng) < chances.gather(1, places)[:, 0]
    weights = 1 / rates.gather(1, places)[:, 0]
    low, high = risk.support(
        wrong.double().view(1000, labels),
        weights.view(1000, labels),
        known(1000 * labels).view(1000, labels),
        1 / risk.EVEN,
        torch.full((1000,), 1 - accuracy).double(),
    )
    assert enough(int(((low >= SIDE) & (high <= 1 - SIDE)).sum()))


def enough(covered: int) -> bool:
    """Whether 1,000 intervals of 95 % cover so often, but for chance that comes once in 10,000."""
    return bool(covered >= stats.binom.ppf(1e-4, 1000, 0.95))


def test_interval_of_weights_is_that_of_its_support() -> None:
    rng = torch.Generator().manual_seed(6)
    losses = (torch.rand(40, generator=rng) < 0.3).double()
    weights = torch.rand(40, generator=rng).double() / risk.EVEN
    low, high = risk.interval(losses, weights, known(40), 1 / risk.EVEN)
    ends = torch.tensor([low, high]).double()
    below, above = risk.support(
        losses.expand(2, -1), weights.expand(2, -1), known(40).expand(2, -1), 1 / risk.EVEN, ends
    )
    assert float(below[0]) == pytest.approx(SIDE, abs=1e-5)
    assert float(above[1]) == pytest.approx(1 - SIDE, abs=1e-5)
    assert low < risk.mean_loss(losses, weights, known(40)) < high
