"""The real files, where the environment variable DAL_DATA_DIR names a folder that has them."""

import os
from pathlib import Path

import pytest
import torch

from dal.data import clean1, fashion_mnist, make_source, mnist, new_thyroid, npz

ROOT = os.environ.get("DAL_DATA_DIR")
pytestmark = pytest.mark.skipif(ROOT is None, reason="DAL_DATA_DIR does not name a data folder")


def require(relative):
    path = Path(ROOT) / relative
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.mark.parametrize(
    ("function", "folder", "first", "counts"),
    [
        (
            mnist,
            "MNIST/raw",
            [5, 0, 4, 1, 9],
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        ),
        (fashion_mnist, "FashionMNIST/raw", [9, 0, 0, 3, 0], [6000] * 10),
    ],
)
def test_real_idx_data(function, folder, first, counts):
    require(folder)
    dataset = function(ROOT)
    assert dataset.inputs.shape == (60_000, 1, 28, 28)
    assert dataset.test_inputs.shape == (10_000, 1, 28, 28)
    assert dataset.targets[:5].tolist() == first
    assert torch.bincount(dataset.targets).tolist() == counts
    scaled = dataset.inputs.float() / 255
    assert dataset.mean == pytest.approx([scaled.mean().item()], abs=1e-4)
    assert dataset.std == pytest.approx([scaled.std().item()], abs=1e-4)
    source = make_source(dataset, seed=0, kind="merged")
    assert source.sizes == {"train": 49_000, "validation": 0, "test": 21_000}


@pytest.mark.parametrize(
    ("function", "file", "shape", "counts"),
    [
        (new_thyroid, "uci/new-thyroid.data", (215, 5), [150, 35, 30]),
        (clean1, "uci/clean1.data", (476, 166), [269, 207]),
    ],
)
def test_real_uci_tables(function, file, shape, counts):
    require(file)
    dataset = function(ROOT)
    assert dataset.inputs.shape == shape
    assert torch.bincount(dataset.targets).tolist() == counts


def test_real_clean1_first_row():
    require("uci/clean1.data")
    assert clean1(ROOT).inputs[0, :5].tolist() == [42.0, -198.0, -109.0, -75.0, -117.0]


def test_real_cifar10_subset():
    dataset = npz(str(require("CIFAR10_subset/cifar10_15k.npz")))
    assert dataset.name == "cifar10_15k"
    assert dataset.inputs.shape == (10_000, 3, 32, 32)
    assert dataset.test_inputs.shape == (5_000, 3, 32, 32)
    assert dataset.class_names[0] == "airplane"
    assert dataset.class_names[9] == "truck"
    assert dataset.targets[:3].tolist() == [6, 9, 9]


def test_real_svhn_sample():
    dataset = npz(str(require("SVHN_sample/svhn_train_first288.npz")))
    assert dataset.inputs.shape == (288, 3, 32, 32)
    expected = [13, 57, 41, 44, 34, 27, 18, 17, 20, 17]
    assert torch.bincount(dataset.targets).tolist() == expected
