"""Names of classes that people could not give back are refused where the data are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dal.data import Dataset, make_source
from dal.data.class_names import check_class_names
from dal.data.npz import npz

FEATURES = np.arange(24, dtype=np.float32).reshape(12, 2)
BAD = {
    "?": "is written where no label can be given",
    "a;b": "stands between several labels",
    ";": "stands between several labels",
    "": "an empty label is one that nobody has given yet",
    "  ": "an empty label is one that nobody has given yet",
    " fox": "blanks around a label are not seen",
    "fox\u00a0": "blanks around a label are not seen",
    "red\nfox": "line breaks and tabs",
    "fox\r": "line breaks and tabs",
    "red\tfox": "line breaks and tabs",
    "red\u2028fox": "line breaks and tabs",
}


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_cannot_be_given_back_is_refused_by_name(tmp_path: Path, name: str) -> None:
    names = ("cat", "dog", name)
    path = tmp_path / "mine.npz"
    np.savez(path, inputs=FEATURES, targets=np.arange(12) % 3)
    with pytest.raises(ValueError, match=BAD[name]) as raised:
        npz(str(path), class_names=names)
    assert f"{path}: class_names: class 2 is named {name!r}" in str(raised.value)
    dataset = Dataset("mine", torch.from_numpy(FEATURES), torch.arange(12) % 3, names)
    with pytest.raises(ValueError, match=BAD[name]) as raised:
        make_source(dataset, seed=0)
    assert f"mine: class 2 is named {name!r}" in str(raised.value)


@pytest.mark.parametrize("label", ["?", "a;b", " fox", "red\nfox"])
def test_labels_that_are_such_names_are_refused(tmp_path: Path, label: str) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, inputs=FEATURES, targets=np.array(["cat", label, "dog"] * 4))
    with pytest.raises(ValueError, match=r"mine\.npz: class_names: class \d is named") as raised:
        npz(str(path))
    assert repr(label) in str(raised.value)


def test_names_alike_but_for_blanks_and_doubled_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="class 1 is named 'cat '"):
        check_class_names(["cat", "cat "], False, "mine")
    with pytest.raises(ValueError, match="two classes are named 'cat'"):
        check_class_names(["cat", "dog", "cat"], False, "mine")


def test_a_dash_is_refused_where_it_says_that_no_label_holds() -> None:
    check_class_names(["+", "-"], False, "mine")
    with pytest.raises(ValueError, match="'-' is written where none of the labels holds"):
        check_class_names(["+", "-"], True, "mine")


def test_other_names_are_taken() -> None:
    check_class_names(["katze, groß", 'the "other"', "01", "1", "a b", "👩‍🔬"], True, "mine")
