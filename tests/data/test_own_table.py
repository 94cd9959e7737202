"""Tables of one's own: what their columns are taken for, and the features that they give."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from dal.data import make_source, table
from dal.data.table_features import Encoder
from dal.data.table_files import read_table

LABELS = ["cat", "dog"]


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return str(path)


def made(rows: int = 60, seed: int = 0) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "age": [f"{value:.3f}" for value in rng.normal(40, 9, rows)],
        "color": rng.choice(["red", "green", "blue"], rows).tolist(),
        "size": rng.integers(0, 5, rows).tolist(),
        "label": [LABELS[n % 2] for n in range(rows)],
    }


def test_numbers_and_categories_are_those_of_scikit_learn(tmp_path: Path) -> None:
    columns = made()
    rng = np.random.default_rng(1)
    for name in ("age", "color", "size"):
        for row in rng.choice(60, 7, replace=False):
            columns[name][row] = ""
    dataset = table(write(tmp_path / "a.csv", columns), "label", missing="fill")

    known = [
        [np.nan if cell == "" else cell for cell in columns[name]]
        for name in ("age", "color", "size")
    ]
    inputs = np.array(known, dtype=object).T
    hot = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(sparse_output=False))
    expected = ColumnTransformer(
        [
            ("age", SimpleImputer(strategy="median"), [0]),
            ("color", hot, [1]),
            ("size", SimpleImputer(strategy="median"), [2]),
        ]
    ).fit_transform(inputs)
    assert dataset.inputs.dtype == torch.float32
    np.testing.assert_array_equal(dataset.inputs.numpy(), expected.astype(np.float32))
    assert dataset.targets.tolist() == [n % 2 for n in range(60)]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.name == "a"


def test_numbers_alone_are_standardized(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", made())
    source = make_source(table(path, "label"), seed=0)
    batch = source.train.take(torch.arange(len(source.train)))
    assert batch[:, [0, 4]].mean(0).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert batch[:, [0, 4]].std(0, correction=0).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert set(batch[:, 1:4].flatten().tolist()) == {0, 1}
    assert make_source(table(path, "label", standardize=False), seed=0).train.prepare.mean == ()


def test_a_recipe_gives_the_same_bits_to_any_rows(tmp_path: Path) -> None:
    columns = made()
    columns["age"][3] = columns["color"][5] = ""
    path = write(tmp_path / "a.csv", columns)
    dataset = table(path, "label", missing="fill")
    cells = {name: column[::-1] for name, column in read_table(Path(path)).items()}
    assert dataset.recipe is not None
    again = Encoder(dataset.recipe)({"more": [""] * 60, **cells}).inputs
    assert torch.equal(torch.from_numpy(again.copy()).flip(0), dataset.inputs)


def test_what_the_columns_are_taken_for_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {"n": list(range(60)), **made(), "one": ["x"] * 60, "none": [""] * 60}
    columns["age"][0] = "n/a"
    caplog.set_level(logging.INFO)
    table(write(tmp_path / "a.csv", columns), "label", missing="fill")
    assert (
        "60 train rows, 6 features; numbers: n, age, size; categories: color (3); filled in: age "
        "(1 rows); left out, the same in all rows: one, none"
    ) in caplog.text
    assert "column 'n' seems to count the rows" in caplog.text


def test_numbers_may_be_codes_of_categories(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", made())
    dataset = table(path, "label", categorical=["size"])
    assert dataset.recipe is not None
    assert dataset.recipe["columns"][2]["values"] == ["0", "1", "2", "3", "4"]
    assert dataset.inputs.shape == (60, 9)
    assert dataset.standardize == (0,)


def test_people_see_the_id_or_the_row(tmp_path: Path) -> None:
    columns = {"name": [f"no {n}" for n in range(60)], **made()}
    path = write(tmp_path / "a.csv", columns)
    dataset = table(path, "label", id="name")
    assert dataset.contents is not None
    assert list(dataset.contents)[:2] == ["no 0", "no 1"]
    row = table(path, "label", drop=["name"]).contents
    assert row is not None
    age, color, size = (columns[name][7] for name in ("age", "color", "size"))
    assert row[7] == f"name=no 7, age={age}, color={color}, size={size}"
    columns["{long}"] = ["a\nb " * 200] * 60
    row = table(write(tmp_path / "b.csv", columns), "label", id="name", drop=["age"]).contents
    assert row is not None
    row = table(write(tmp_path / "b.csv", columns), "label", drop=["name"]).contents
    assert row is not None
    assert len(row[0]) == 300
    assert "{long}=a b a b" in row[0]


def test_parts_stand_in_a_column_or_in_files_of_their_own(tmp_path: Path) -> None:
    columns = made(90)
    columns["color"][80:] = ["violet"] * 10
    columns["use"] = ["train", "", "Test"] * 20 + ["val"] * 20 + ["test"] * 10
    whole = table(write(tmp_path / "a.csv", columns), "label", split="use")

    columns["use"] = [use or "train" for use in columns["use"]]

    def rows(part: str) -> dict[str, list[Any]]:
        return {
            name: [
                c for c, use in zip(cells, columns["use"], strict=True) if use[:3].lower() in part
            ]
            for name, cells in columns.items()
            if name != "use"
        }

    files = {p: write(tmp_path / f"{p}.csv", rows(p)) for p in ("test", "val")}
    parts = table(
        write(tmp_path / "b.csv", rows("train")),
        "label",
        test_path=files["test"],
        validation_path=files["val"],
    )
    for dataset in (whole, parts):
        assert dataset.inputs.shape == (40, 5)
        assert dataset.test_inputs is not None
        assert dataset.validation_inputs is not None
        assert dataset.contents is not None
        assert len(dataset.contents) == 90
        # no training row is violet
        assert dataset.test_inputs[-10:, 1:4].sum() == 0
    assert torch.equal(whole.inputs, parts.inputs)
    assert torch.equal(whole.test_inputs, parts.test_inputs)
    assert torch.equal(whole.validation_inputs, parts.validation_inputs)
    assert torch.equal(whole.validation_targets, parts.validation_targets)


def test_samples_may_have_several_labels(tmp_path: Path) -> None:
    columns = made(4)
    columns |= {"label": ["joy;fear", "joy", "", "-"], "joy": [1, 1, "", 0], "fear": [1, 0, "", 0]}
    path = write(tmp_path / "a.csv", columns)
    expected = [[1, 1], [0, 1], [-1, -1], [0, 0]]
    assert table(path, "label", drop=["joy", "fear"]).targets.tolist() == expected
    both = table(path, ["fear", "joy"], drop=["label"])
    assert both.targets.tolist() == expected
    assert both.class_names == ("fear", "joy")


def test_no_label_need_be_known(tmp_path: Path) -> None:
    columns = made()
    del columns["label"]
    path = write(tmp_path / "a.csv", columns)
    dataset = table(path, None, class_names=["cat", "dog"])
    assert set(dataset.targets.tolist()) == {-1}
    with pytest.raises(ValueError, match="no label is known; name the classes"):
        table(path, None)


def test_more_than_fits_into_memory_is_refused_with_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", made())
    monkeypatch.setattr(os, "sysconf", lambda name: 32)  # pages, and bytes of a page
    with pytest.raises(ValueError, match=r"60 rows of 5 features; as \.npy .* see data=npz"):
        table(path, "label")


def test_json_lines_hold_tables_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"a": 1.5, "b": true, "y": "x"}\n{"a": 2, "b": false, "y": "z"}\n{"b": true, "a": null}\n'
    )
    dataset = table(str(path), "y", missing="fill")
    assert dataset.inputs.tolist() == [[1.5, 0, 1], [2, 1, 0], [1.75, 0, 1]]
    assert dataset.targets.tolist() == [0, 1, -1]


def words(*texts: str) -> list[str]:
    return [texts[n % len(texts)] for n in range(60)]


REFUSED: dict[str, tuple[dict[str, list[Any]], dict[str, Any], str]] = {
    "missing": (
        {"age": words("", "1", "2"), "color": words("", "a", "b", "c")},
        {},
        r"values are missing in age \(20 rows\), color \(15 rows\); fill .*drop=\[age,color\]",
    ),
    "commas": (
        {"age": words("1,5", "2", "1.000,5")},
        {},
        "'age' holds numbers with a comma, such as '1,5' in row 1; save them with a point",
    ),
    "odd": (
        {"age": [*range(59), "abc"]},
        {},
        "'age' holds numbers, but in 1 of 60 rows something else, first 'abc' in row 60",
    ),
    "ids": (
        {"name": [f"no {n}" for n in range(60)]},
        {},
        r"'name' holds 60 different values in 60 rows, .*data\.id=name, .*data\.drop=\[name\]",
    ),
    "no column": ({}, {"drop": ["colour"]}, "no column 'colour'; did you mean 'color'.*data.drop"),
    "target": ({}, {"target": "y"}, "no column 'y'; set data.target to one of age"),
    "twice": ({}, {"id": "age", "drop": ["age"]}, "data.id and data.drop both name 'age'"),
    "nothing": ({}, {"drop": ["age", "color", "size"]}, "no column is left to learn from"),
    "split": ({}, {"split": "color"}, "the column 'color' has '.*' in row 1; it may hold train"),
    "one class": ({"label": words("cat", "")}, {}, "fewer than 2 classes"),
    "unknown": ({"label": words("cat", "?", "NA")}, {}, "fewer than 2 classes"),
    "class": ({"label": words("cat", "a\tb")}, {}, r"class 0 is named 'a\\tb', but line breaks"),
    "quantity": (
        {"label": [n / 7 for n in range(1, 61)]},
        {},
        "'label' holds 52 different numbers .* regression is not supported: write the name of a bi",
    ),
    "range": (
        {"age": words("1e99", "2")},
        {},
        "row 1 .*1e99 in the column 'age' is beyond float32",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_learned_from_is_refused(tmp_path: Path, kind: str) -> None:
    columns, settings, message = REFUSED[kind]
    path = write(tmp_path / "a.csv", made() | columns)
    with pytest.raises(ValueError, match=rf"a\.csv: .*{message}"):
        table(path, **{"target": "label", **settings})


def test_rows_of_test_tables_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", made())

    def test_of(**columns: list[Any]) -> str:
        return write(tmp_path / "test.csv", {**made(), **columns})

    with pytest.raises(
        ValueError, match="row 2 of the test rows: 'x' in the column 'age' is no nu"
    ):
        table(path, "label", test_path=test_of(age=["1", "x"] * 30))
    with pytest.raises(ValueError, match=r"row 1 .*the column 'color' is empty; .*missing=fill"):
        table(path, "label", test_path=test_of(color=[""] * 60))
    with pytest.raises(ValueError, match="30 of 60 test rows have no label"):
        table(path, "label", test_path=test_of(label=words("cat", "")))
    columns = made()
    del columns["size"]
    with pytest.raises(ValueError, match=r"test\.csv: it lacks the column size, which the model"):
        table(path, "label", test_path=write(tmp_path / "test.csv", columns))


def test_no_file_is_two_parts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", made())
    (tmp_path / "link.csv").symlink_to("a.csv")
    other = write(tmp_path / "b.csv", made())
    for settings, fact in (
        ({"test_path": path}, r"data\.path and data\.test_path are the same file; give"),
        ({"validation_path": str(tmp_path / "link.csv")}, r"data\.path and data\.validation_path"),
        ({"test_path": other, "validation_path": other}, r"data\.test_path and data\.validation_p"),
    ):
        with pytest.raises(ValueError, match=rf"\.csv: {fact}"):
            table(path, "label", **settings)


def test_classes_that_may_be_meant_as_one_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = words("A", "a", "b c", "B  C", "d")
    found = table(write(tmp_path / "a.csv", made() | {"label": labels}), "label")
    assert found.class_names == ("A", "B  C", "a", "b c", "d")
    assert "in upper and lower case or blanks only: A and a, B  C and b c" in caplog.text
    caplog.clear()
    table(write(tmp_path / "a.csv", made()), "label")
    assert "blanks only" not in caplog.text


@pytest.mark.parametrize("missing", ["refuse", "fill"])
def test_numbers_at_the_end_of_float32_are_learned_from(tmp_path: Path, missing: Any) -> None:
    columns = made() | {
        "age": [3e38 * (-1) ** n for n in range(60)],
        "size": ["3e38", *[2e38] * 59],
    }
    columns["size"][7] = "" if missing == "fill" else "1"
    dataset = table(write(tmp_path / "a.csv", columns), "label", missing=missing)
    ages = torch.tensor([3e38 * (-1) ** n for n in range(60)], dtype=torch.float32)
    assert torch.equal(torch.as_tensor(dataset.inputs)[:, 0], ages)
    assert dataset.inputs[7, -1] == torch.tensor(2e38 if missing == "fill" else 1)
