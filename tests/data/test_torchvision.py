"""SVHN and CIFAR-10 from files written here, with the md5 tables of torchvision replaced."""

import hashlib
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets
import torchvision.datasets.cifar
import torchvision.datasets.svhn

from dal.data import cifar10, svhn

CIFAR_FILES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch", "batches.meta"]


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets.svhn, "download_url", refuse)
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", refuse)


@pytest.fixture
def svhn_root(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    folder = tmp_path / "SVHN"
    folder.mkdir()
    table = {}
    for split, number in (("train", 11), ("test", 4)):
        path = folder / f"{split}_32x32.mat"
        pixels = rng.integers(0, 256, (32, 32, 3, number)).astype(np.uint8)
        labels = (np.arange(number) % 10 + 1).astype(np.uint8)[:, None]
        scipy.io.savemat(path, {"X": pixels, "y": labels})
        table[split] = ["http://localhost", path.name, md5(path)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", table)
    return tmp_path


@pytest.fixture
def cifar_root(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in CIFAR_FILES[:-1]:
        batch = {"data": rng.integers(0, 256, (4, 3072)).astype(np.uint8), "labels": [3, 0, 9, 1]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    sums = [[name, md5(folder / name)] for name in CIFAR_FILES]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums[-1][1]}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", sums[5:6])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)
    return tmp_path


def test_svhn_is_read_as_written_with_label_ten_as_zero(svhn_root):
    dataset = svhn(str(svhn_root), size=28)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 11))
    assert dataset.inputs.dtype == torch.uint8
    assert np.array_equal(dataset.inputs.numpy(), pixels.transpose(3, 2, 0, 1))
    assert dataset.targets.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert dataset.targets.dtype == torch.int64
    assert dataset.test_targets.tolist() == [1, 2, 3, 4]
    assert (dataset.size, dataset.depicts) == (28, "signs")


def test_svhn_damaged_file_is_named(svhn_root):
    path = svhn_root / "SVHN" / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"md5 sum.*delete it and run again") as caught:
        svhn(str(svhn_root))
    assert str(path) in str(caught.value)


def test_svhn_file_of_another_kind_is_named(svhn_root, monkeypatch):
    path = svhn_root / "SVHN" / "train_32x32.mat"
    scipy.io.savemat(path, {"Z": np.zeros(3)})
    table = {**torchvision.datasets.SVHN.split_list, "train": ["", path.name, md5(path)]}
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", table)
    with pytest.raises(ValueError, match="no SVHN file") as caught:
        svhn(str(svhn_root))
    assert str(path) in str(caught.value)


def test_svhn_failed_download_says_which_file_belongs_where(svhn_root):
    (svhn_root / "SVHN" / "train_32x32.mat").unlink()
    with pytest.raises(RuntimeError, match=r"no route to host.*put train_32x32\.mat") as caught:
        svhn(str(svhn_root))
    assert str(svhn_root / "SVHN") in str(caught.value)


def test_svhn_failed_download_names_both_files(tmp_path):
    with pytest.raises(RuntimeError, match=r"put train_32x32\.mat, test_32x32\.mat into"):
        svhn(str(tmp_path))


def test_cifar10_is_read_as_written(cifar_root):
    dataset = cifar10(str(cifar_root))
    first = np.random.default_rng(0).integers(0, 256, (4, 3072)).reshape(4, 3, 32, 32)
    assert dataset.inputs.shape == (20, 3, 32, 32)
    assert dataset.inputs.dtype == torch.uint8
    assert dataset.depicts == "natural"
    assert np.array_equal(dataset.inputs[:4].numpy(), first)
    assert dataset.targets.tolist() == [3, 0, 9, 1] * 5
    assert dataset.test_targets.tolist() == [3, 0, 9, 1]
    assert len(dataset.class_names) == 10


@pytest.mark.parametrize("name", CIFAR_FILES)
def test_cifar10_damaged_file_is_named(cifar_root, name):
    path = cifar_root / "cifar-10-batches-py" / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"md5 sum.*delete it and run again") as caught:
        cifar10(str(cifar_root))
    assert str(path) in str(caught.value)


def test_cifar10_failed_download_says_which_file_belongs_where(cifar_root):
    (cifar_root / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(
        RuntimeError, match=r"no route.*put cifar-10-python\.tar\.gz into"
    ) as caught:
        cifar10(str(cifar_root))
    assert str(cifar_root) in str(caught.value)
