"""MNIST and Fashion-MNIST from files written here; the network is never asked."""

import gzip
import sys
import types
from urllib.error import URLError

import numpy as np
import pytest
import torch

from dal.data import fashion_mnist, mnist

KINDS = {"MNIST": mnist, "FashionMNIST": fashion_mnist}


def idx_bytes(array, magic):
    header = np.array([magic, *array.shape], dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def content(num_train=12, num_test=5):
    rng = np.random.default_rng(0)
    files = {}
    for part, number in (("train", num_train), ("t10k", num_test)):
        images = rng.integers(0, 256, (number, 28, 28))
        files[f"{part}-images-idx3-ubyte"] = idx_bytes(images, 2051)
        files[f"{part}-labels-idx1-ubyte"] = idx_bytes(np.arange(number) % 10, 2049)
    return files


def write(root, kind="MNIST", packed=True, files=None):
    folder = root / kind / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (files or content()).items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def download(monkeypatch):
    """Stands in for torchvision, so that tests neither import nor download it."""
    calls = []

    def attempt(root, **settings):
        calls.append((root, settings))
        raise URLError("no route to host")

    datasets = types.ModuleType("torchvision.datasets")
    datasets.MNIST = datasets.FashionMNIST = attempt
    parent = types.ModuleType("torchvision")
    parent.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", parent)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    return calls


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_idx_files_are_read_as_written(tmp_path, kind, packed, download):
    folder = write(tmp_path, kind, packed)
    before = sorted(folder.iterdir())
    dataset = KINDS[kind](str(tmp_path), size=32)
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28))
    assert dataset.inputs.dtype == torch.uint8
    assert np.array_equal(dataset.inputs.numpy(), images[:, None])
    assert dataset.targets.tolist() == [*range(10), 0, 1]
    assert dataset.test_targets.tolist() == [0, 1, 2, 3, 4]
    assert dataset.test_inputs.shape == (5, 1, 28, 28)
    assert len(dataset.class_names) == 10
    assert dataset.size == 32
    assert dataset.depicts == {"MNIST": "digits", "FashionMNIST": "objects"}[kind]
    assert sorted(folder.iterdir()) == before
    assert download == []


def test_idx_unpacked_file_goes_before_packed_one(tmp_path):
    write(tmp_path, packed=True, files=content(num_train=3))
    write(tmp_path, packed=False, files=content(num_train=4))
    assert len(mnist(str(tmp_path)).inputs) == 4


def test_idx_read_only_folder_is_enough(tmp_path):
    folder = write(tmp_path)
    folder.chmod(0o555)
    try:
        assert len(mnist(str(tmp_path)).inputs) == 12
    finally:
        folder.chmod(0o755)


def test_idx_failed_download_says_which_files_belong_where(tmp_path, download):
    folder = write(tmp_path)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(RuntimeError) as caught:
        mnist(str(tmp_path))
    message = str(caught.value)
    assert "t10k-labels-idx1-ubyte.gz" in message
    assert "train-images" not in message
    assert str(folder) in message
    assert "no route to host" in message
    assert download == [(str(tmp_path), {"download": True})]


def test_idx_download_is_read_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys.modules["torchvision.datasets"],
        "MNIST",
        lambda root, download: write(tmp_path, packed=False),
    )
    assert len(mnist(str(tmp_path)).inputs) == 12


def test_idx_download_without_the_files_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["torchvision.datasets"], "MNIST", lambda root, download: None)
    with pytest.raises(RuntimeError, match=r"still missing afterwards.*by hand"):
        mnist(str(tmp_path))


def truncate(data):
    return gzip.compress(data)[:-20]


def break_checksum(data):
    packed = bytearray(gzip.compress(data))
    packed[-6] ^= 0xFF
    return bytes(packed)


DAMAGES = {
    "truncated gzip": ("train-images-idx3-ubyte", truncate, "gzip says"),
    "checksum": ("t10k-images-idx3-ubyte", break_checksum, "gzip says"),
    "not gzip": ("train-labels-idx1-ubyte", lambda data: b"<html>no</html>", "gzip says"),
    "empty": ("train-labels-idx1-ubyte", lambda data: b"", "inside its header"),
    "short header": (
        "train-images-idx3-ubyte",
        lambda data: gzip.compress(data[:10]),
        "inside its header, after 10 bytes",
    ),
    "magic": (
        "train-images-idx3-ubyte",
        lambda data: gzip.compress(b"\0\0\x08\x01" + data[4:]),
        "magic number is 2049 instead of 2051",
    ),
    "too little data": (
        "train-images-idx3-ubyte",
        lambda data: gzip.compress(data[:-1]),
        "9407 bytes of data where its header says 9408",
    ),
    "too much data": (
        "t10k-labels-idx1-ubyte",
        lambda data: gzip.compress(data + b"\0"),
        "6 bytes of data where its header says 5",
    ),
    "label out of range": (
        "t10k-labels-idx1-ubyte",
        lambda data: gzip.compress(data[:-1] + b"\x0a"),
        r"label 10 is outside 0\.\.9",
    ),
    "fewer labels": (
        "t10k-labels-idx1-ubyte",
        lambda data: gzip.compress(idx_bytes(np.zeros(4), 2049)),
        "4 labels for the 5 images of t10k",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_idx_damaged_file_is_named(tmp_path, damage):
    name, spoil, reason = DAMAGES[damage]
    folder = write(tmp_path)
    path = folder / f"{name}.gz"
    path.write_bytes(spoil(content()[name]))
    with pytest.raises(ValueError, match=reason) as caught:
        mnist(str(tmp_path))
    assert str(path) in str(caught.value)
    assert "delete it and run again" in str(caught.value)
