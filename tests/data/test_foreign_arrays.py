"""Arrays and lists of a notebook: a data set of them is that of the same tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dal.data import Dataset, initial_labels, make_source, npz
from dal.utils.arrays import as_tensor

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 4))
IMAGES = RNG.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
NUMBERS = np.arange(60) % 3
NAMES = ["ant", "bee", "cat"]


def of_tensors(inputs: torch.Tensor) -> Dataset:
    return Dataset("mine", inputs, torch.from_numpy(NUMBERS), tuple(NAMES))


@pytest.mark.parametrize(
    "targets",
    [
        NUMBERS,
        NUMBERS.tolist(),
        NUMBERS.astype(np.uint8),
        np.array(NAMES)[NUMBERS],
        np.array(NAMES)[NUMBERS].astype(object),
        [NAMES[number] for number in NUMBERS],
    ],
    ids=["int64", "list", "uint8", "strings", "objects", "list of strings"],
)
@pytest.mark.parametrize("inputs", [FEATURES, FEATURES.tolist(), FEATURES[::-1][::-1]])
def test_dataset_of_arrays_is_that_of_tensors(inputs: Any, targets: Any) -> None:
    dataset = Dataset("mine", inputs, targets, NAMES)  # type: ignore[arg-type]
    want = of_tensors(torch.from_numpy(FEATURES).float())
    got, expected = (make_source(each, seed=1) for each in (dataset, want))
    assert got.fingerprint() == expected.fingerprint()


def test_dataset_of_images_with_channels_last() -> None:
    dataset = Dataset("mine", IMAGES, NUMBERS, NAMES, mean=[0.5] * 3, std=np.ones(3))  # type: ignore[arg-type]
    assert torch.equal(dataset.inputs, torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    assert (dataset.mean, dataset.std) == ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


def test_dataset_of_arrays_is_that_of_an_archive(tmp_path: Any) -> None:
    labels = np.where(np.arange(60) < 40, np.array(NAMES)[NUMBERS], "")
    tests = {"test_images": IMAGES[:9], "test_labels": np.array(NAMES)[NUMBERS[:9]]}
    np.savez(tmp_path / "mine.npz", images=IMAGES, labels=labels, **tests)
    dataset = Dataset(
        "mine", IMAGES, labels, test_inputs=IMAGES[:9], test_targets=tests["test_labels"]
    )  # type: ignore[arg-type]
    archive = npz(str(tmp_path / "mine.npz"))
    got, expected = (make_source(each, seed=0) for each in (dataset, archive))
    assert got.class_names == ("ant", "bee", "cat")
    assert got.fingerprint() == expected.fingerprint()


def test_multilabel_rows_as_an_array() -> None:
    rows = (RNG.random((60, 3)) < 0.5).astype(int)
    dataset = Dataset("mine", FEATURES, rows, NAMES)  # type: ignore[arg-type]
    assert make_source(dataset, seed=0).task.kind == "multilabel"
    assert torch.equal(dataset.targets, torch.from_numpy(rows))


def test_tensors_are_taken_as_they_are() -> None:
    inputs = torch.from_numpy(FEATURES).float()
    dataset = of_tensors(inputs)
    assert dataset.inputs is inputs
    assert dataset.class_names == tuple(NAMES)


@pytest.mark.parametrize(
    ("inputs", "targets", "told"),
    [
        (FEATURES * np.nan, NUMBERS, "'inputs' holds NaN"),
        (FEATURES, NUMBERS / 2, "'targets' has type float64"),
        (np.array([["a"], ["b"]]), [0, 1], "'inputs' holds texts; take data=text"),
        (FEATURES, ["ant", "dog"] * 30, "'dog' is not in class_names"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused_by_name(
    inputs: Any, targets: Any, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        Dataset("mine", inputs, targets, NAMES)  # type: ignore[arg-type]


def test_make_source_names_the_remedy_where_arrays_are_handed_to_it() -> None:
    with pytest.raises(TypeError, match="a Dataset, not a ndarray; give make_source"):
        make_source(FEATURES, seed=0)  # type: ignore[arg-type]


def test_initial_labels_of_an_array() -> None:
    want = initial_labels(torch.from_numpy(NUMBERS), seed=3, per_class=2)
    for targets in (NUMBERS, NUMBERS.tolist()):
        assert torch.equal(initial_labels(targets, seed=3, per_class=2), want)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0)[::-1],
        np.broadcast_to(np.float32(2), (3, 2)),
        np.arange(3, dtype=">f4"),
        np.asfortranarray(np.eye(3)),
    ],
    ids=["reversed", "read-only", "big-endian", "Fortran"],
)
def test_any_layout_of_numbers_becomes_a_tensor(array: np.ndarray[Any, Any]) -> None:
    assert as_tensor(array, "x").tolist() == array.tolist()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="x is a list of type <U1; give a tensor, or an array"):
        as_tensor(["a"], "x")


def test_fractions_by_name_are_those_that_networks_take() -> None:
    ids = np.arange(40).reshape(20, 2)
    as_given = torch.from_numpy(FEATURES[:20].astype(np.float64))
    named = {"features": FEATURES[:20].astype(np.float64), "ids": ids, "tensor": as_given}
    inputs: Any = Dataset("mine", named, NUMBERS[:20]).inputs  # type: ignore[arg-type]
    assert torch.equal(inputs["features"], torch.from_numpy(FEATURES[:20]).float())
    assert inputs["ids"].dtype == torch.int64
    assert inputs["tensor"] is as_given


def test_row_without_a_number_is_named_by_input_and_row() -> None:
    named = {"features": [[0.0], [math.nan]], "ids": [[1], [2]]}
    with pytest.raises(ValueError, match=r"inputs\['features'\].* NaN.* the first is row 1;"):
        Dataset("mine", named, ["a", "b"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({1: FEATURES[:2], "1": FEATURES[:2]}, "inputs have the name 1; names are strings"),
        ({"x": 3.0}, "a tensor of inputs is a single number; give a dense one with a row"),
        ({"x": torch.ones(2, 3).to_sparse()}, r"inputs is of layout torch\.sparse_coo; give a"),
        (torch.ones(2, 3).to_sparse(), r"inputs is of layout torch\.sparse_coo; give a dense"),
    ],
)
def test_inputs_that_are_no_rows_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make_source(Dataset("mine", inputs, ["a", "b"]), seed=0)  # type: ignore[arg-type]


def test_samples_come_without_what_computed_them() -> None:
    computed = torch.ones(30, 3, requires_grad=True) * 2
    for inputs in (computed, {"x": computed}):
        source = make_source(Dataset("mine", inputs, torch.arange(30) % 2, ("a", "b")), seed=0)
        read = source.train.take(torch.arange(3))
        assert not (read if isinstance(read, torch.Tensor) else read["x"]).requires_grad


def test_normalization_of_inputs_by_name_is_refused() -> None:
    named: Any = {"x": FEATURES[:20]}
    data = Dataset("mine", named, NUMBERS[:20], mean=(0.5,), std=(2.0,))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"data\.mean takes one tensor, and samples have x"):
        make_source(data, seed=0)
