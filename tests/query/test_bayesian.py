"""BatchBALD against enumeration of the joint distribution in float64."""

from __future__ import annotations

import importlib
import itertools
import math

import pytest
import torch
from torch import Tensor

from dal.query import BALD, BatchBALD, Members, PoolView, bald, batchbald
from dal.query.batchbald import NEGLIGIBLE, Outcomes, conditional_gains, thin

module = importlib.import_module("dal.query.batchbald")


def committee(
    size: int = 4, count: int = 8, classes: int = 3, spread: float = 1.0, seed: int = 0
) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    common = torch.randn(count, classes, generator=rng)
    logits = common + torch.randn(size, count, classes, generator=rng) * spread
    return logits.double().softmax(-1)


def enumerated_information(members: Tensor, batch: tuple[int, ...]) -> float:
    """H(y_1..m) - sum of mean H(y_i | member), over all labels in turn."""
    size, _, classes = members.shape
    rows = members.tolist()
    joint = 0.0
    for labels in itertools.product(range(classes), repeat=len(batch)):
        p = math.fsum(
            math.prod(rows[k][i][y] for i, y in zip(batch, labels, strict=True))
            for k in range(size)
        )
        p /= size
        joint -= p * math.log(p) if p > 0 else 0.0
    noise = [-p * math.log(p) for k in range(size) for i in batch for p in rows[k][i] if p > 0]
    return joint - math.fsum(noise) / size


def brute_force(members: Tensor, query_size: int) -> tuple[list[int], list[float]]:
    chosen: list[int] = []
    values: list[float] = []
    for _ in range(query_size):
        rest = [i for i in range(members.shape[1]) if i not in chosen]
        value, best = max((enumerated_information(members, (*chosen, i)), i) for i in rest)
        chosen.append(best)
        values.append(value)
    return chosen, values


def run(
    members: Tensor, query_size: int, samples: int = 4000, seed: int = 0
) -> tuple[list[int], Tensor, int]:
    keys = torch.rand(members.shape[1], dtype=torch.float64, generator=torch.Generator())
    rng = torch.Generator().manual_seed(seed)
    positions, gains, exact = batchbald(members, query_size, rng, keys, samples)
    return positions.tolist(), gains, exact


def outcomes_after(
    members: Tensor, batch: tuple[int, ...], samples: int = 10**6, seed: int = 0
) -> Outcomes:
    outcomes = Outcomes(len(members), samples, members.device)
    rng = torch.Generator().manual_seed(seed)
    for position in batch:
        outcomes.add(members[:, position], rng)
    return outcomes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_greedy_choice_and_information_equal_enumeration(
    classes: int, spread: float, dtype: torch.dtype
) -> None:
    members = committee(4, 8, classes, spread).to(dtype)
    chosen, values = brute_force(members.double(), 5)
    got, gains, exact = run(members, 5)
    assert got == chosen
    assert exact == 5
    want = torch.tensor(values, dtype=torch.float64)
    atol = 1e-6 if dtype == torch.float32 else 1e-8
    torch.testing.assert_close(gains.cumsum(0), want, rtol=0, atol=atol)


def test_every_gain_equals_enumeration() -> None:
    members = committee(5, 9, 3)
    batch = (2, 7, 4)
    before = enumerated_information(members, batch)
    gains = conditional_gains(outcomes_after(members, batch), members)
    for position in set(range(9)) - set(batch):
        want = enumerated_information(members, (*batch, position)) - before
        assert float(gains[position]) == pytest.approx(want, abs=1e-12)


def test_first_choice_is_that_of_bald() -> None:
    members = committee(6, 300, 4)
    positions, gains, _ = run(members, 1)
    assert positions == [int(bald(members).argmax())]
    torch.testing.assert_close(gains[0], bald(members).max())


def test_a_duplicate_gains_what_a_second_label_tells() -> None:
    """Two equal samples of two sure members: the second label tells nothing."""
    sure = torch.tensor([[[1.0, 0.0]] * 2 + [[0.6, 0.4]], [[0.0, 1.0]] * 2 + [[0.4, 0.6]]])
    members = sure.double()
    positions, gains, _ = run(members, 3)
    assert positions[0] in (0, 1)
    assert float(gains[0]) == pytest.approx(math.log(2))
    assert gains[1:].tolist() == pytest.approx([0, 0], abs=1e-9)
    copies = committee(4, 6, 3)
    copies[:, 5] = copies[:, 2]
    alone = enumerated_information(copies, (2,))
    second = enumerated_information(copies, (2, 5)) - alone
    gain = conditional_gains(outcomes_after(copies, (2,)), copies)[5]
    assert float(gain) == pytest.approx(second, abs=1e-12)
    assert 0 < second < alone


def test_a_redundant_pool_is_not_queried_twice_in_the_same_place() -> None:
    """Five copies of the sample with the highest BALD: BALD takes them all."""
    members = committee(10, 40, 3, spread=2.0)
    best = int(bald(members).argmax())
    members[:, :5] = members[:, best : best + 1]
    copies = {*range(5), best}
    view = PoolView(torch.arange(40), {Members(): members}, num_total=40, num_classes=3)
    rng = torch.Generator().manual_seed(0)
    assert set(BALD().select(view, 5, rng).indices.tolist()) <= copies
    batch = BatchBALD().select(view, 5, rng)
    assert len(set(batch.indices.tolist()) & copies) <= 2
    assert batch.info["exact"] == 5


def test_samples_on_which_members_agree_gain_nothing() -> None:
    members = committee(4, 6, 3)
    members[:, 1:] = members[:1, 1:]
    positions, gains, _ = run(members, 3)
    assert positions[0] == 0
    assert gains[1:].tolist() == pytest.approx([0, 0], abs=1e-9)


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.5])
def test_thinned_outcomes_are_closer_than_the_papers_estimate_with_more_samples(
    spread: float,
) -> None:
    members = committee(20, 12, 10, spread)
    batch = tuple(run(members, 5, samples=10**5)[0])
    exact = outcomes_after(members, batch)
    assert exact.exact
    want = conditional_gains(exact, members)
    errors: list[Tensor] = []
    theirs: list[Tensor] = []
    noise = -torch.xlogy(members, members).sum(-1).mean(0)
    joint = -torch.xlogy(exact.shares_S, exact.shares_S).sum() + want + noise
    for seed in range(5):
        thinned = outcomes_after(members, batch, samples=4000, seed=seed)
        assert not thinned.exact
        assert len(thinned.shares_S) <= 4000
        errors.append(conditional_gains(thinned, members) - want)
        # Kirsch et al. 2019, equation 12, with 10,000 samples.
        rng = torch.Generator().manual_seed(seed)
        given = torch.ones(10_000, 20, dtype=torch.float64)
        for position in batch:
            labels = torch.multinomial(members[:, position], 500, True, generator=rng).flatten()
            given *= members[:, position].T[labels]
        both = (given @ members.flatten(1) / 20).view(-1, 12, 10)
        ratio = both / given.mean(1).view(-1, 1, 1)
        estimate = -(ratio * both.log()).sum(-1).mean(0)
        theirs.append(estimate - joint)

    def rms(values: list[Tensor]) -> float:
        return float(torch.stack(values).square().mean().sqrt())

    assert rms(errors) < 2e-3
    assert rms(errors) < rms(theirs) / 5
    # Even without the error that all candidates share, which changes no choice.
    assert rms([error - error.mean() for error in errors]) < rms([e - e.mean() for e in theirs])


def test_thinning_is_unbiased_and_keeps_the_probable() -> None:
    rng = torch.Generator().manual_seed(0)
    masses = torch.rand(60, dtype=torch.float64, generator=rng) ** 6
    masses /= masses.sum()
    total = torch.zeros_like(masses)
    for _ in range(1500):
        kept, shares = thin(masses, 12, rng)
        assert len(kept) <= 13
        assert float(shares.sum()) == pytest.approx(1, abs=0.05)
        assert bool((kept[1:] > kept[:-1]).all())
        total[kept] += shares / 1500
    largest = masses.topk(3).indices
    assert bool(torch.isin(largest, kept).all())
    torch.testing.assert_close(total[largest], masses[largest])
    torch.testing.assert_close(total, masses, rtol=0, atol=8e-3)


def test_thinning_keeps_all_that_matter_where_they_fit() -> None:
    masses = torch.tensor([0.5, 0.0, 0.25, NEGLIGIBLE / 100, 0.25], dtype=torch.float64)
    kept, shares = thin(masses, 3, torch.Generator())
    assert kept.tolist() == [0, 2, 4]
    assert shares.tolist() == [0.5, 0.25, 0.25]


def test_many_samples_and_few_outcomes_stay_finite_and_distinct() -> None:
    members = committee(6, 40, 5, spread=5.0).float()
    members[:, :10] = torch.eye(5)[0]
    positions, gains, exact = run(members, 40, samples=50)
    assert sorted(positions) == list(range(40))
    assert bool(torch.isfinite(gains).all())
    assert 1 <= exact < 40
    assert float(gains.sum()) < math.log(6) + 0.1


def test_same_seed_same_batch_and_the_seed_decides_drawn_outcomes_only() -> None:
    members = committee(10, 60, 6, spread=2.0)
    first = run(members, 8, samples=60, seed=1)
    again = run(members, 8, samples=60, seed=1)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    others = [run(members, 8, samples=60, seed=seed) for seed in range(2, 8)]
    assert all(other[0][: first[2]] == first[0][: first[2]] for other in others)
    assert any(other[0] != first[0] for other in others)


def test_lazy_evaluation_changes_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    members = committee(8, 400, 3, spread=1.5)
    monkeypatch.setattr(module, "REFRESHED_AT_ONCE", 8)
    lazy = run(members, 7)
    monkeypatch.setattr(module, "SLACK", 10.0)
    assert run(members, 7)[0] == lazy[0]


def test_prefilter_keeps_the_candidates_of_highest_bald() -> None:
    members = committee(6, 100, 3)
    view = PoolView(torch.arange(100) * 2, {Members(): members}, num_total=200, num_classes=3)
    best = set((bald(members).topk(12).indices * 2).tolist())
    rng = torch.Generator().manual_seed(0)
    query = BatchBALD(max_candidates=12).select(view, 6, rng)
    assert set(query.indices.tolist()) <= best
    whole = BatchBALD(max_candidates=3).select(view, 6, rng)
    assert len(whole.indices) == 6


@pytest.mark.parametrize("options", [{"samples": 0}, {"max_candidates": 0}])
def test_settings_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"strategy\.\w+=0; give at least 1"):
        BatchBALD(**options)


def test_members_are_not_modified() -> None:
    members = committee(6, 30, 3)
    before = members.clone()
    batchbald(members, 4, torch.Generator(), torch.rand(30).double())
    assert torch.equal(members, before)
