"""Texts of people and of machines, as they are shown."""

from __future__ import annotations

from html import unescape

import pytest

from dal.recording.words import cell, in_short, in_words


def test_a_text_stays_within_its_cell_whatever_it_holds() -> None:
    markdown = pytest.importorskip("markdown")  # what TensorBoard shows texts with
    text = "a | b\n*c* _d_ `e` [f](g) <script>h</script> &lt; \\* ~i~ # - 1."
    table = f"| text |\n| --- |\n| {cell(text)} |"
    html = markdown.markdown(table, extensions=["markdown.extensions.tables"])
    (shown,) = [line for line in html.splitlines() if line.startswith("<td>")]
    assert unescape(shown[4:-5]) == " ".join(text.split())
    assert "<" not in shown[4:-5]


def test_long_texts_are_cut() -> None:
    assert cell("x" * 10**6, most=5) == "xxxx…"
    assert cell(" a  b ", most=3) == "a b"
    assert cell(f"a{' ' * 1000}b", most=3) == "a…"


def test_what_is_no_text_is_shown_as_far_as_it_is_one() -> None:
    assert cell("a\ud800b") == "a?b"


def test_metrics_in_words() -> None:
    assert [in_words(name) for name in ("macro_f1", "accuracy", "ece", "hamming_loss")] == [
        "macro F1",
        "accuracy",
        "ECE",
        "hamming loss",
    ]


def test_a_text_in_short_is_its_beginning_in_one_line() -> None:
    assert in_short(" two\r\n\r\nlines\t. ", 12) == "two lines ."
    assert in_short("two lines and more", 9) == "two line…"
    assert in_short("a" + " " * 10**6, 9) == "a…"
