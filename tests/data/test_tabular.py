"""Tables of features and drawn data."""

import math
import types
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch

from dal.data import (
    breast_cancer,
    clean1,
    digits,
    digits_tabular,
    iris,
    make_classification,
    make_multilabel_classification,
    make_source,
    moons,
    new_thyroid,
    two_gaussians,
    wine,
)

BUNDLED = {
    iris: (4, [50, 50, 50]),
    wine: (13, [59, 71, 48]),
    breast_cancer: (30, [212, 357]),
    digits_tabular: (64, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
}


@pytest.mark.parametrize("function", BUNDLED, ids=lambda function: function.__name__)
@pytest.mark.parametrize("standardize", [True, False])
def test_bundled_table_has_documented_shape(function, standardize):
    num_features, counts = BUNDLED[function]
    dataset = function(standardize=standardize)
    assert dataset.name == function.__name__
    assert dataset.inputs.shape == (sum(counts), num_features)
    assert dataset.inputs.dtype == torch.float32
    assert torch.bincount(dataset.targets).tolist() == counts
    assert len(dataset.class_names) == len(counts)
    assert dataset.test_inputs is None
    assert dataset.standardize is standardize


def test_digits_are_spread_over_bytes():
    dataset = digits()
    gray = sklearn.datasets.load_digits().images
    assert dataset.inputs.shape == (1797, 1, 8, 8)
    assert dataset.inputs.dtype == torch.uint8
    assert (dataset.inputs[:, 0].numpy()[gray == 16] == 255).all()
    assert (dataset.inputs[:, 0].numpy()[gray == 0] == 0).all()
    scaled = dataset.inputs.double() / 255
    assert dataset.mean == pytest.approx([scaled.mean().item()], abs=1e-4)
    assert dataset.std == pytest.approx([scaled.std(correction=0).item()], abs=1e-4)


@pytest.mark.parametrize(("size", "side"), [(28, 28), (None, 8), (8, 8), (32, 32)])
def test_digits_are_resized_when_taken(size, side):
    source = make_source(digits(size), seed=0)
    assert source.input_shape == (1, side, side)


def thyroid_lines():
    labels = [1] * 150 + [2] * 35 + [3] * 30
    return [f"{label},{row},1.5,2.5,-0.5,{row / 4}" for row, label in enumerate(labels)]


def clean1_lines():
    labels = [0] * 269 + [1] * 207
    rows = [[f"M-{row}", f"m_{row}+1", *range(row, row + 166)] for row in range(476)]
    text = [",".join(map(str, row)) + f",{label}." for row, label in zip(rows, labels, strict=True)]
    return ["", *text]


TABLES = {
    new_thyroid: ("new-thyroid.data", thyroid_lines, (215, 5), [150, 35, 30]),
    clean1: ("clean1.data", clean1_lines, (476, 166), [269, 207]),
}


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("folder", ["uci", "."])
@pytest.mark.parametrize("function", TABLES, ids=lambda function: function.__name__)
def test_uci_table_is_read_as_shipped(tmp_path, function, folder):
    name, lines, shape, counts = TABLES[function]
    write(tmp_path / folder / name, lines())
    dataset = function(str(tmp_path))
    assert dataset.name == function.__name__
    assert dataset.inputs.shape == shape
    assert torch.bincount(dataset.targets).tolist() == counts
    assert dataset.standardize


def test_uci_columns_are_features_without_names_and_label(tmp_path):
    write(tmp_path / "new-thyroid.data", thyroid_lines())
    write(tmp_path / "clean1.data", clean1_lines())
    assert new_thyroid(str(tmp_path)).inputs[2].tolist() == [2.0, 1.5, 2.5, -0.5, 0.5]
    assert clean1(str(tmp_path)).inputs[7].tolist() == [float(x) for x in range(7, 173)]


@pytest.mark.parametrize(
    ("line", "text", "reason"),
    [
        (3, "1,2,3", "line 3 has the wrong number of columns, 3"),
        (3, "1,2,3,4,5,6,7", "line 3 has the wrong number of columns, 7"),
        (5, "1,2,x,4,5,6", "line 5: could not convert string to float: 'x'"),
        (5, "1,2,nan,4,5,6", "line 5 holds a number that is not finite"),
        (215, "4,2,3,4,5,6", "line 215 has the label 4"),
        (215, "", "214 rows instead of 215"),
    ],
)
def test_uci_damaged_table_is_named(tmp_path, line, text, reason):
    lines = thyroid_lines()
    lines[line - 1] = text
    path = write(tmp_path / "uci" / "new-thyroid.data", lines)
    with pytest.raises(ValueError, match=reason) as caught:
        new_thyroid(str(tmp_path))
    assert str(path) in str(caught.value)
    assert "delete it and run again" in str(caught.value)


def test_uci_binary_file_is_named(tmp_path):
    (tmp_path / "clean1.data").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"clean1\.data is damaged: it is no text file"):
        clean1(str(tmp_path))


def openml_sends(monkeypatch, inputs, labels):
    calls = []

    def fetch(**settings):
        calls.append(settings)
        return types.SimpleNamespace(data=inputs, target=labels)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return calls


def test_missing_table_comes_from_openml(tmp_path, monkeypatch):
    # OpenML counts the two name columns of clean1 among its 168 features.
    inputs = np.arange(476 * 168, dtype=float).reshape(476, 168)
    calls = openml_sends(monkeypatch, inputs, np.array(["0"] * 269 + ["1"] * 207, dtype=object))
    dataset = clean1(str(tmp_path))
    assert dataset.inputs[0].tolist() == [float(x) for x in range(2, 168)]
    assert torch.bincount(dataset.targets).tolist() == [269, 207]
    assert calls[0]["data_id"] == 40665
    assert Path(calls[0]["data_home"]) == tmp_path / "openml"


@pytest.mark.parametrize(
    ("shape", "label", "reason"), [((3, 5), "1", "shape"), ((215, 5), "7", r"labels \[7.0\]")]
)
def test_unexpected_table_from_openml_is_refused(tmp_path, monkeypatch, shape, label, reason):
    openml_sends(monkeypatch, np.zeros(shape), np.array([label] * shape[0]))
    with pytest.raises(RuntimeError, match=reason):
        new_thyroid(str(tmp_path))


def test_failed_fetch_says_which_file_belongs_where(tmp_path, monkeypatch):
    def refuse(**settings):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", refuse)
    with pytest.raises(RuntimeError, match=r"no route.*put new-thyroid\.data into") as caught:
        new_thyroid(str(tmp_path))
    assert str(tmp_path / "uci") in str(caught.value)


@pytest.mark.parametrize(
    "function", [make_classification, make_multilabel_classification, moons, two_gaussians]
)
def test_drawn_data_depend_on_their_seed_only(function):
    torch.manual_seed(1)
    first = function(seed=3)
    torch.manual_seed(2)
    np.random.seed(2)
    again = function(seed=3)
    other = function(seed=4)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs, other.inputs)


def test_make_classification_follows_its_settings():
    dataset = make_classification(
        n_samples=400, n_features=9, n_classes=2, weights=[0.9, 0.1], flip_y=0.0
    )
    assert dataset.inputs.shape == (400, 9)
    assert dataset.inputs.dtype == torch.float32
    assert torch.bincount(dataset.targets).tolist() == pytest.approx([360, 40], abs=1)
    assert dataset.class_names == ("0", "1")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, -1.0])
def test_make_classification_distance_out_of_range_raises(value):
    with pytest.raises(ValueError, match=r"data\.class_sep=.*; give a number of 0 or more"):
        make_classification(class_sep=value)


@pytest.mark.parametrize("weights", [[1, 2], [0.5, 0.5, 0.5], [1.5, -0.5, 0], [0.2, 0.2, 0.2]])
def test_make_classification_shares_that_are_none_raise(weights):
    with pytest.raises(ValueError, match=r"data\.weights=.* of the 3 classes, .* with the sum 1"):
        make_classification(weights=weights)


def test_make_classification_contradiction_raises():
    with pytest.raises(ValueError, match="Number of informative"):
        make_classification(n_features=3)


@pytest.mark.parametrize(("distance", "std"), [(2.0, 1.0), (3.0, 2.0), (0.0, 1.0)])
def test_two_gaussians_have_the_best_accuracy_they_promise(distance, std):
    dataset = two_gaussians(20_000, distance, std, seed=1)
    best_guess = (dataset.inputs[:, 0] > 0).long()
    accuracy = (best_guess == dataset.targets).double().mean().item()
    promised = 0.5 * (1 + math.erf(distance / (2 * std) / math.sqrt(2)))
    assert accuracy == pytest.approx(promised, abs=4 * math.sqrt(0.25 / 20_000))
    assert torch.bincount(dataset.targets).tolist() == [10_000, 10_000]


@pytest.mark.parametrize(
    "bad",
    [
        {"n_samples": 1},
        *({"std": value} for value in (0.0, math.nan, math.inf, 1e300)),
        *({"distance": value} for value in (-1.0, math.nan, math.inf, 1e300)),
    ],
)
def test_two_gaussians_bad_setting_raises(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        two_gaussians(**bad)


def test_two_gaussians_know_what_any_point_is():
    dataset = two_gaussians(20_000, distance=8.0, seed=1)
    source = make_source(dataset, seed=0)
    assert source.truth is not None
    assert (source.truth(source.train.inputs) == source.train.targets).double().mean() > 0.999
    assert source.truth(torch.tensor([[-0.1, 50.0], [0.1, -50.0]])).tolist() == [0, 1]


def test_moons_are_two_half_circles_that_know_what_any_point_is():
    exact = moons(2_000, noise=0.0, seed=1)
    radius = (exact.inputs - torch.tensor([[0.0, 0.0], [1.0, 0.5]])[exact.targets]).norm(dim=1)
    assert (radius - 1).abs().max() < 1e-6
    assert torch.bincount(exact.targets).tolist() == [1_000, 1_000]
    source = make_source(moons(20_000, seed=1), seed=0)
    assert source.truth is not None
    assert (source.truth(source.train.inputs) == source.train.targets).double().mean() > 0.98
    # By hand: the tips, the middle of each arc, and far away.
    points = [[-1.0, 0.0], [0.0, 1.0], [2.0, 0.5], [1.0, -0.5], [0.0, 9.0], [0.0, -9.0]]
    assert source.truth(torch.tensor(points)).tolist() == [0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    "bad", [{"n_samples": 1}, *({"noise": value} for value in (-1.0, math.nan, math.inf, 1e300))]
)
def test_moons_bad_setting_raises(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        moons(**bad)


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (make_classification, {"n_samples": 10**12}),
        (make_classification, {"n_features": 10**25}),
        (make_classification, {"n_classes": 10**9, "n_informative": 100, "n_features": 200}),
        (make_multilabel_classification, {"n_samples": 10**12}),
        (make_multilabel_classification, {"n_classes": 10**12}),
        (make_multilabel_classification, {"length": 10**13}),
        (two_gaussians, {"n_samples": 10**25}),
        (moons, {"n_samples": 10**25}),
    ],
)
def test_drawn_data_that_do_not_fit_into_memory_are_refused(function, settings):
    name, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=rf"{name}={value}.*GiB of memory.*ask for less"):
        function(**settings)


def test_make_multilabel_classification_follows_its_settings():
    dataset = make_multilabel_classification(n_samples=300, n_features=8, n_classes=4, n_labels=3)
    assert dataset.inputs.shape == (300, 8)
    assert dataset.inputs.dtype == torch.float32
    assert dataset.targets.shape == (300, 4)
    assert dataset.targets.dtype == torch.int64
    assert set(dataset.targets.flatten().tolist()) == {0, 1}
    assert dataset.class_names == ("0", "1", "2", "3")
    assert (dataset.targets.sum(1) == 0).any()
    labeled = make_multilabel_classification(n_samples=300, allow_unlabeled=False)
    assert (labeled.targets.sum(1) > 0).all()


def test_make_multilabel_classification_refuses_more_labels_than_there_are():
    with pytest.raises(ValueError, match=r"n_labels=9 .* n_classes=4; give at most n_classes"):
        make_multilabel_classification(n_classes=4, n_labels=9)
