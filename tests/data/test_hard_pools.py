"""Harder pools: counts, seeds, what stays untouched, and runs that meet foreign samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import dal
from dal.data import Dataset, Source, initial_labels, make_source
from dal.data.foreign import Ood
from dal.data.hard_pools import HardPool, Imbalanced, Noisy, Repeated, harden
from dal.data.source import UNKNOWN
from dal.models import LogisticRegression
from dal.oracles import SimulatedOracle
from dal.query import CoreSet, Entropy, PoolView, Query, Random, Strategy
from dal.training.trainer import Trainer

NAMES = ("ant", "bee", "cat", "dog")


def images(count: int = 400, shape: tuple[int, ...] = (1, 4, 4), seed: int = 0) -> Dataset:
    """Balanced classes of images, told apart by one bright pixel; all of them different."""
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 200, (count, *shape), dtype=torch.uint8, generator=rng)
    targets = torch.arange(count) % 4
    inputs.flatten(1)[torch.arange(count), targets] = 255
    return Dataset("insects", inputs, targets, NAMES, mean=(0.4,), std=(0.3,))


def source(seed: int = 0, **split: Any) -> Source:
    return make_source(images(), seed=seed, **split)


def features() -> Source:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 3, generator=rng) * torch.tensor([1.0, 10.0, 100.0])
    return make_source(
        Dataset("table", inputs, torch.arange(200) % 4, NAMES, standardize=True), seed=0
    )


def counts(targets: Tensor) -> list[int]:
    return torch.bincount(targets[targets >= 0], minlength=4).tolist()


FOREIGN = images(500, seed=9)
ALL: list[HardPool] = [
    Imbalanced(),
    Imbalanced(kind="step", shuffle=True),
    Ood(data=FOREIGN, ratio=0.5),
    Ood(classes=["cat"]),
    Repeated(),
    Noisy(0.3),
    Noisy(0.3, {"ant": "bee"}),
]


def same(a: Source, b: Source) -> bool:
    return a.fingerprint() == b.fingerprint()


@pytest.mark.parametrize("pool", ALL, ids=repr)
def test_seed_decides_and_nothing_else(pool: HardPool) -> None:
    given = source()
    before = given.fingerprint()
    state = torch.get_rng_state()
    first = pool(given, seed=3)
    torch.rand(7)
    again = pool(given, seed=3)
    assert same(first, again)
    assert given.fingerprint() == before
    drawn = not (isinstance(pool, Ood) and pool.ratio is None)
    assert same(first, pool(given, seed=4)) != drawn
    torch.set_rng_state(state)
    pool(given, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("pool", ALL, ids=repr)
def test_test_part_stays_and_is_not_in_the_pool(pool: HardPool) -> None:
    given = source(validation=40)
    hard = pool(given, seed=0)
    if isinstance(pool, Ood) and pool.classes:
        kept = given.test.targets != 2
        assert torch.equal(hard.test.inputs, given.test.inputs[kept])
        assert hard.class_names == ("ant", "bee", "dog")
        assert torch.equal(hard.test.targets, torch.tensor([0, 1, -1, 2])[given.test.targets[kept]])
    else:
        assert torch.equal(hard.test.inputs, given.test.inputs)
        assert torch.equal(hard.test.targets, given.test.targets)
    assert given.validation is not None
    for split in (given.test, given.validation):
        assert not torch.isin(split.positions, hard.train.positions).any()  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", ALL, ids=repr)
def test_positions_name_the_rows_of_the_data_set(pool: HardPool) -> None:
    data, given = images(), source()
    hard = pool(given, seed=0)
    original = torch.tensor(hard.train.original(torch.arange(len(hard.train))))
    rows = torch.cat([data.inputs, FOREIGN.inputs])[original].float()
    differences = (hard.train.inputs.float() - rows).abs().flatten(1).amax(1)
    copied = torch.arange(len(hard.train)) >= len(given.train)
    if isinstance(pool, Repeated):
        assert float(differences[copied].min()) > 0
        assert float(differences.max()) < 60  # eight standard deviations
        differences = differences[~copied]
    assert (differences == 0).all()


@pytest.mark.parametrize("ratio", [1.0, 2.0, 10.0, 70.0])
@pytest.mark.parametrize("shuffle", [False, True])
def test_long_tail_has_the_ratio_and_falls_geometrically(ratio: float, shuffle: bool) -> None:
    hard = Imbalanced(ratio, shuffle=shuffle)(source(), seed=1)
    found = counts(hard.train.targets)
    assert shuffle or found == sorted(found, reverse=True)
    want = [round(70 * ratio ** (-c / 3)) for c in range(4)]
    assert sorted(found, reverse=True) == want
    assert (found != want) == (shuffle and ratio > 1)


def test_step_makes_the_second_half_small() -> None:
    hard = Imbalanced(7.0, "step")(source(), seed=1)
    assert counts(hard.train.targets) == [70, 70, 10, 10]


def test_unequal_classes_keep_as_many_samples_as_the_ratio_allows() -> None:
    pool, rng = Imbalanced(10.0), torch.Generator()
    sizes = pool.sizes(torch.tensor([1000, 100, 5]), ("a", "b", "c"), rng)
    assert sizes.tolist() == [50, 16, 5]


@pytest.mark.parametrize("copies", [1, 3])
def test_copies_have_noise_of_the_given_size(copies: int) -> None:
    given = features()
    hard = Repeated(copies, 0.1)(given, seed=0)
    count = len(given.train)
    assert len(hard.train) == count * (copies + 1)
    assert torch.equal(hard.train.inputs[:count], given.train.inputs)
    everything = torch.arange(len(hard.train))
    prepared = hard.train.take(everything).view(copies + 1, count, 3)
    noise = prepared[1:] - prepared[0]
    assert abs(float(noise.std()) - 0.1) < 0.01
    assert noise.std((0, 1)).sub(0.1).abs().max() < 0.02  # every feature, whatever its scale
    assert noise.flatten().unique().numel() == noise.numel()
    assert torch.equal(hard.train.targets, given.train.targets.repeat(copies + 1))


def test_noise_beyond_float32_is_refused() -> None:
    with pytest.raises(ValueError, match=r"difficulty\.repeated\.noise=1e\+300 .* lower it"):
        Repeated(1, 1e300)(features(), seed=0)


def test_noise_of_images_is_in_units_of_normalized_pixels() -> None:
    gray = images(2000)
    gray.inputs.fill_(128)
    given = make_source(replace(gray, mean=(0.4,), std=(0.2,)), seed=0)
    hard = Repeated(1, 0.2)(given, seed=0)
    raw = hard.train.inputs[len(given.train) :].float()
    assert hard.train.inputs.dtype == torch.uint8
    assert abs(float(raw.std()) - 0.2 * 0.2 * 255) < 0.2
    assert abs(float(raw.mean()) - 128) < 0.2


@pytest.mark.parametrize("copies", [10**12, 2**63 - 1, 10**25])
def test_more_copies_than_memory_holds_are_refused(copies: int) -> None:
    with pytest.raises(
        ValueError, match=rf"difficulty\.repeated\.copies={copies}: .* ask for less"
    ):
        Repeated(copies)(source(), seed=0)


def test_noiseless_copies_are_equal_and_pixels_stay_in_range() -> None:
    given = source()
    hard = Repeated(2, 0.0)(given, seed=0)
    assert torch.equal(hard.train.inputs, given.train.inputs.repeat(3, 1, 1, 1))
    wild = Repeated(1, 5.0)(given, seed=0).train.inputs[len(given.train) :]
    assert {0, 255} <= set(wild.unique().tolist())


def test_redundant_counts_copies_of_known_and_of_earlier_picks() -> None:
    train = Repeated(1)(source(), seed=0).train
    count = len(train) // 2
    known = torch.tensor([0, count + 5])
    picked = torch.tensor([count, 5, 7, count + 7, 8])
    assert train.redundant(picked, known) == 3
    assert train.has_copies
    assert not source().train.has_copies


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.9])
def test_symmetric_noise_has_exactly_the_rate(rate: float) -> None:
    given = source(validation=40)
    hard = Noisy(rate)(given, seed=0)
    assert hard.validation is not None
    assert given.validation is not None
    for clean, noisy in ((given.train, hard.train), (given.validation, hard.validation)):
        wrong = clean.targets != noisy.targets
        assert int(wrong.sum()) == round(rate * len(clean))
        assert noisy.targets.min() >= 0
        assert noisy.targets.max() <= 3
    if rate == 0.9:
        shift = (hard.train.targets - given.train.targets) % 4
        assert min(counts(shift)[1:]) > 40  # all other classes, about equally often


def test_asymmetric_noise_goes_where_the_mapping_says() -> None:
    given = source()
    hard = Noisy(0.5, {"ant": "bee", "cat": "ant"})(given, seed=0)
    moves = torch.zeros(4, 4, dtype=torch.int64)
    moves.index_put_((given.train.targets, hard.train.targets), torch.tensor(1), accumulate=True)
    changed = moves - moves.diagonal().diag()
    assert int(changed[0, 1] + changed[2, 0]) == 70 == int(changed.sum())


def test_foreign_samples_of_another_data_set_stand_behind_the_own() -> None:
    given = source()
    hard = Ood(data=FOREIGN, ratio=0.5)(given, seed=0)
    own = len(given.train)
    assert hard.foreign is not None
    assert hard.foreign.tolist() == [False] * own + [True] * (own // 2)
    assert (hard.train.targets[own:] == UNKNOWN).all()
    drawn = torch.tensor(hard.train.original(torch.arange(own, len(hard.train)))) - 400
    assert torch.equal(hard.train.inputs[own:], FOREIGN.inputs[drawn])
    assert len(drawn.unique()) == own // 2
    assert len(Ood(data=FOREIGN)(given, seed=0).train) == own + 500


def test_held_out_classes_become_foreign() -> None:
    given = source(validation=40)
    hard = Ood(classes=["bee", "dog"])(given, seed=0)
    assert hard.foreign is not None
    assert torch.equal(hard.foreign, (given.train.targets % 2) == 1)
    assert counts(hard.train.targets)[:2] == counts(given.train.targets)[::2]
    assert hard.num_classes == 2
    assert hard.validation is not None
    assert len(hard.validation) == 20
    few = Ood(classes=["bee", "dog"], ratio=0.25)(given, seed=0)
    assert few.foreign is not None
    assert int(few.foreign.sum()) == round(0.25 * int((~few.foreign).sum()))


def test_class_names_may_be_numbers() -> None:
    data = replace(images(), class_names=("0", "1", "2", "3"))
    assert Ood(classes=[2, 3])(make_source(data, seed=0), seed=0).class_names == ("0", "1")


def test_several_are_applied_in_one_order_whatever_the_order_given() -> None:
    pools = [Noisy(0.2), Repeated(1), Ood(data=FOREIGN, ratio=1.0), Imbalanced(7.0, "step")]
    hard = harden(source(), pools, seed=0)
    assert same(hard, harden(source(), pools[::-1], seed=0))
    assert len(hard.train) == 2 * 2 * 160
    assert hard.foreign is not None
    assert int(hard.foreign.sum()) == 2 * 160
    assert (hard.train.targets[hard.foreign] == UNKNOWN).all()
    assert not (hard.train.targets[~hard.foreign] == UNKNOWN).any()
    assert harden(source(), [], seed=0).fingerprint() == source().fingerprint()


def test_foreign_data_are_embedded_like_the_own() -> None:
    def embed(data: Dataset) -> Dataset:
        return replace(data, inputs=data.inputs.flatten(1).float(), mean=(), std=())

    given = make_source(embed(images()), seed=0)
    hard = harden(given, [Ood(data=FOREIGN)], seed=0, embed=embed)
    assert torch.equal(hard.train.inputs[-1], FOREIGN.inputs[-1].flatten().float())


MULTILABEL = make_source(
    Dataset("tags", torch.randn(20, 3), torch.ones(20, 4, dtype=torch.int64), NAMES), seed=0
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Imbalanced(0.5), r"imbalanced\.ratio=0\.5; give a number of at least 1"),
        (lambda: Imbalanced(float("nan")), r"imbalanced\.ratio=nan"),
        (lambda: Imbalanced(kind="steps"), "choose long_tailed or step"),  # type: ignore[arg-type]
        (lambda: Imbalanced(1000.0)(source(), seed=0), "leaves no sample of class 'dog'; lower"),
        (lambda: Imbalanced()(MULTILABEL, seed=0), "tags has several labels a sample"),
        (lambda: Imbalanced()(Ood(classes=["cat"])(source(), seed=0), seed=0), "are unknown"),
        (lambda: Repeated(0), r"repeated\.copies=0"),
        (lambda: Repeated(1, -0.1), r"repeated\.noise=-0\.1"),
        (lambda: Noisy(1.0), r"noisy\.rate=1\.0; give a number from 0 to below 1"),
        (lambda: Noisy(-0.1), r"noisy\.rate=-0\.1"),
        (lambda: Noisy(0.1, {"ant": "wasp"})(source(), seed=0), "by the names ant, bee, cat, dog"),
        (lambda: Noisy(0.1, {"ant": "ant"})(source(), seed=0), "classes to other classes"),
        (lambda: Noisy(0.1)(MULTILABEL, seed=0), "several labels a sample"),
        (lambda: Ood(), r"data@difficulty\.ood\.data=fashion_mnist"),
        (lambda: Ood(data=FOREIGN, classes=["cat"]), "of one kind"),
        (lambda: Ood(classes=["cat"], ratio=0.0), r"ood\.ratio=0\.0"),
        (lambda: Ood(classes=["cow"])(source(), seed=0), "name some of the classes of insects"),
        (lambda: Ood(classes=NAMES[:3])(source(), seed=0), "leave at least 2"),
        (lambda: Ood(data=FOREIGN, ratio=3.0)(source(), seed=0), "give at most 1.786"),
        (lambda: Ood(data=images())(source(), seed=0), "holds a sample of insects itself"),
        (
            lambda: Ood(data=images(9, (3, 4, 4)))(source(), seed=0),
            r"uint8 \(1, 4, 4\) and those of insects torch\.uint8 \(3, 4, 4\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_oracle_abstains_on_foreign_samples_only() -> None:
    targets, foreign = torch.tensor([0, -1, 1]), torch.tensor([False, True, False])
    oracle = SimulatedOracle(targets, foreign)
    asked = Query(torch.tensor([2, 1]), torch.zeros(2))
    answers = oracle.collect(oracle.submit(asked, 0))
    assert answers.abstained.tolist() == [False, True]
    assert answers.targets[0] == 1
    assert answers.cost.tolist() == [1, 1]
    with pytest.raises(ValueError, match="number 1 first"):
        SimulatedOracle(targets)


def go(
    hard: Source, run_dir: Path | None, strategy: Strategy | None = None, budget: int = 60
) -> Any:
    return dal.run(
        hard,
        LogisticRegression,
        strategy or Entropy(),
        initial=initial_labels(hard.train.targets, seed=0, count=8),
        trainer=Trainer(epochs=2),
        settings=dal.Settings(budget=budget, query_size=20, figures=False),
        run_dir=run_dir,
    )


@pytest.mark.parametrize("strategy", [Random(), CoreSet()], ids=["random", "coreset"])
def test_foreign_samples_cost_and_are_never_trained_on(strategy: Strategy, tmp_path: Path) -> None:
    hard = Ood(data=FOREIGN)(source(), seed=0)
    result = go(hard, tmp_path, strategy)
    pool, foreign = result.job.pool, hard.is_foreign
    picks = torch.tensor([index for _, index, *_ in result.job.pool.queries()])
    wasted = int(foreign[picks].sum())
    assert 10 < wasted < 60
    assert len(picks.unique()) == 60 == pool.num_queried
    assert not foreign[pool.train_set().indices].any()
    assert len(pool.train_set()) == 8 + 60 - wasted
    assert [row["trained_on"] for row in result.rows][-1] == len(pool.train_set())
    assert [row["labels"] for row in result.rows] == [8, 28, 48, 68]
    assert [row["queried"] for row in result.rows] == [0, 20, 40, 60]
    answers = [line.split(",")[3] for line in (tmp_path / "queries.csv").read_text().split()[1:]]
    assert answers.count("?") == wasted
    assert not torch.isin(picks, result.job.candidates).any()


def test_pool_of_foreign_samples_only_ends_when_it_is_asked_through() -> None:
    hard = Ood(data=FOREIGN, ratio=0.1)(source(), seed=0)
    result = go(hard, None, budget=10_000)
    assert result.reason == "pool_exhausted"
    assert len(result.job.pool.train_set()) == 280
    assert result.rows[-1]["trained_on"] == 280
    assert result.rows[-1]["labels"] == len(hard.train) == 280 + int(hard.is_foreign.sum())


def test_run_on_a_hard_pool_resumes_to_the_same_bits(tmp_path: Path) -> None:
    hard = harden(source(), [Ood(data=FOREIGN, ratio=0.5), Repeated(1), Noisy(0.2)], seed=0)
    go(hard, tmp_path / "whole")
    go(hard, tmp_path / "parts", budget=20)
    go(hard, tmp_path / "parts")
    queries, rows = ([(tmp_path / run / name) for run in ("whole", "parts")] for name in (
        "queries.csv", "metrics.jsonl"))  # fmt: skip
    assert queries[0].read_bytes() == queries[1].read_bytes()
    read = [
        [
            {k: v for k, v in json.loads(x).items() if k[-2:] != "_s"}
            for x in path.read_text().splitlines()
        ]
        for path in rows
    ]
    assert read[0] == read[1]
    assert all(row["query/redundant"] >= 0 for row in read[0][:-1])
    assert sum(row["query/redundant"] for row in read[0][:-1]) > 0


def test_changed_pool_is_refused_on_resume(tmp_path: Path) -> None:
    go(Noisy(0.2)(source(), seed=0), tmp_path, budget=20)
    with pytest.raises(ValueError, match="have changed since this run began"):
        go(Noisy(0.2)(source(), seed=1), tmp_path)


def test_foreign_mask_is_part_of_the_fingerprint() -> None:
    given = source()
    none = torch.zeros(len(given.train), dtype=torch.bool)
    assert replace(given, foreign=none).fingerprint() != given.fingerprint()
    assert "query/redundant" not in go(given, None, budget=20).rows[0]


def test_rounds_that_taught_nothing_are_paid_for_and_have_their_points(tmp_path: Path) -> None:
    hard = Ood(data=FOREIGN)(source(), seed=0)
    foreign = hard.is_foreign

    class ForeignFirst(Random):
        def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
            order = foreign[view.indices].int().argsort(descending=True, stable=True)
            return Query(view.indices[order[:query_size]], torch.zeros(query_size))

    go(hard, tmp_path, ForeignFirst(), budget=20)
    result = go(hard, tmp_path, ForeignFirst())
    assert [row["trained_on"] for row in result.rows] == [8, 8, 8, 8]
    assert [row["labels"] for row in result.rows] == [8, 28, 48, 68]
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    points = events.Scalars("1_learning_curve/accuracy")
    assert [event.step for event in points] == [8, 28, 48, 68]


def test_noise_leaves_a_validation_part_alone_that_the_data_came_with():
    data = Dataset("d", torch.randn(200, 2), torch.arange(200) % 2, ("a", "b"))
    own = replace(data, validation_inputs=data.inputs[:50], validation_targets=data.targets[:50])
    source = make_source(own, seed=0)
    noisy = harden(source, [Noisy(0.4)], seed=0)
    assert noisy.validation.targets.equal(source.validation.targets)
    assert not noisy.train.targets.equal(source.train.targets)
    drawn = make_source(data, seed=0, validation=50)
    assert not harden(drawn, [Noisy(0.4)], seed=0).validation.targets.equal(
        drawn.validation.targets
    )
