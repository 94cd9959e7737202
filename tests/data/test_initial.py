"""initial_labels: how many, which, by seed, and what is refused."""

import pytest
import torch

from dal.data import UNKNOWN, initial_labels

TARGETS = torch.cat([torch.full((60,), 0), torch.full((30,), 1), torch.full((10,), 2)])


@pytest.mark.parametrize(
    ("amount", "size"),
    [
        ({"count": 1}, 1),
        ({"count": 20}, 20),
        ({"count": 100}, 100),
        ({"fraction": 0.05}, 5),
        ({"fraction": 0.005}, 1),
        ({"fraction": 1.0}, 100),
        ({"per_class": 1}, 3),
        ({"per_class": 10}, 30),
    ],
)
@pytest.mark.parametrize("stratified", [True, False])
def test_initial_labels_are_sorted_distinct_and_as_many_as_asked(amount, size, stratified):
    indices = initial_labels(TARGETS, seed=0, stratified=stratified, **amount)
    assert indices.dtype == torch.int64
    assert indices.shape == (size,)
    assert indices.tolist() == sorted(set(indices.tolist()))
    assert int(indices.min()) >= 0
    assert int(indices.max()) < 100


@pytest.mark.parametrize("amount", [{"count": 10}, {"fraction": 0.1}])
def test_initial_labels_stratified_have_class_proportions(amount):
    for seed in range(5):
        indices = initial_labels(TARGETS, seed=seed, stratified=True, **amount)
        assert torch.bincount(TARGETS[indices]).tolist() == [6, 3, 1]


def test_initial_labels_per_class_are_balanced():
    assert torch.bincount(TARGETS[initial_labels(TARGETS, seed=2, per_class=4)]).tolist() == [4] * 3


@pytest.mark.parametrize("amount", [{"count": 9}, {"fraction": 0.2}, {"per_class": 5}])
def test_initial_labels_depend_on_seed_alone(amount):
    torch.manual_seed(1)
    first = initial_labels(TARGETS, seed=0, **amount)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(initial_labels(TARGETS, seed=0, **amount), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(initial_labels(TARGETS, seed=1, **amount), first)


@pytest.mark.parametrize("setting", ["count", "per_class"])
def test_initial_labels_larger_draw_contains_smaller(setting):
    small = initial_labels(TARGETS, seed=0, **{setting: 3})
    large = initial_labels(TARGETS, seed=0, **{setting: 8})
    assert set(small.tolist()) < set(large.tolist())


def test_initial_labels_reach_every_sample():
    drawn = torch.cat([initial_labels(TARGETS, seed=seed, count=10) for seed in range(100)])
    assert len(drawn.unique()) == 100


@pytest.mark.parametrize(
    "amount", [{"count": 6}, {"fraction": 0.5}, {"per_class": 3}, {"count": 12}]
)
def test_initial_labels_skip_unknown_targets(amount):
    targets = TARGETS.clone()
    targets[6:60] = UNKNOWN
    targets[64:] = UNKNOWN
    targets[90:92] = 1
    indices = initial_labels(targets, seed=0, **amount)
    assert (targets[indices] != UNKNOWN).all()
    assert len(indices) == {6: 6, 12: 12}.get(amount.get("count"), 6)


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        ({}, "nothing given; give exactly one of"),
        ({"count": 3, "per_class": 1}, "count, per_class given; give exactly one of"),
        ({"count": 0}, "initial.count=0; give at least 1"),
        ({"count": -2}, "initial.count=-2; give at least 1"),
        ({"fraction": 0.0}, "initial.fraction=0.0; give a positive number"),
        ({"fraction": float("nan")}, "initial.fraction=nan; give a positive number"),
        ({"fraction": float("inf")}, "initial.fraction=inf; give a positive number"),
        ({"count": 10**19}, "initial.count=10{19}; give at most"),
        ({"per_class": 10**19}, "initial.per_class=10{19}; give at most"),
        ({"fraction": 0.001}, "initial.fraction=0.001 makes no sample of 100"),
        ({"per_class": 0}, "initial.per_class=0; give at least 1"),
        ({"count": 101}, "initial.count=101 but only 100 labeled samples are in the training"),
        ({"fraction": 1.5}, "initial.fraction=1.5 but only 100 labeled samples"),
        ({"per_class": 11}, "per_class=11 but class 2 has only 10 labeled samples"),
    ],
)
def test_initial_labels_bad_amount_raises(amount, reason):
    with pytest.raises(ValueError, match=reason):
        initial_labels(TARGETS, seed=0, **amount)


def test_initial_labels_missing_class_is_named():
    with pytest.raises(ValueError, match="class 1 has only 0 labeled samples"):
        initial_labels(torch.tensor([0, 0, 2, 2]), seed=0, per_class=1)


def test_initial_labels_without_any_label_raise():
    with pytest.raises(ValueError, match="no training sample has a known label"):
        initial_labels(torch.full((5,), UNKNOWN), seed=0, count=1)


def test_initial_labels_of_three_axes_raise():
    with pytest.raises(ValueError, match=r"shape \(5, 2, 1\)"):
        initial_labels(torch.zeros(5, 2, 1, dtype=torch.int64), seed=0, count=1)


def label_sets(rows=200, shares=(0.5, 0.2, 0.05)):
    rng = torch.Generator().manual_seed(0)
    targets = (torch.rand(rows, len(shares), generator=rng) < torch.tensor(shares)).long()
    targets[::10] = UNKNOWN
    return targets


@pytest.mark.parametrize("amount", [{"count": 20}, {"fraction": 0.1}])
def test_initial_labels_multilabel_are_known_and_nested(amount):
    targets = label_sets()
    drawn = initial_labels(targets, seed=0, **amount)
    assert len(drawn) == (20 if "count" in amount else 18)
    assert (targets[drawn] != UNKNOWN).all()
    smaller = initial_labels(targets, seed=0, count=5)
    assert torch.isin(smaller, drawn).all()


@pytest.mark.parametrize("per_class", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_initial_labels_multilabel_per_class_has_each_label_often_enough(per_class, seed):
    targets = label_sets()
    drawn = initial_labels(targets, seed=seed, per_class=per_class)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert (targets[drawn] != UNKNOWN).all()
    assert (targets[drawn].sum(0) >= per_class).all()
    assert len(drawn) <= 3 * per_class


def test_initial_labels_multilabel_rare_label_is_named():
    targets = torch.tensor([[1, 0], [1, 1], [0, 0]])
    with pytest.raises(ValueError, match="class 1 has only 1 labeled samples"):
        initial_labels(targets, seed=0, per_class=2)


def test_initial_labels_multilabel_stratified_is_refused():
    with pytest.raises(ValueError, match=r"no one class; use initial.stratified=false"):
        initial_labels(label_sets(), seed=0, count=5, stratified=True)
