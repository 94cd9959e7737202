import json
from typing import Any

from dal.utils.json_lines import JsonLines, parse_json_lines


def test_text_is_every_item_on_a_line_however_it_grew() -> None:
    lines = JsonLines()
    items: list[Any] = []
    for number in range(4):
        items.append({"round": number, "loss": 0.1 + 0.2 * number, "none": None})
        assert lines.text(items) == "".join(json.dumps(item) + "\n" for item in items)


def test_text_of_a_shorter_list_forgets_the_rest() -> None:
    lines = JsonLines()
    lines.text([1, 2, 3])
    assert lines.text([1]) == "1\n"
    assert lines.text([1, 5]) == "1\n5\n"


def test_parse_gives_the_same_numbers_back() -> None:
    items = [[0, 7, 0.1 + 0.2, -1], [1, 8, float("inf"), [0, 1]], {"lr": 1e-300}]
    assert parse_json_lines(JsonLines().text(items)) == items
    assert parse_json_lines("") == []
