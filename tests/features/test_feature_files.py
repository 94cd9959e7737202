"""Features of one's own: which rows go where, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stores import content

from dal.data import Dataset, make_source
from dal.features import Arrays

CPU = torch.device("cpu")
NAMES = ("a", "b")


def dataset(train: int = 10, test: int | None = 4) -> Dataset:
    images = torch.zeros(train + (test or 0), 1, 4, 4, dtype=torch.uint8)
    targets = torch.arange(len(images)) % 2
    if test is None:
        return Dataset("pictures", images, targets, NAMES)
    return Dataset(
        "pictures", images[:train], targets[:train], NAMES, images[train:], targets[train:]
    )


def rows(count: int, width: int = 3, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, width)).astype(dtype)


def save(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_behind_the_training_rows_are_the_test_part(tmp_path: Path, dtype: str) -> None:
    array = rows(14, dtype=dtype)
    found = Arrays(save(tmp_path / "x.npy", array), standardize=False)(dataset(), CPU)
    train, test = content(found.inputs), content(found.test_inputs)
    assert train.dtype == (torch.float16 if dtype == "float16" else torch.float32)
    assert np.array_equal(train, array[:10].astype(train.numpy().dtype))
    assert np.array_equal(test, array[10:].astype(train.numpy().dtype))
    assert torch.equal(found.targets, dataset().targets)


def test_test_rows_in_a_file_of_their_own(tmp_path: Path) -> None:
    train, test = rows(10), rows(4)
    paths = save(tmp_path / "x.npy", train), save(tmp_path / "t.npy", test)
    found = Arrays(*paths)(dataset(), CPU)
    assert np.array_equal(content(found.test_inputs), test)


def test_without_test_part_the_split_draws_it(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npy", rows(10))
    source = make_source(Arrays(path)(dataset(test=None), CPU), seed=0)
    assert source.sizes == {"train": 7, "validation": 0, "test": 3}
    prepared = source.train.take(torch.arange(7))
    torch.testing.assert_close(prepared.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(prepared.std(0, correction=0), torch.ones(3))


def test_file_is_mapped_and_cannot_be_changed_through_it(tmp_path: Path) -> None:
    array = rows(14)
    path = save(tmp_path / "x.npy", array)
    content(Arrays(path)(dataset(), CPU).inputs).zero_()
    assert np.array_equal(np.load(path), array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (rows(12), "has 12 rows, but pictures has 10 training and 4 test samples"),
        (rows(10), r"give those of the test part as features\.test_path"),
        (rows(14)[:, 0], r"float32 of shape \(14,\)"),
        (np.ones((14, 3), int), "int64 of shape"),
        (np.full((14, 3), np.nan), "row 0 first"),
        (np.where(np.eye(14, 3) > 0, 1e300, 0.0), "number beyond float32, in row 0"),
        (rows(14, 0), "is empty"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Arrays(save(tmp_path / "x.npy", array))(dataset(), CPU)


def test_first_bad_row_beyond_the_first_block_is_named(tmp_path: Path) -> None:
    array = rows(9000, 2)
    array[8999, 1] = np.inf
    with pytest.raises(ValueError, match="in row 8999 first"):
        Arrays(save(tmp_path / "x.npy", array))(dataset(8996), CPU)


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"features\.path=.*nowhere"):
        Arrays(str(tmp_path / "nowhere.npy"))(dataset(), CPU)
    (tmp_path / "text.npy").write_text("1, 2, 3")
    with pytest.raises(ValueError, match=r"save it again with numpy\.save"):
        Arrays(str(tmp_path / "text.npy"))(dataset(), CPU)
    np.savez(tmp_path / "many.npz", x=rows(14))
    with pytest.raises(ValueError, match="archive of arrays"):
        Arrays(str(tmp_path / "many.npz"))(dataset(), CPU)


def test_widths_that_differ_and_useless_test_file_are_refused(tmp_path: Path) -> None:
    train, test = save(tmp_path / "x.npy", rows(10)), save(tmp_path / "t.npy", rows(4, 5))
    with pytest.raises(ValueError, match=r"has 5 features a row and .* 3"):
        Arrays(train, test)(dataset(), CPU)
    with pytest.raises(ValueError, match="no official test part"):
        Arrays(train, test)(dataset(test=None), CPU)


def test_foreign_data_have_no_rows_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"difficulty\.ood\.classes"):
        Arrays(save(tmp_path / "x.npy", rows(14))).foreign(dataset(), CPU)


def test_rows_behind_all_others_are_the_validation_part(tmp_path: Path) -> None:
    array = rows(17)
    data = replace(
        dataset(),
        validation_inputs=torch.zeros(3, 1, 4, 4, dtype=torch.uint8),
        validation_targets=torch.tensor([0, 1, 1]),
    )
    found = Arrays(save(tmp_path / "x.npy", array))(data, CPU)
    assert np.array_equal(content(found.inputs), array[:10])
    assert np.array_equal(content(found.test_inputs), array[10:14])
    assert np.array_equal(content(found.validation_inputs), array[14:])
    own = save(tmp_path / "y.npy", np.concatenate([array[:10], array[14:]]))
    found = Arrays(own, save(tmp_path / "t.npy", array[10:14]))(data, CPU)
    assert np.array_equal(content(found.test_inputs), array[10:14])
    assert np.array_equal(content(found.validation_inputs), array[14:])
    with pytest.raises(ValueError, match="10 training and 4 test samples and 3 validation samples"):
        Arrays(save(tmp_path / "z.npy", rows(14)))(data, CPU)


def test_a_file_has_no_features_of_samples_that_were_added(tmp_path: Path) -> None:
    data = replace(dataset(test=None), appended=2)
    with pytest.raises(ValueError, match="has no features of the 2 samples that were added"):
        Arrays(save(tmp_path / "x.npy", rows(10)))(data, CPU)
