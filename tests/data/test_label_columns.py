"""Labels in columns of a table, in the ways people write them."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dal.data.arrays import number_targets
from dal.data.label_columns import labels_of, override


def numbered(cells: list[str], names: list[str] | None = None) -> tuple[list[object], list[str]]:
    """What a run takes from one column."""
    labels, found = labels_of({"y": cells}, "y", names)
    targets, classes = number_targets({"targets": labels}, {"targets": "y"}, found)
    return targets["targets"].tolist(), list(classes)


def test_words_are_classes_in_alphabetical_order() -> None:
    assert numbered(["dog", " cat", "", "dog"]) == ([1, 0, -1, 1], ["cat", "dog"])
    assert numbered(["dog", "cat"], ["dog", "cat", "cow"]) == ([0, 1], ["dog", "cat", "cow"])


def test_numbers_are_classes_in_the_order_of_numbers() -> None:
    assert numbered(["10", "2", "-1", ""]) == ([1, 0, -1, -1], ["2", "10"])
    # pandas turns whole numbers into fractions where one is missing
    assert numbered(["1.0", "0.0", "", "-1.0"]) == ([1, 0, -1, -1], ["0", "1"])
    assert numbered(["1.0", "nan", "0.0", "NA"]) == ([1, -1, 0, -1], ["0", "1"])
    assert numbered(["1.5", "1.0", "-1"])[1] == ["-1", "1.0", "1.5"]


def test_words_for_missing_values_are_unknown_labels(caplog: pytest.LogCaptureFixture) -> None:
    words = ["NA", "N/A", "nan", "NaN", "null", " None ", "NULL", "#N/A", "?"]
    assert numbered(["b", *words, "a"]) == ([1, *[-1] * len(words), 0], ["a", "b"])
    assert "9 labels in the column 'y' are unknown, as they say #N/A or ?" in caplog.text
    caplog.clear()
    assert numbered(["a;b", "NA", "-", "b"])[0] == [[1, 1], [-1, -1], [0, 0], [0, 1]]
    assert "1 labels in the column 'y' are unknown, as they say NA;" in caplog.text
    labels, _ = labels_of({"a": ["1", "nan"], "b": ["0", "NA"]}, ["a", "b"])
    assert labels.tolist() == [[1, 0], [-1, -1]]


def test_words_for_missing_values_are_classes_where_they_are_named_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert numbered(["None", "low", "none"], ["None", "low"]) == ([0, 1, -1], ["None", "low"])
    assert numbered(["NA", "1"], ["1", "NA"]) == ([1, 0], ["1", "NA"])
    caplog.clear()
    assert numbered(["+", "-", ""]) == ([0, 1, -1], ["+", "-"])
    assert not caplog.text


def test_quantities_are_no_classes() -> None:
    different = [f"{n / 7:.4f}" for n in range(1, 12)]
    few_often = [f"{n / 10}" for n in range(60)] * 20
    for cells in (different, [*different, "", "NA", "3"], few_often, ["1,5", *different]):
        with pytest.raises(ValueError, match=r"'y' holds .* regression is not supported: write"):
            numbered(cells)
    assert numbered(different, sorted(different))[0] == list(range(11))
    assert len(numbered(["0.5", "1.5", "2.5"] * 9)[1]) == 3
    assert numbered(["1.5", *[""] * 20, "0.5"])[1] == ["0.5", "1.5"]


def test_class_names_name_the_numbers_from_0_on() -> None:
    assert numbered(["2", "0"], ["cat", "dog", "cow"]) == ([2, 0], ["cat", "dog", "cow"])
    assert numbered(["2", "1"], ["1", "2"]) == ([1, 0], ["1", "2"])


def test_cells_with_a_semicolon_hold_several_labels() -> None:
    targets, names = numbered(["joy; fear", "joy", "-", "", "fear;"])
    assert names == ["fear", "joy"]
    assert targets == [[1, 1], [0, 1], [0, 0], [-1, -1], [1, 0]]


def test_several_columns_hold_a_label_each() -> None:
    columns = {"joy": ["1", "0", "", "1.0"], "text": list("abcd"), "fear": ["true", "0", "", "no"]}
    columns["fear"][3] = "False"
    labels, names = labels_of(columns, ["joy", "fear"])
    assert names == ("joy", "fear")
    assert labels.tolist() == [[1, 1], [0, 0], [-1, -1], [1, 0]]


def test_without_a_column_nothing_is_known() -> None:
    labels, names = labels_of({"file": ["a", "b"]}, None, ["cat", "dog"])
    assert labels.tolist() == ["", ""]
    assert names == ("cat", "dog")


@pytest.mark.parametrize(
    ("columns", "target", "names", "message"),
    [
        ({"label": ["a"]}, "labels", None, "no column 'labels'; did you mean 'label'"),
        ({"a": ["1"], "b": ["2"]}, "y", None, "no column 'y'; set data.target to one of a, b"),
        ({"y": ["a", "b"]}, [], None, "data.target names no column; give one, or null"),
        ({"y": ["a", "b"]}, "y", ["a"], "holds the label 'b', which is not in class_names"),
        ({"y": ["-2", "-1", "0"]}, "y", None, "holds -2 and -1, which marks unknown"),
        ({"y": ["a;b", "a;;b"]}, "y", None, "'a;;b' in row 2"),
        ({"y": ["a;b", "a;-"]}, "y", None, "'a;-' in row 2"),
        ({"a": ["1", "0"], "b": ["0", "maybe"]}, ["a", "b"], None, "'b' has 'maybe' in row 2"),
        ({"a": ["1", "0"], "b": ["0", ""]}, ["a", "b"], None, "row 2 has labels in some.* 'b'"),
    ],
)
def test_what_is_no_label_is_refused(
    columns: dict[str, list[str]], target: str | list[str], names: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        labels_of(columns, target, names)


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["age", "zip_code"], "data.drop=[age,zip_code]"),
        (["length (cm)", "age"], "\"data.drop=['length (cm)','age']\""),
        (["größe"], "\"data.drop=['größe']\""),
        (["it's, 1"], "\"data.drop=['it\\'s, 1']\""),
        (["true"], "\"data.drop=['true']\""),
        (["1"], "\"data.drop=['1']\""),
    ],
)
def test_errors_write_columns_as_a_command_line_takes_them(names: list[str], written: str) -> None:
    assert override("data.drop", *names) == written
    (word,) = shlex.split(written)
    assert OverridesParser.create().parse_override(word).value() == names
