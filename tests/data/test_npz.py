"""Archives of one's own: layouts, names, labels, and everything that can be wrong with them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dal.data import UNKNOWN, make_source, npz
from dal.data.mapped import MappedStore
from dal.task import Multilabel

RNG = np.random.default_rng(0)
LABELS = np.arange(10) % 3
FEATURES = RNG.normal(size=(10, 4))
TEST = {"test_inputs": FEATURES[:6] + 1, "test_targets": LABELS[:6]}


def pixels(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def save(tmp_path, name="mine.npz", **arrays):
    path = tmp_path / name
    np.savez(path, **arrays)
    return str(path)


def test_npz_features_are_standardized_float32(tmp_path):
    dataset = npz(save(tmp_path, inputs=FEATURES, targets=LABELS))
    assert dataset.name == "mine"
    assert dataset.inputs.dtype == torch.float32
    assert np.array_equal(dataset.inputs.numpy(), FEATURES.astype(np.float32))
    assert dataset.targets.dtype == torch.int64
    assert dataset.targets.tolist() == LABELS.tolist()
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.standardize
    assert dataset.test_inputs is None


@pytest.mark.parametrize("dtype", ["int16", "uint8", "bool", "float16"])
def test_npz_features_of_any_number_type(tmp_path, dtype):
    array = (FEATURES > 0).astype(dtype)
    dataset = npz(save(tmp_path, inputs=array, targets=LABELS), standardize=False)
    assert dataset.inputs.dtype == torch.float32
    assert np.array_equal(dataset.inputs.numpy(), array.astype(np.float32))
    assert not dataset.standardize


@pytest.mark.parametrize(
    ("names", "test_names"),
    [
        (("inputs", "targets"), ("test_inputs", "test_targets")),
        (("train_images", "train_labels"), ("test_images", "test_labels")),
        (("x_train", "y_train"), ("x_test", "y_test")),
        (("images", "labels"), None),
        (("x", "y"), None),
        (("X", "y"), None),
    ],
)
def test_npz_known_names_of_keys(tmp_path, names, test_names):
    arrays = dict(zip(names, (FEATURES, LABELS), strict=True))
    if test_names:
        arrays |= dict(zip(test_names, (FEATURES[:3], LABELS[:3]), strict=True))
    dataset = npz(save(tmp_path, **arrays), name="other")
    assert dataset.name == "other"
    assert len(dataset.inputs) == 10
    assert (dataset.test_targets is None) == (test_names is None)
    if test_names:
        assert dataset.test_targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("shape", "expected", "order"),
    [
        ((10, 8, 9), (10, 1, 8, 9), None),
        ((10, 8, 9, 1), (10, 1, 8, 9), (0, 3, 1, 2)),
        ((10, 8, 9, 3), (10, 3, 8, 9), (0, 3, 1, 2)),
        ((10, 8, 9, 4), (10, 4, 8, 9), (0, 3, 1, 2)),
        ((10, 1, 8, 9), (10, 1, 8, 9), (0, 1, 2, 3)),
        ((10, 3, 8, 9), (10, 3, 8, 9), (0, 1, 2, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_npz_images_become_channels_first(tmp_path, shape, expected, order, dtype):
    images = pixels(*shape)
    stored = (images / 255).astype(dtype) if dtype == "float64" else images.astype(dtype)
    dataset = npz(save(tmp_path, inputs=stored, targets=LABELS), size=16)
    wanted = images[:, None] if order is None else images.transpose(order)
    assert dataset.inputs.shape == expected
    assert dataset.inputs.is_contiguous()
    assert not dataset.standardize
    if dtype == "float64":
        assert dataset.inputs.dtype == torch.float32
        assert np.allclose(dataset.inputs.numpy(), wanted / 255)
    else:
        assert dataset.inputs.dtype == torch.uint8
        assert np.array_equal(dataset.inputs.numpy(), wanted)
    assert make_source(dataset, seed=0, test_fraction=0.5).input_shape == (expected[1], 16, 16)


@pytest.mark.parametrize(
    ("targets", "names", "numbers", "class_names"),
    [
        ([0, 1, 2, 1], None, [0, 1, 2, 1], ("0", "1", "2")),
        ([0, 1, -1, 1], None, [0, 1, UNKNOWN, 1], ("0", "1")),
        ([7, 3, 7, -5], None, [2, 1, 2, 0], ("-5", "3", "7")),
        ([1, 2, 3, -1], ["a", "b", "c"], [0, 1, 2, UNKNOWN], ("a", "b", "c")),
        ([0, 2, 2, 0], ["a", "b", "c"], [0, 2, 2, 0], ("a", "b", "c")),
        ([1, 2, 2, 1], ["a", "b", "c", "d"], [1, 2, 2, 1], ("a", "b", "c", "d")),
        (["dog", "cat", "", "dog"], None, [1, 0, UNKNOWN, 1], ("cat", "dog")),
        (["dog", "cat", "", "dog"], ["dog", "cat", "ape"], [0, 1, -1, 0], ("dog", "cat", "ape")),
        ([-1, -1, -1, -1], ["a", "b"], [UNKNOWN] * 4, ("a", "b")),
    ],
)
@pytest.mark.parametrize("place", ["setting", "archive"])
def test_npz_labels_become_class_numbers(tmp_path, targets, names, numbers, class_names, place):
    arrays = {"inputs": FEATURES[:4], "targets": np.array(targets)}
    if names and place == "archive":
        arrays["class_names"] = np.array(names)
    path = save(tmp_path, **arrays)
    dataset = npz(path, class_names=names if place == "setting" else None)
    assert dataset.targets.tolist() == numbers
    assert dataset.class_names == class_names


def test_npz_setting_goes_before_the_names_of_the_archive(tmp_path):
    path = save(tmp_path, inputs=FEATURES, targets=LABELS, class_names=np.array(["a", "b", "c"]))
    assert npz(path, class_names=["x", "y", "z"]).class_names == ("x", "y", "z")


def test_npz_classes_of_both_parts_count(tmp_path):
    arrays = {"inputs": FEATURES, "targets": LABELS * 10, "test_inputs": FEATURES[:2]}
    dataset = npz(save(tmp_path, **arrays, test_targets=np.array([5, 20], dtype=np.uint64)))
    assert dataset.class_names == ("0", "5", "10", "20")
    assert dataset.test_targets.tolist() == [1, 3]
    assert dataset.targets.tolist()[:3] == [0, 2, 3]


def test_npz_given_normalization_replaces_standardizing(tmp_path):
    path = save(tmp_path, inputs=FEATURES, targets=LABELS)
    dataset = npz(path, mean=[0.0] * 4, std=[2.0] * 4)
    assert dataset.mean == (0.0, 0.0, 0.0, 0.0)
    assert dataset.std == (2.0, 2.0, 2.0, 2.0)
    assert not dataset.standardize


def with_bad(value, row):
    array = FEATURES.copy()
    array[row, 2] = value
    return array


BAD_ARRAYS = {
    "no inputs": ({"targets": LABELS}, r"lacks the key 'inputs' \(or .*x_train.*it holds targets"),
    "no targets": ({"inputs": FEATURES}, "lacks the key 'targets'"),
    "two inputs": ({"x": FEATURES, "X": FEATURES, "y": LABELS}, "x and X, all of them inputs"),
    "half a test part": (
        {"inputs": FEATURES, "targets": LABELS, "x_test": FEATURES},
        "has 'x_test' but no 'test_targets'",
    ),
    "lengths": (
        {"inputs": FEATURES, "targets": LABELS[:9]},
        "'inputs' has 10 samples but 'targets' has 9",
    ),
    "test lengths": (
        {"inputs": FEATURES, "targets": LABELS, **TEST, "test_inputs": FEATURES[:5]},
        "'test_inputs' has 5 samples but 'test_targets' has 6",
    ),
    "empty": ({"inputs": FEATURES[:0], "targets": LABELS[:0]}, "is empty; save at least one"),
    "no features": ({"inputs": FEATURES[:, :0], "targets": LABELS}, r"shape \(10, 0\) is empty"),
    "scalar": ({"inputs": np.array(1.0), "targets": LABELS}, r"'inputs' has shape \(\), a single"),
    "scalar target": ({"inputs": FEATURES, "targets": np.array(1)}, r"'targets' has shape \(\), a"),
    "one axis": ({"inputs": FEATURES[:, 0], "targets": LABELS}, r"'inputs' has shape \(10,\)"),
    "five axes": ({"inputs": np.zeros((10, 1, 2, 3, 4)), "targets": LABELS}, "has shape"),
    "complex": ({"inputs": FEATURES * 1j, "targets": LABELS}, "type complex128; save numbers"),
    "text inputs": ({"inputs": FEATURES.astype(str), "targets": LABELS}, "save numbers"),
    "objects": (
        {"inputs": FEATURES.astype(object), "targets": LABELS},
        "'inputs' cannot be read .*not as objects",
    ),
    "nan": ({"inputs": with_bad(np.nan, 7), "targets": LABELS}, "1 rows, the first is row 7"),
    "inf": ({"inputs": with_bad(-np.inf, 0), "targets": LABELS}, "1 rows, the first is row 0"),
    "float32 overflow": ({"inputs": with_bad(1e300, 3), "targets": LABELS}, "the first is row 3"),
    "nan in images": (
        {"inputs": np.full((10, 8, 8), np.nan), "targets": LABELS},
        "10 rows, the first is row 0",
    ),
    "ambiguous channels": (
        {"inputs": pixels(10, 3, 8, 4), "targets": LABELS},
        "either axis 1 or axis 3 can be the channels",
    ),
    "no channels": (
        {"inputs": pixels(10, 8, 8, 2), "targets": LABELS},
        "neither axis 1 nor axis 3 can be the channels",
    ),
    "pixels above 255": (
        {"inputs": np.full((10, 8, 8), 256), "targets": LABELS},
        "from 256 to 256; save them as uint8",
    ),
    "boolean pixels": (
        {"inputs": np.ones((10, 8, 8), bool), "targets": LABELS},
        "type bool from True to True; save them as uint8",
    ),
    "one-hot targets": (
        {"inputs": FEATURES, "targets": np.eye(3)[LABELS]},
        r"'targets' has shape \(10, 3\).*argmax",
    ),
    "float targets": ({"inputs": FEATURES, "targets": LABELS / 2}, "type float64; save whole"),
    "one class": ({"inputs": FEATURES, "targets": LABELS * 0}, r"fewer than 2 classes \(0\)"),
    "signs": (
        {"inputs": FEATURES, "targets": np.where(LABELS > 0, 1, -1)},
        r"fewer than 2 classes \(1\); -1 and empty strings mark unknown labels",
    ),
    "no label": ({"inputs": FEATURES, "targets": LABELS * 0 - 1}, r"2 classes \(no labels\)"),
    "unknown test label": (
        {"inputs": FEATURES, "targets": LABELS, **TEST, "test_targets": LABELS[:6] - 1},
        "'test_targets' has 2 unknown labels, the first at row 0",
    ),
    "mixed labels": (
        {"inputs": FEATURES, "targets": LABELS, **TEST, "test_targets": LABELS[:6].astype(str)},
        "strings and of the other numbers",
    ),
    "test shape": (
        {"inputs": FEATURES, "targets": LABELS, **TEST, "test_inputs": FEATURES[:6, :3]},
        r"float32 \(4,\) but those of 'test_inputs' are torch.float32 \(3,\)",
    ),
    "few names": (
        {"inputs": FEATURES, "targets": LABELS, "class_names": np.array(["a", "b"])},
        "class_names has length 2 but the targets have 3 classes from 0 to 2",
    ),
    "equal names": (
        {"inputs": FEATURES, "targets": LABELS, "class_names": np.array(["a", "b", "a"])},
        "not all different",
    ),
    "nested names": (
        {"inputs": FEATURES, "targets": LABELS, "class_names": np.array([["a", "b", "c"]])},
        r"class_names has shape \(1, 3\)",
    ),
    "bytes names": (
        {"inputs": FEATURES, "targets": LABELS, "class_names": np.array([b"a", b"b", b"c"])},
        "give a plain list of strings",
    ),
    "beyond int64": (
        {"inputs": FEATURES, "targets": LABELS.astype("u8") + np.uint64(2**63)},
        "'targets' holds 9223372036854775810, which is beyond int64",
    ),
    "unknown by overflow": (
        {"inputs": FEATURES, "targets": np.full((len(LABELS), 2), 2**64 - 1, "u8")},
        "'targets' holds 18446744073709551615, which is beyond int64",
    ),
    "negative class": (
        {"inputs": FEATURES, "targets": LABELS - 2},
        "'targets' holds -2 and -1, which marks unknown labels and may be",
    ),
    "fractions": (
        {"inputs": FEATURES, "targets": LABELS + 0.5},
        "'targets' has type float64; save whole numbers",
    ),
    "huge objects": (
        {"inputs": FEATURES, "targets": LABELS.astype(object) + 10**30},
        "key 'targets' cannot be read .* not as objects",
    ),
    "foreign string": (
        {"inputs": FEATURES, "targets": LABELS.astype(str), "class_names": np.array(["0", "1"])},
        "the label '2' is not in class_names",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_npz_bad_array_raises_and_names_the_file(tmp_path, case):
    arrays, reason = BAD_ARRAYS[case]
    path = save(tmp_path, **arrays)
    with pytest.raises(ValueError, match=reason) as caught:
        npz(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"mean": [0.0] * 4}, "without the other"),
        ({"std": [1.0] * 4}, "without the other"),
        ({"mean": [0.0], "std": [1.0]}, "give 4 of both"),
        ({"mean": [0.0] * 4, "std": [1.0, 1.0, 0.0, 1.0]}, "above 0"),
        ({"mean": [0.0] * 4, "std": [1.0, 1.0, np.inf, 1.0]}, "finite"),
        ({"mean": [0.0] * 4, "std": [1.0, 1.0, np.nan, 1.0]}, "finite"),
        ({"mean": [0.0, np.nan, 0.0, 0.0], "std": [1.0] * 4}, "finite"),
        ({"mean": [0.0] * 4, "std": [1.0] * 4, "standardize": True}, "drop one or the other"),
        ({"size": 28}, "drop it for features"),
        ({"class_names": ["a"]}, "class_names has length 1 but the targets have 3 classes"),
    ],
)
def test_npz_bad_setting_raises(tmp_path, settings, reason):
    path = save(tmp_path, inputs=FEATURES, targets=LABELS)
    with pytest.raises(ValueError, match=reason):
        npz(path, **settings)


def test_npz_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz does not exist; set data\.path"):
        npz(str(tmp_path / "absent.npz"))


@pytest.mark.parametrize("keep", [0, 50, 400, -1])
def test_npz_truncated_file_raises(tmp_path, keep):
    path = save(tmp_path, inputs=FEATURES, targets=LABELS)
    Path(path).write_bytes(Path(path).read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"truncated, or no \.npz archive") as caught:
        npz(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("part", ["data", "directory"])
def test_npz_flipped_byte_raises(tmp_path, part):
    path = save(tmp_path, inputs=FEATURES, targets=LABELS)
    content = bytearray(Path(path).read_bytes())
    position = {"data": 200, "directory": content.rfind(b"PK\x01\x02")}[part]
    content[position] ^= 0xFF
    Path(path).write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged|cannot be read") as caught:
        npz(path)
    assert path in str(caught.value)


def test_array_files_are_the_archive_of_these_arrays_and_stay_on_the_disk(tmp_path):
    arrays = {"inputs": FEATURES, "targets": LABELS, **TEST}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    paths = {name: str(tmp_path / f"{name}.npy") for name in arrays}
    found = npz(
        paths["inputs"],
        targets=paths["targets"],
        test_path=paths["test_inputs"],
        test_targets=paths["test_targets"],
    )
    wanted = npz(save(tmp_path, **arrays))
    assert isinstance(found.inputs, MappedStore)
    assert found.name == "inputs"
    sources = [make_source(dataset, seed=0, validation=2) for dataset in (found, wanted)]
    for part in ("train", "validation", "test"):
        own, other = (getattr(source, part) for source in sources)
        assert torch.equal(own.take(torch.arange(len(own))), other.take(torch.arange(len(own))))
        assert torch.equal(own.targets, other.targets)


def test_files_that_do_not_go_together_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", FEATURES)
    np.save(tmp_path / "y.npy", LABELS)
    x, y = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    with pytest.raises(ValueError, match=r"set data\.targets"):
        npz(x)
    with pytest.raises(ValueError, match="save both or none"):
        npz(x, targets=y, test_path=x)
    with pytest.raises(FileNotFoundError, match=r"data\.targets=.*nowhere"):
        npz(x, targets=str(tmp_path / "nowhere.npy"))
    np.save(tmp_path / "one.npy", np.float32(7))
    with pytest.raises(ValueError, match=r"one\.npy' has shape \(\), a single number; save a"):
        npz(str(tmp_path / "one.npy"), targets=y)
    with pytest.raises(ValueError, match=r"leave data\.targets"):
        npz(save(tmp_path, inputs=FEATURES, targets=LABELS), targets=y)


ROWS = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [-1, -1, -1]] * 2)


@pytest.mark.parametrize("dtype", [np.int64, np.int8])
def test_npz_multilabel_rows_are_kept(tmp_path, dtype):
    path = tmp_path / "sets.npz"
    np.savez(path, inputs=FEATURES, targets=ROWS.astype(dtype), class_names=["a", "b", "c"])
    dataset = npz(str(path))
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.targets.dtype == torch.int64
    assert dataset.targets.tolist() == ROWS.tolist()
    source = make_source(dataset, seed=0, test_fraction=0.25)
    assert source.task == Multilabel(3)
    assert source.sizes == {"train": 8, "validation": 0, "test": 2}
    assert (source.test.targets >= 0).all()


def test_npz_multilabel_bool_rows_with_test_part(tmp_path):
    path = tmp_path / "sets.npz"
    rows = ROWS > 0
    np.savez(path, x_train=FEATURES, y_train=rows, x_test=FEATURES[:2], y_test=rows[:2])
    dataset = npz(str(path))
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.test_targets.tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("targets", "test", "names", "message"),
    [
        (np.where(ROWS < 0, 2, ROWS), None, None, r"\[2, 2, 2\] in row 4; save 1 where"),
        (np.where(ROWS > 0, -1, ROWS), None, None, r"row 0; save 1 where"),
        (ROWS[:, :1], None, None, r"shape \(10, 1\).*two or more labels"),
        (ROWS, None, ["a", "b"], "2 different names for 3 columns"),
        (ROWS, None, ["a", "b", "b"], "2 different names for 3 columns"),
        (ROWS, ROWS[3:5], None, "'test_targets' has 1 unknown labels, the first at row 1"),
        (ROWS, ROWS[:2, :2], None, "have 3 and 2 columns"),
        (ROWS, np.array([0, 1]), None, r"'test_targets' has shape \(2,\)"),
    ],
)
def test_npz_multilabel_bad_rows_are_named(tmp_path, targets, test, names, message):
    path = tmp_path / "sets.npz"
    parts = {} if test is None else {"test_inputs": FEATURES[:2], "test_targets": test}
    np.savez(path, inputs=FEATURES, targets=targets, **parts)
    with pytest.raises(ValueError, match=message):
        npz(str(path), class_names=names)


def test_npz_one_hot_rows_are_warned_about(tmp_path, caplog):
    path = tmp_path / "sets.npz"
    np.savez(path, inputs=FEATURES, targets=np.eye(3, dtype=int)[LABELS])
    npz(str(path))
    assert "every row has exactly one label" in caplog.text
    assert "argmax" in caplog.text
