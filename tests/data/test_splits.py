"""make_source: which samples go where, by seed, and what is refused."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dal.data import UNKNOWN, Dataset, iris, make_source
from dal.data.draw import apportion, share
from dal.data.foreign import Ood
from dal.data.hard_pools import Repeated, harden
from dal.data.joined import JoinedStore
from dal.data.mapped import MappedStore
from dal.data.source import Split
from dal.data.splits import _moments
from dal.task import Multilabel


def table(counts=(60, 30, 10), test_counts=None, unknown=0, **settings):
    """Samples whose only feature is their row, so that each can be recognized in any part."""
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    targets = torch.cat([targets, torch.full((unknown,), UNKNOWN)])
    fields = {"class_names": tuple("abcdefgh"[: len(counts)]), **settings}
    if test_counts is not None:
        test = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(test_counts))
        rows = torch.arange(len(test)) + len(targets)
        fields |= {"test_inputs": rows[:, None].float(), "test_targets": test}
    return Dataset("table", torch.arange(len(targets))[:, None].float(), targets, **fields)


def rows(split):
    return [] if split is None else split.inputs[:, 0].long().tolist()


def parts(source):
    return rows(source.train), rows(source.validation), rows(source.test)


def test_merged_is_seventy_thirty_of_both_parts():
    source = make_source(table((60, 30, 10), (20, 10, 10)), seed=0, kind="merged")
    train, validation, test = parts(source)
    assert source.sizes == {"train": 98, "validation": 0, "test": 42}
    assert validation == []
    assert sorted(train + test) == list(range(140))
    assert max(train) >= 100
    assert min(test) < 100


def test_official_keeps_both_parts_as_they_are():
    source = make_source(table((6, 3, 1), (2, 1, 1)), seed=0)
    assert parts(source) == (list(range(10)), [], list(range(10, 14)))


@pytest.mark.parametrize(
    ("test_counts", "kind", "size"),
    [(None, "auto", 30), (None, "merged", 30), ((2, 2, 2), "auto", 6), ((2, 2, 2), "official", 6)],
)
def test_auto_is_official_where_there_is_a_test_part(test_counts, kind, size):
    assert len(make_source(table(test_counts=test_counts), seed=0, kind=kind).test) == size


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("validation", [0, 0.1, 7])
def test_parts_are_disjoint_complete_and_in_file_order(stratified, validation):
    source = make_source(table(), seed=5, stratified=stratified, validation=validation)
    train, held_out, test = parts(source)
    assert sorted(train + held_out + test) == list(range(100))
    for part in (train, held_out, test):
        assert part == sorted(part)
    assert len(held_out) == {0: 0, 0.1: 7, 7: 7}[validation]
    assert (source.validation is None) == (validation == 0)


def test_targets_stay_with_their_inputs():
    dataset = table()
    source = make_source(dataset, seed=5, validation=9)
    for split in (source.train, source.validation, source.test):
        assert torch.equal(split.targets, dataset.targets[split.inputs[:, 0].long()])


@pytest.mark.parametrize("stratified", [True, False])
def test_split_depends_on_seed_alone(stratified):
    def split(seed, global_seed):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        return make_source(table(), seed=seed, stratified=stratified, validation=5)

    state = torch.manual_seed(11).get_state()
    make_source(table(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert split(1, 0).fingerprint() == split(1, 99).fingerprint()
    assert split(1, 0).fingerprint() != split(2, 0).fingerprint()


def test_test_part_does_not_depend_on_validation():
    tests = [rows(make_source(table(), seed=4, validation=v).test) for v in (0, 0.2, 30)]
    assert tests[0] == tests[1] == tests[2]


def test_stratified_parts_have_class_proportions():
    source = make_source(table((600, 300, 100)), seed=0, validation=0.1)
    assert torch.bincount(source.test.targets).tolist() == [180, 90, 30]
    assert torch.bincount(source.validation.targets).tolist() == [42, 21, 7]
    assert torch.bincount(source.train.targets).tolist() == [378, 189, 63]


def test_random_parts_have_varying_proportions():
    counts = {
        tuple(torch.bincount(make_source(table(), seed=s, stratified=False).test.targets).tolist())
        for s in range(8)
    }
    assert len(counts) > 1


def test_unknown_labels_stay_in_training():
    source = make_source(table((20, 20), unknown=60), seed=0, validation=0.25)
    assert source.sizes == {"train": 81, "validation": 7, "test": 12}
    assert int((source.train.targets == UNKNOWN).sum()) == 60
    assert UNKNOWN not in source.test.targets
    assert UNKNOWN not in source.validation.targets


def test_class_of_one_sample_stays_in_training_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "dal.data.splits"):
        source = make_source(table((10, 1, 10)), seed=0)
    assert 1 in source.train.targets
    assert source.sizes["test"] == 6
    assert "class b has a single labeled sample" in caplog.text


def test_classes_of_one_sample_only_raise():
    with pytest.raises(ValueError, match=r"0 can be drawn from.*stratified=false"):
        make_source(table((1, 1, 1)), seed=0)


def test_standardize_uses_the_training_part_only():
    dataset = Dataset(
        "table",
        torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2,
        torch.arange(50) % 2,
        ("a", "b"),
        standardize=True,
    )
    source = make_source(dataset, seed=0, validation=5)
    train = source.train.inputs.double().numpy()
    assert source.train.prepare.mean == pytest.approx(train.mean(0))
    assert source.train.prepare.std == pytest.approx(train.std(0))
    assert source.test.prepare == source.validation.prepare == source.train.prepare
    prepared = source.train.take(torch.arange(len(source.train)))
    assert prepared.mean(0).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert prepared.std(0, correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-6)


def test_standardize_sums_in_an_order_that_no_processor_decides() -> None:
    """Bits are those of Python's own floats, added by halves."""

    def total(values: list[float]) -> float:
        while len(values) > 1:
            half = len(values) // 2
            pairs = zip(values[:half], values[half : 2 * half], strict=True)
            values = [a + b for a, b in pairs] + values[2 * half :]
        return values[0]

    rng = torch.Generator().manual_seed(0)
    inputs = torch.rand(1003, 3, generator=rng) ** 4
    means, stds = _moments(Split.of(inputs, torch.zeros(len(inputs))))
    for column, mean, std in zip(inputs.T.tolist(), means.tolist(), stds.tolist(), strict=True):
        expected = total(column) / 1003
        assert mean == expected
        squares = [(value - expected) * (value - expected) for value in column]
        assert std == math.sqrt(total(squares) / 1003)


def test_standardize_leaves_a_constant_feature_at_zero():
    inputs = torch.cat([torch.full((20, 1), 0.1), torch.arange(20.0)[:, None]], dim=1)
    source = make_source(
        Dataset("table", inputs, torch.arange(20) % 2, ("a", "b"), standardize=True), seed=0
    )
    assert source.train.prepare.std[0] == 1.0
    assert source.train.take(torch.arange(5))[:, 0].tolist() == pytest.approx([0] * 5, abs=1e-7)


def test_standardize_may_mean_some_features_alone() -> None:
    inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) + 5
    targets, names = torch.arange(40) % 2, ("a", "b")
    every = make_source(Dataset("all", inputs, targets, names, standardize=True), seed=0)
    some = make_source(Dataset("some", inputs, targets, names, standardize=(0, 2)), seed=0)
    none = make_source(Dataset("none", inputs, targets, names, standardize=()), seed=0)
    rows = torch.arange(len(some.train))
    assert torch.equal(some.train.take(rows)[:, [0, 2]], every.train.take(rows)[:, [0, 2]])
    assert torch.equal(some.train.take(rows)[:, 1], some.train.inputs[:, 1])
    assert torch.equal(none.train.take(rows), none.train.inputs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_standardize_images_by_channel(dtype):
    images = torch.randint(0, 256, (30, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    images[:, 1] //= 3
    dataset = Dataset("i", images.to(dtype), torch.arange(30) % 2, ("a", "b"), standardize=True)
    source = make_source(dataset, seed=0)
    prepared = source.train.take(torch.arange(len(source.train)))
    assert prepared.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert prepared.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_dataset_normalization_reaches_every_part():
    source = make_source(table(mean=(1.0,), std=(2.0,), size=7), seed=0, validation=3)
    for split in (source.train, source.validation, source.test):
        assert split.prepare.mean == (1.0,)
        assert split.prepare.std == (2.0,)
        assert split.prepare.size == 7


def test_iris_split_is_the_papers():
    source = make_source(iris(), seed=0)
    assert source.sizes == {"train": 105, "validation": 0, "test": 45}
    assert torch.bincount(source.test.targets).tolist() == [15, 15, 15]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kind": "official"}, "table has no official test part; use split.kind=auto or merged"),
        ({"kind": "best"}, "'best' is unknown; use auto, official, merged or none"),
        ({"test_fraction": 0.0}, "test_fraction=0.0 must lie between 0 and 1"),
        ({"test_fraction": 1.0}, "test_fraction=1.0 must lie between 0 and 1"),
        ({"test_fraction": 0.999}, "takes all 100 samples and leaves none to train on; lower it"),
        ({"test_fraction": 1e-12}, "test_fraction=1e-12 makes no sample of 100; raise it"),
        ({"validation": 1e-12}, "validation=1e-12 makes no sample of 70; raise it"),
        ({"validation": -1}, "validation=-1 must be 0"),
        ({"validation": 1.0}, "validation=1.0 must be 0"),
        ({"validation": 70}, "validation=70 takes all 70 samples"),
        ({"validation": 71}, "asks for 71 labeled samples but 70 can be drawn from"),
        ({"validation": math.nan}, "validation=nan must be 0"),
    ],
)
def test_bad_setting_raises(settings, reason):
    with pytest.raises(ValueError, match=reason):
        make_source(table(), seed=0, **settings)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"class_names": ("a",)}, "has 1 class; classification needs at least 2"),
        ({"class_names": ("a", "b")}, "targets from 0 to 2; they must lie in -1..1"),
        ({"test_inputs": torch.zeros(2, 1)}, "without the other"),
        ({"size": 0}, "data.size=0; give at least 1"),
        ({"size": 10**9}, "data.size=1000000000, for one image: .* ask for less"),
        ({"standardize": True, "mean": (0.0,), "std": (1.0,)}, "drop one of the two"),
        (
            {"test_inputs": torch.zeros(2, 1), "test_targets": torch.tensor([0, -1])},
            r"test part of table has targets from -1 to 0; they must lie in 0\.\.2",
        ),
        (
            {"test_inputs": torch.zeros(2, 1), "test_targets": torch.tensor([0])},
            "test part of table has 2 inputs and 1 targets",
        ),
        (
            {"test_inputs": torch.zeros(0, 1), "test_targets": torch.zeros(0, dtype=torch.int64)},
            "at least one",
        ),
    ],
)
def test_bad_dataset_raises(fields, reason):
    with pytest.raises(ValueError, match=reason):
        make_source(table(**fields), seed=0)


def test_where_nothing_is_labeled_there_is_no_test_part_unless_one_is_asked_for():
    data = table((0, 0), unknown=5)
    source = make_source(data, seed=0)
    assert source.test is None
    assert source.sizes == {"train": 5, "validation": 0, "test": 0}
    with pytest.raises(ValueError, match="0 can be drawn from; label more samples"):
        make_source(data, seed=0, kind="merged")


def test_kind_none_keeps_all_for_training_and_leaves_an_official_test_part_out():
    source = make_source(table((6, 3, 1), (2, 1, 1)), seed=0, kind="none")
    assert parts(source) == (list(range(10)), [], [])
    assert source.fingerprint() != make_source(table((6, 3, 1), (2, 1, 1)), seed=0).fingerprint()


def with_validation(counts=(6, 3, 1), test_counts=None, **settings):
    """A table whose validation part stands behind all others."""
    data = table(counts, test_counts, **settings)
    rows = torch.arange(4)[:, None].float() + 1000
    return replace(data, validation_inputs=rows, validation_targets=torch.tensor([0, 1, 2, 2]))


@pytest.mark.parametrize("kind", ["official", "merged"])
def test_an_official_validation_part_is_kept_and_numbered_behind_the_others(kind):
    contents = [f"sample {number}" for number in range(18)]
    data = with_validation((6, 3, 1), (2, 1, 1), contents=contents)
    source = make_source(data, seed=0, kind=kind)
    assert source.validation.inputs[:, 0].tolist() == [1000, 1001, 1002, 1003]
    assert source.validation.positions.tolist() == [14, 15, 16, 17]
    assert source.sizes["validation"] == 4
    assert set(source.seen.tolist()) >= {14, 15, 16, 17}
    assert (
        source.fingerprint()
        != make_source(
            replace(data, validation_targets=torch.tensor([0, 1, 1, 2])), seed=0, kind=kind
        ).fingerprint()
    )


@pytest.mark.parametrize("asked", [{"validation": 0.1}, {"validation_of_labels": 0.1}])
def test_a_second_validation_part_is_refused(asked):
    (name,) = asked
    with pytest.raises(ValueError, match=rf"part of its own, and split.{name}=0.1.*{name}=0"):
        make_source(with_validation(), seed=0, **asked)
    with pytest.raises(ValueError, match="ask for two validation parts; set one"):
        make_source(table(), seed=0, validation=0.1, validation_of_labels=0.1)


def grown(late=(0, UNKNOWN, 2), **settings):
    """A table of 100 samples with test and validation part, to which some were added."""
    data = with_validation((60, 30, 10), (2, 1, 1), **settings)
    rows = torch.arange(len(late))[:, None].float() + 2000
    return replace(
        data,
        inputs=torch.cat([data.inputs, rows]),
        targets=torch.cat([data.targets, torch.tensor(late)]),
        appended=len(late),
    )


@pytest.mark.parametrize("kind", ["auto", "merged", "none"])
@pytest.mark.parametrize("standardize", [False, True])
def test_appended_samples_stand_behind_the_training_part_and_change_nothing_else(kind, standardize):
    before = make_source(
        with_validation((60, 30, 10), (2, 1, 1), standardize=standardize), seed=3, kind=kind
    )
    after = make_source(grown(standardize=standardize), seed=3, kind=kind)
    begun = len(before.train)
    assert after.begun == begun
    assert len(after.train) == begun + 3
    assert rows(after.train)[:begun] == rows(before.train)
    assert rows(after.train)[begun:] == [2000, 2001, 2002]
    assert after.train.targets[begun:].tolist() == [0, UNKNOWN, 2]
    assert rows(after.test) == rows(before.test)
    assert after.train.positions[:begun].equal(before.train.positions)
    assert after.train.positions[begun:].tolist() == [108, 109, 110]
    assert after.train.prepare == before.train.prepare
    assert after.fingerprint() == before.fingerprint()
    assert after.digest == before.digest


def test_appended_samples_have_their_contents_too():
    names = [*map(str, range(100)), "x", "y", "z", "t0", "t1", "t2", "t3", "v0", "v1", "v2", "v3"]
    source = make_source(grown(contents=names), seed=0)
    assert [source.content(index) for index in (0, 99, 100, 102)] == ["0", "99", "x", "z"]


def test_samples_of_the_beginning_may_be_merged_drawn_and_joined(tmp_path):
    first, late = torch.arange(10)[:, None].float(), torch.full((2, 1), 77.0)
    np.save(tmp_path / "first.npy", first.numpy())
    np.save(tmp_path / "late.npy", late.numpy())
    stores = [
        MappedStore(np.load(tmp_path / f"{name}.npy", mmap_mode="r"), name)
        for name in ("first", "late")
    ]
    targets = torch.arange(12) % 2
    begun = Dataset("d", stores[0], targets[:10], ("a", "b"))
    now = Dataset("d", JoinedStore(stores), targets, ("a", "b"), appended=2)
    sources = [make_source(data, seed=1) for data in (begun, now)]
    assert sources[0].fingerprint() == sources[1].fingerprint()
    assert rows(sources[1].train)[-2:] == [77, 77]
    both = MappedStore(np.load(tmp_path / "first.npy", mmap_mode="r"), "first")
    with pytest.raises(ValueError, match="give a JoinedStore of the 8"):
        make_source(Dataset("d", both, targets[:10], ("a", "b"), appended=2), seed=1)


def test_only_appended_samples_are_refused():
    with pytest.raises(ValueError, match="are appended ones"):
        make_source(replace(table(), appended=100), seed=0)


def test_hard_pools_refuse_appended_samples():
    with pytest.raises(ValueError, match="difficulty=repeated with 3 samples that were added"):
        harden(make_source(grown(), seed=0), [Repeated()], seed=0)


@pytest.mark.parametrize(
    ("fraction", "total", "expected"),
    [(0.3, 1797, 540), (0.3, 70_000, 21_000), (0.07, 100, 7), (0.1, 3, 1), (0.5, 5, 3)],
)
def test_share_rounds_up_but_not_because_of_floating_point(fraction, total, expected):
    assert share(fraction, total) == expected


@pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
        ([50, 50], 10, [5, 5]),
        ([60, 30, 10], 7, [4, 2, 1]),
        ([1, 1, 1], 2, [1, 1, 0]),
        ([97, 2, 1], 10, [10, 0, 0]),
        ([5, 0, 5], 3, [2, 0, 1]),
        ([3, 4], 7, [3, 4]),
        ([3, 4], 0, [0, 0]),
    ],
)
def test_apportion_by_largest_remainder(counts, total, expected):
    assert apportion(torch.tensor(counts), total).tolist() == expected


def label_table(rows=40):
    rng = torch.Generator().manual_seed(0)
    targets = (torch.rand(rows, 3, generator=rng) < 0.4).long()
    targets[::8] = UNKNOWN
    return Dataset("sets", torch.arange(rows).float().unsqueeze(1), targets, ("a", "b", "c"))


def test_multilabel_sets_are_divided_at_random_whatever_stratified_says():
    sources = [
        make_source(label_table(), seed=3, stratified=stratified, validation=5)
        for stratified in (True, False)
    ]
    assert parts(sources[0]) == parts(sources[1])
    source = sources[0]
    assert source.task == Multilabel(3)
    assert source.sizes == {"train": 24, "validation": 5, "test": 11}
    assert (source.test.targets >= 0).all()
    assert (source.validation.targets >= 0).all()
    assert int((source.train.targets < 0).all(1).sum()) == 5


@pytest.mark.parametrize("row", [[0, 2, 0], [1, -1, 0]])
def test_multilabel_targets_of_other_numbers_raise(row):
    dataset = label_table()
    dataset.targets[6] = torch.tensor(row)
    with pytest.raises(ValueError, match=rf"\[{row[0]}, {row[1]}, {row[2]}\] in row 6"):
        make_source(dataset, seed=0)


def test_multilabel_targets_of_another_width_raise():
    dataset = replace(label_table(), class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"targets of shape \(40, 3\)"):
        make_source(dataset, seed=0)


def test_multilabel_test_part_of_class_numbers_raises():
    dataset = replace(
        label_table(), test_inputs=torch.zeros(2, 1), test_targets=torch.tensor([0, 1])
    )
    with pytest.raises(ValueError, match=r"test part of sets has targets of shape \(2,\)"):
        make_source(dataset, seed=0)


def test_multilabel_test_part_of_unknown_labels_raises():
    dataset = replace(
        label_table(), test_inputs=torch.zeros(2, 1), test_targets=torch.full((2, 3), UNKNOWN)
    )
    with pytest.raises(ValueError, match=r"\[-1, -1, -1\] in row 0"):
        make_source(dataset, seed=0)


@pytest.mark.parametrize("name", ["a;b", "-", "?", "", " a"])
def test_multilabel_names_that_cannot_be_read_back_raise(name):
    dataset = replace(label_table(), class_names=("x", "y", name))
    with pytest.raises(ValueError, match="choose another name"):
        make_source(dataset, seed=0)


def test_target_names_are_what_people_read():
    source = make_source(label_table(), seed=0)
    rows = [[1, 0, 1], [0, 0, 0], [-1, -1, -1]]
    assert [source.target_name(row) for row in rows] == ["a;c", "-", "?"]
    classes = make_source(table(), seed=0)
    assert [classes.target_name(number) for number in (0, 2, -1)] == [
        classes.class_names[0],
        classes.class_names[2],
        "?",
    ]


def test_seen_are_the_rows_that_decide_a_model():
    """Test samples and foreign ones do not; the latter stand beyond the data set's own rows."""
    source = make_source(table((60, 30, 10)), seed=0, validation=7)
    train, validation, test = parts(source)
    assert source.seen.tolist() == sorted(train + validation)
    assert not set(source.seen.tolist()) & set(test)
    other = replace(table((60, 30, 10)), inputs=torch.arange(100)[:, None] + 500.0)
    assert Ood(data=other)(source, seed=0).seen.tolist() == source.seen.tolist()
    repeated = Repeated(copies=2)(source, seed=0)
    assert repeated.seen.tolist() == source.seen.tolist()


def test_digest_tells_data_sets_apart_and_not_their_divisions():
    one, two = table((600, 500)), table((600, 500), (3, 2))
    assert make_source(one, seed=0).digest == make_source(one, seed=1).digest == one.digest()
    others = [two, replace(one, inputs=one.inputs + 1), replace(one, inputs=one.inputs.double())]
    assert len({one.digest(), *(other.digest() for other in others)}) == 4
    assert replace(one, size=8, standardize=True, name="else").digest() == one.digest()


def test_deviations_are_the_nearest_numbers_on_every_processor() -> None:
    values = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    inputs = torch.stack([values, -values, torch.zeros(5000)])
    means, stds = _moments(Split.of(inputs, torch.zeros(3)))
    assert bool((means == 0).all())
    assert stds.tolist() == [math.sqrt((a * a + a * a) / 3) for a in values.tolist()]
