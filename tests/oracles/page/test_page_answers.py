"""What people answer on the page, and what becomes of it."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from page_client import Client
from waiting import Limit, join

from dal.data import Dataset, make_source
from dal.data.source import Source
from dal.oracles import Answers, PageOracle
from dal.oracles.page.log import AnswerLog
from dal.pool import REJECTED
from dal.query.base import Query

CLASSES = ("bird", "cat", "dog")


def source_of(count: int = 40, multilabel: bool = False) -> Source:
    pixels = torch.arange(count * 16, dtype=torch.uint8).reshape(count, 1, 4, 4)
    targets = torch.arange(count) % 3
    if multilabel:
        targets = torch.nn.functional.one_hot(targets, 3)
    return make_source(Dataset("tiny", pixels, targets, CLASSES), seed=0, kind="none")


def query(*indices: int, **more: Any) -> Query:
    return Query(torch.tensor(indices), torch.linspace(1, 0, len(indices)), **more)


class Page:
    """A page whose run waits for one question after the other, in a thread of its own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        usual = source_of(multilabel=settings.get("multilabel", False))
        self.source = settings.pop("source", usual)
        self.oracle = PageOracle(folder / "queries", CLASSES, open_browser=False, **settings)
        self.oracle.open(self.source)
        self.address = self.oracle.address
        self.client = Client(self.address)
        self._stop = threading.Event()

    def ask(self, question: Query, number: int = 0) -> dict[str, Any]:
        """Submit a question and show it; it stays on the page."""
        ticket = self.oracle.submit(question, number)
        assert self.oracle.collect(ticket) is None
        assert self.oracle.wait(ticket, 0)
        return ticket

    def served(self, ticket: dict[str, Any], work: Callable[[], Any]) -> Any:
        """Do something while the run waits, so that data can be looked at."""
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(work()))
        thread.start()
        limit = Limit(60, lambda: found)
        while thread.is_alive():
            limit.check()
            self.oracle.wait(ticket, 0.05)
        return found[0]


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def opened(**settings: Any) -> Page:
        pages.append(Page(tmp_path, **settings))
        return pages[-1]

    yield opened
    for page in pages:
        page.oracle.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "queries/answers.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def rows(answers: Answers | None) -> set[tuple[int, str, int, bool]]:
    assert answers is not None
    assert answers.annotators is not None
    return set(
        zip(
            answers.indices.tolist(),
            answers.annotators,
            answers.targets.tolist(),
            answers.abstained.tolist(),
            strict=True,
        )
    )


def test_a_question_that_was_not_handed_in_is_not_closed_by_a_new_start(
    open_page: Any, tmp_path: Path
) -> None:
    before = open_page()
    before.ask(query(7, 3))
    assert before.client.answer("round_0000-7", {"labels": [1]})[0] == 200
    before.oracle.close()
    page = open_page()  # it listens before the run gets as far as its question
    sent = {"answer": {"labels": [2]}, "nonce": "keptbythepage"}
    status, found = page.client.answer("round_0000-3", **sent)
    assert status == 503
    assert "not open yet" in found["error"]
    assert page.client.hand_in("round_0000")[0] == 503
    assert page.client.answer("round_0000-3", **sent, question=["round_0000"])[0] == 503
    page.ask(query(7, 3))
    assert page.client.answer("round_0000-3", **sent)[0] == 200
    assert page.client.hand_in("round_0000")[0] == 200
    assert page.client.answer("round_0000-3", **sent)[0] == 409
    assert [line["index"] for line in lines(tmp_path) if "index" in line] == [7, 3]


def test_a_round_is_answered_undone_changed_and_handed_in(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    ticket = page.ask(query(7, 3, 5, 9))
    client = page.client
    state = client.state()
    assert [item["id"] for item in state["items"]] == [f"round_0000-{i}" for i in (7, 3, 5, 9)]
    assert [kind["name"] for kind in state["classes"]] == list(CLASSES)
    assert (state["asked"], state["answered"], state["missing"]) == (4, 0, 4)
    assert client.answer("round_0000-7", {"labels": [1]}, seconds=2.0)[1]["mine"] == {"labels": [1]}
    assert client.answer("round_0000-3", {"unsure": True})[0] == 200
    assert client.answer("round_0000-5", {"none": True})[0] == 200
    assert client.answer("round_0000-9", {"labels": [2]})[0] == 200
    assert client.answer("round_0000-7", None, seconds=1.0)[1]["mine"] is None
    status, refused = client.hand_in("round_0000")
    assert (status, refused["question"]) == (409, "round_0000")
    assert "1 samples have no answer" in refused["error"]
    assert client.answer("round_0000-7", {"labels": [0]}, seconds=0.5)[0] == 200
    assert page.oracle.collect(ticket) is None  # it may still be changed
    assert client.hand_in("round_0000")[0] == 200
    answers = page.oracle.collect(ticket)
    assert rows(answers) == {
        (7, "Ann", 0, False), (3, "Ann", -1, True), (5, "Ann", REJECTED, False),
        (9, "Ann", 2, False),
    }  # fmt: skip
    assert answers is not None
    assert answers.seconds is not None
    assert dict(zip(answers.indices.tolist(), answers.seconds.tolist(), strict=True)) == {
        7: 3.5, 3: 1.5, 5: 1.5, 9: 1.5,
    }  # fmt: skip
    assert answers.cost.tolist() == [1, 1, 1, 1]
    assert len(lines(tmp_path)) == 7


def test_an_answer_sent_twice_counts_once(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.ask(query(1, 2))
    for _ in range(3):
        status, found = page.client.answer("round_0000-1", {"labels": [1]}, nonce="a" * 8)
        assert (status, found["mine"]) == (200, {"labels": [1]})
    assert len(lines(tmp_path)) == 1


def test_what_tells_an_answer_apart_tells_it_apart_for_its_sample_only(open_page: Any) -> None:
    page = open_page()
    page.ask(query(1, 2))
    nonce = {"nonce": "a" * 8}
    assert page.client.answer("round_0000-1", {"labels": [1]}, **nonce)[0] == 200
    assert page.client.answer("round_0000-2", {"labels": [0]}, **nonce)[1]["mine"] == {
        "labels": [0]
    }
    assert Client(page.address, "Bob").answer("round_0000-1", {"none": True}, **nonce)[0] == 200
    assert page.client.hand_in("round_0000")[0] == 200


def test_a_new_process_goes_on_with_what_was_answered(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.ask(query(4, 6, 8))
    page.client.answer("round_0000-6", {"labels": [2]}, nonce="n" * 16)
    page.oracle.close()
    with (tmp_path / "queries/answers.jsonl").open("a") as file:
        file.write('{"question": "round_0000", "index": 4, "na')  # killed as it wrote
    again = open_page()
    assert again.address == page.address  # a page left open goes on
    ticket = again.ask(query(4, 6, 8))
    mine = {item["id"]: item["mine"] for item in page.client.state()["items"]}
    assert mine == {
        "round_0000-4": None, "round_0000-6": {"labels": [2]}, "round_0000-8": None,
    }  # fmt: skip
    again.client.answer("round_0000-6", {"labels": [2]}, nonce="n" * 16)
    again.client.answer("round_0000-4", {"labels": [0]})
    again.client.answer("round_0000-8", {"labels": [0]})
    again.client.hand_in("round_0000")
    assert len(rows(again.oracle.collect(ticket))) == 3
    assert [line.get("index") for line in lines(tmp_path)] == [6, 4, 8, None]


def test_what_was_handed_in_is_given_at_once_after_a_kill(open_page: Any) -> None:
    page = open_page()
    page.ask(query(4))
    page.client.answer("round_0000-4", {"labels": [2]})
    page.client.hand_in("round_0000")
    page.oracle.close()
    again = open_page()
    ticket = again.oracle.submit(query(4), 0)
    assert rows(again.oracle.collect(ticket)) == {(4, "Ann", 2, False)}


def test_a_page_left_open_over_rounds_learns_of_it(open_page: Any) -> None:
    page = open_page()
    for number in range(3):
        page.ask(query(number), number)
        page.client.answer(f"round_{number:04d}-{number}", {"labels": [1]})
        page.client.hand_in(f"round_{number:04d}")
    page.ask(query(3), 3)
    status, found = page.client.answer("round_0000-0", {"labels": [2]})
    assert (status, found["question"]) == (409, "round_0003")
    assert page.client.hand_in("round_0000")[0] == 409


def test_what_is_no_answer_is_refused_in_words(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.ask(query(1))
    client, item = page.client, "round_0000-1"
    for answer, words in (
        ({"labels": [3]}, "0 to 2"),
        ({"labels": [-1]}, "0 to 2"),
        ({"labels": [True]}, "no list of labels"),
        ({"labels": []}, "one label"),
        ({"labels": [0, 1]}, "one label"),
        ({"labels": [0], "none": True}, "no list of labels"),
        ("bird", "no list of labels"),
        ({"none": 1}, "no list of labels"),
    ):
        status, found = client.answer(item, answer)
        assert status == 400, answer
        assert words in found["error"]
    never = client.answer("round_0000-2", {"labels": [0]})
    assert (never[0], "not asked" in never[1]["error"]) == (400, True)
    for name in ("", " ", "a\nb", "x" * 41, "a;b", 7):
        assert client.answer(item, {"labels": [0]}, name=name)[0] == 400
    for nonce in ("short", "ä" * 8, "a b c d e", 12345678):
        assert client.answer(item, {"labels": [0]}, nonce=nonce)[0] == 400
    assert not (tmp_path / "queries/answers.jsonl").exists()


def test_seconds_of_a_broken_clock_are_kept_within_reason(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.ask(query(1))
    for seconds in (-5, 1e9, "long", None, True, 10**400, math.nan):
        assert page.client.answer("round_0000-1", {"labels": [0]}, seconds=seconds)[0] == 200
    assert [line["seconds"] for line in lines(tmp_path)] == [0, 600, 0, 0, 0, 600, 0]


def test_several_labels_and_none_of_them(open_page: Any) -> None:
    page = open_page(multilabel=True)
    ticket = page.ask(query(1, 2, 3))
    page.client.answer("round_0000-1", {"labels": [2, 0]})
    page.client.answer("round_0000-2", {"none": True})
    page.client.answer("round_0000-3", {"unsure": True})
    page.client.hand_in("round_0000")
    answers = page.oracle.collect(ticket)
    assert answers is not None
    assert answers.targets.tolist() == [[1, 0, 1], [0, 0, 0], [-1, -1, -1]]
    assert answers.abstained.tolist() == [False, False, True]


def test_people_share_a_round_and_nobody_waits(open_page: Any) -> None:
    page = open_page()
    ticket = page.ask(query(*range(10)))
    ann, bob = page.client, Client(page.address, "Bob")
    assert len(ann.state()["items"]) == 10
    theirs = [item["id"] for item in bob.state()["items"]]
    mine = [item["id"] for item in ann.state()["items"]]
    assert (len(mine), len(theirs)) == (5, 5)
    assert not set(mine) & set(theirs)
    assert mine == [f"round_0000-{i}" for i in range(5)]  # what Ann looks at stays hers
    for item in theirs:
        bob.answer(item, {"labels": [1]})
    more = [item["id"] for item in bob.state()["items"] if item["mine"] is None]
    assert more == mine[3:]
    for item in mine[:3]:
        ann.answer(item, {"labels": [0]})
    for item in more:
        bob.answer(item, {"labels": [2]})
    state = ann.state()
    assert [(p["name"], p["answered"]) for p in state["people"]] == [("Ann", 3), ("Bob", 7)]
    assert state["missing"] == 0
    ann.hand_in("round_0000")
    found = page.oracle.collect(ticket)
    assert found is not None
    assert sorted(found.indices.tolist()) == list(range(10))
    assert sorted(set(found.annotators or ())) == ["Ann", "Bob"]


def test_two_people_answer_each_sample_and_see_where_they_differ(open_page: Any) -> None:
    page = open_page(annotators_per_sample=2)
    ticket = page.ask(query(1, 2))
    ann, bob = page.client, Client(page.address, "Bob")
    ann.answer("round_0000-1", {"labels": [0]})
    ann.answer("round_0000-2", {"labels": [1]})
    assert ann.hand_in("round_0000")[0] == 409
    assert ann.state()["answered"] == 2
    assert [item["others"] for item in bob.state()["items"]] == [1, 1]
    bob.answer("round_0000-1", {"labels": [0]})
    bob.answer("round_0000-2", {"unsure": True})
    assert ann.state()["disagreements"] == [
        {
            "id": "round_0000-2",
            "answers": [{"name": "Ann", "labels": [1]}, {"name": "Bob", "unsure": True}],
        }
    ]
    assert bob.hand_in("round_0000")[0] == 200
    assert len(rows(page.oracle.collect(ticket))) == 4


def test_two_browsers_with_one_name_are_one_person(open_page: Any) -> None:
    page = open_page()
    ticket = page.ask(query(1, 2))
    other = Client(page.address, "Ann")
    page.client.answer("round_0000-1", {"labels": [0]})
    assert other.state()["items"][0]["mine"] == {"labels": [0]}
    other.answer("round_0000-1", {"labels": [1]})
    other.answer("round_0000-2", {"labels": [1]})
    assert page.client.state()["items"][0]["mine"] == {"labels": [1]}
    page.client.hand_in("round_0000")
    assert rows(page.oracle.collect(ticket)) == {(1, "Ann", 1, False), (2, "Ann", 1, False)}


def test_what_stays_open_comes_with_the_next_question(open_page: Any) -> None:
    page = open_page(enough=0.5)
    first = page.ask(query(1, 2, 3, 4))
    page.client.answer("round_0000-1", {"labels": [0]})
    assert page.client.hand_in("round_0000", anyway=True)[0] == 409
    page.client.answer("round_0000-2", {"labels": [0]})
    assert page.client.state()["may_be_open"] == 2
    assert page.client.hand_in("round_0000")[0] == 409
    assert page.client.hand_in("round_0000", anyway=True)[0] == 200
    assert len(rows(page.oracle.collect(first))) == 2
    second = page.ask(query(7), 1)
    shown = [item["id"] for item in page.client.state()["items"]]
    assert shown == ["round_0001-7", "round_0000-3", "round_0000-4"]
    late = {"question": "round_0001"}
    page.client.answer("round_0000-3", {"labels": [2]}, **late)
    page.client.answer("round_0001-7", {"labels": [1]})
    assert len(rows(page.oracle.revisit(first))) == 2  # it may be taken back until it is handed in
    page.client.hand_in("round_0001", anyway=True)
    assert rows(page.oracle.collect(second)) == {(7, "Ann", 1, False)}
    assert len(rows(page.oracle.revisit(first))) == 3
    page.oracle.wait(first, 0)  # at the end a run waits for all
    assert [item["id"] for item in page.client.state()["items"]] == ["round_0000-4"]
    assert page.client.hand_in("round_0000", anyway=True)[0] == 409
    page.client.answer("round_0000-4", {"unsure": True})
    page.client.hand_in("round_0000")
    assert len(rows(page.oracle.revisit(first))) == 4


def test_a_sample_asked_once_more_goes_to_somebody_else(open_page: Any) -> None:
    page = open_page()
    page.ask(query(1))
    page.client.answer("round_0000-1", {"labels": [0]})
    page.client.hand_in("round_0000")
    bob = Client(page.address, "Bob")
    bob.state()
    ticket = page.ask(Query(torch.tensor([5, 1]), torch.zeros(2), again=torch.tensor([1])), 1)
    assert [item["id"] for item in page.client.state()["items"]] == ["round_0001-5"]
    assert [item["id"] for item in bob.state()["items"]] == ["round_0001-1"]
    bob.answer("round_0001-1", {"labels": [2]})
    page.client.answer("round_0001-5", {"labels": [2]})
    bob.hand_in("round_0001")
    assert rows(page.oracle.collect(ticket)) == {(1, "Bob", 2, False), (5, "Ann", 2, False)}


def test_of_a_sample_asked_once_more_one_more_answer_is_wanted(open_page: Any) -> None:
    page = open_page(annotators_per_sample=2)
    page.ask(Query(torch.tensor([5, 1]), torch.zeros(2), again=torch.tensor([1])), 1)
    assert page.client.state()["asked"] == 3
    page.client.answer("round_0001-1", {"labels": [2]})
    assert page.client.state()["missing"] == 1


def test_a_full_disk_loses_nothing(
    open_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    page.ask(query(1, 2))
    assert page.client.answer("round_0000-1", {"labels": [0]})[0] == 200
    write = os.write

    def full(handle: int, data: bytes) -> int:
        write(handle, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    status, found = page.client.answer("round_0000-2", {"labels": [1]}, nonce="kept" * 4)
    assert (status, "disk is full" in found["error"]) == (507, True)
    assert page.client.hand_in("round_0000")[0] == 409
    monkeypatch.undo()
    assert len(lines(tmp_path)) == 1
    assert page.client.answer("round_0000-2", {"labels": [1]}, nonce="kept" * 4)[0] == 200
    assert [line["index"] for line in lines(tmp_path)] == [1, 2]


def test_answers_do_not_go_where_nobody_looks(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.ask(query(1, 2))
    page.client.answer("round_0000-1", {"labels": [0]})
    (tmp_path / "queries").rename(tmp_path / "elsewhere")
    status, found = page.client.answer("round_0000-2", {"labels": [1]})
    assert status == 507
    assert "no longer where it was; the answer is not saved" in found["error"]
    (tmp_path / "elsewhere").rename(tmp_path / "queries")
    assert page.client.answer("round_0000-2", {"labels": [1]})[0] == 200
    assert len(lines(tmp_path)) == 2


def test_a_log_that_is_removed_or_shortened_is_not_written_into_blindly(tmp_path: Path) -> None:
    path = tmp_path / "queries/answers.jsonl"
    first = AnswerLog(path)
    first.append({"a": 1})
    first.append({"b": 2})
    path.write_text('{"a": 1}\n')
    with pytest.raises(OSError, match="another file"):
        first.append({"c": 3})
    first.close()
    second = AnswerLog(path)
    path.unlink()
    second.append({"d": 4})
    second.close()
    assert AnswerLog(path).entries == [{"a": 1}, {"d": 4}]


def test_damaged_and_foreign_lines_are_named_and_left_out(
    open_page: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "queries").mkdir()
    good = {"question": "round_0000", "index": 1, "name": "Ann", "answer": {"labels": ["cat"]}}
    more = {"seconds": 1, "nonce": "x" * 8}
    other = good | more | {"answer": {"labels": ["cow"]}, "index": 2}
    text = "\n".join([json.dumps(good | more), "{half", json.dumps(other), "[1]"]) + "\n"
    (tmp_path / "queries/answers.jsonl").write_text(text)
    with caplog.at_level(logging.WARNING):
        page = open_page()
    assert "line 2 is damaged" in caplog.text
    assert "'cow' is not a class" in caplog.text
    page.ask(query(1, 2))
    assert [item["mine"] for item in page.client.state()["items"]] == [{"labels": [1]}, None]
    page.client.answer("round_0000-2", {"labels": [0]})
    assert (tmp_path / "queries/answers.jsonl").read_text().startswith(text)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"answer": {"labels": ["cat", "dog"]}}, "give one label"),
        ({"answer": {"labels": "cat"}}, "no list of labels"),
        ({"answer": {"labels": [[]]}}, "not a class"),
        ({"answer": {"x": 1}}, "no list of labels"),
        ({"answer": {"none": 1}}, "no list of labels"),
        ({"seconds": math.nan}, "seconds are no number"),
        ({"seconds": math.inf}, "seconds are no number"),
        ({"seconds": -1}, "seconds are no number"),
        ({"seconds": 10**400}, "seconds are no number"),
        ({"index": math.inf}, "no number of a sample"),
        ({"index": 1.5}, "no number of a sample"),
        ({"name": "a\nb"}, "give a name"),
        ({"nonce": None}, "no nonce"),
    ],
)
def test_a_line_that_no_page_can_have_sent_is_left_out(
    open_page: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any, fact: str
) -> None:
    line = {
        "question": "round_0000", "index": 1, "name": "Ann", "answer": {"labels": ["cat"]},
        "seconds": 1, "nonce": "x" * 8,
    }  # fmt: skip
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries/answers.jsonl").write_text(json.dumps(line | change) + "\n")
    with caplog.at_level(logging.WARNING):
        page = open_page()
    assert "a line is left out" in caplog.text
    assert fact in caplog.text
    page.ask(query(1))
    assert page.client.state()["items"][0]["mine"] is None


def test_a_last_line_that_lost_only_its_line_break_counts(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"a": 1}\n{"b": 2}')
    first = AnswerLog(path)
    first.append({"c": 3})
    first.close()
    assert path.read_text() == '{"a": 1}\n{"b": 2}\n{"c": 3}\n'
    assert AnswerLog(path).entries == first.entries == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize(
    "change",
    [
        {"again": 5},
        {"again": [4]},
        {"again": "ab"},
        {"round": "x"},
        {"round": [1]},
        {"round": 9},
        {"indices": None},
        {"indices": [1, 2, 3, -1]},
        {"indices": [1, 2, 3, 10**15]},
        {"indices": [1, 2, 3, 3]},
        {"probs": "x"},
        {"probs": [[0.5]]},
        {"probs": [[math.nan] * 3] * 3},
    ],
)
def test_of_a_damaged_question_the_ticket_counts(
    open_page: Any, tmp_path: Path, change: Any
) -> None:
    page = open_page(guess=True, enough=0.3)
    ticket = page.ask(query(1, 2, 3))
    page.client.answer("round_0000-1", {"labels": [1]})
    page.client.hand_in("round_0000", anyway=True)
    page.oracle.close()
    path = tmp_path / "queries/round_0000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    again = open_page(guess=True, enough=0.3)
    again.ask(query(7), 1)  # what such a file left open is shown no more
    assert [item["id"] for item in again.client.state()["items"]] == ["round_0001-7"]
    assert rows(again.oracle.collect(ticket)) == {(1, "Ann", 1, False)}
    again.oracle.wait(ticket, 0)
    shown = [item["id"] for item in again.client.state()["items"]]
    assert shown == ["round_0000-2", "round_0000-3"]


@pytest.mark.parametrize(
    "damage",
    [
        '{"token": "%s", "port": 99999}' % ("a" * 43),
        '{"token": "%s", "port": -1}' % ("a" * 43),
        '{"token": "%s", "port": 0}' % (r"\ud800" * 43),
        '{"token": "%s", "port": 0}' % ("a b;c,d&e" * 5),
        '{"token": 5, "port": 0}',
        "[" * 100_000,
    ],
)
def test_a_damaged_secret_is_replaced(open_page: Any, tmp_path: Path, damage: str) -> None:
    (tmp_path / "queries").mkdir()
    path = tmp_path / "queries/.page.json"
    path.write_text(damage)
    path.chmod(0o600)
    page = open_page()
    assert page.client.state()["phase"] == "train"
    assert len(json.loads(path.read_text())["token"]) == 43


def test_a_page_that_could_not_be_opened_can_be_closed(tmp_path: Path) -> None:
    (tmp_path / "queries/answers.jsonl").mkdir(parents=True)
    oracle = PageOracle(tmp_path / "queries", CLASSES, open_browser=False)
    with pytest.raises(IsADirectoryError):
        oracle.open(source_of())
    oracle.close()


def test_pictures_are_shown_only_while_the_run_waits(open_page: Any) -> None:
    page = open_page()
    ticket = page.ask(query(2))
    client = page.client
    described = page.served(ticket, lambda: client.get("/api/sample/round_0000-2"))
    assert (described[0], described[1]["kind"]) == (200, "image")
    image = page.served(
        ticket,
        lambda: client.send("GET", "/api/image/round_0000-2", None, {"Cookie": client.cookie}),
    )
    assert (image[0], image[2]["Content-Type"]) == (200, "image/png")
    assert image[1].startswith(b"\x89PNG")
    # Another run at this address has other pictures: no browser may take its own for granted.
    assert "no-cache" in image[2]["Cache-Control"]
    same = {"Cookie": client.cookie, "If-None-Match": image[2]["ETag"]}
    path = "/api/image/round_0000-2"
    assert page.served(ticket, lambda: client.send("GET", path, None, same))[0] == 304
    assert client.get("/api/image/round_0000-3")[0] == 404
    client.answer("round_0000-2", {"labels": [0]})
    client.hand_in("round_0000")
    assert client.get("/api/image/round_0000-2")[0] == 404


def test_a_row_has_no_picture(open_page: Any) -> None:
    bare = Dataset("bare", torch.zeros(9, 2), torch.arange(9) % 3, CLASSES)
    page = open_page(source=make_source(bare, seed=0, kind="none"))
    ticket, client = page.ask(query(2)), page.client
    status, found = page.served(ticket, lambda: client.get("/api/image/round_0000-2"))
    assert (status, "is no picture" in found["error"]) == (404, True)


def test_pages_see_the_training_and_the_end(open_page: Any, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"round": 0, "labels": 10, "train/accuracy": 0.5}\n')
    page = open_page()
    news = {"round": 1, "epoch": 3, "values": {"train/loss": 0.25, "val/loss": float("nan")}}
    page.oracle.tell(news)
    state = page.client.state()
    assert state["phase"] == "train"
    assert state["training"] == news | {"values": {"train/loss": 0.25, "val/loss": None}}
    page.oracle.tell({"round": 1, "row": {"round": 1, "labels": 20, "train/accuracy": 0.75}})
    assert [(row["labels"], row["value"]) for row in page.client.state()["rows"]] == [
        (10, 0.5), (20, 0.75),
    ]  # fmt: skip
    version = page.client.state()["version"]
    seen: list[Any] = []
    waits = threading.Thread(target=lambda: seen.append(page.client.state(version)))
    waits.start()
    page.oracle.tell({"round": 1, "status": "complete", "reason": "budget"})
    page.oracle.close()
    join(waits)
    assert (seen[0]["phase"], seen[0]["reason"]) == ("done", "budget")


def test_epochs_do_not_keep_pages_busy(open_page: Any) -> None:
    page = open_page()
    before = page.client.state()["version"]
    for epoch in range(200):
        page.oracle.tell({"round": 0, "epoch": epoch, "values": {}})
    state = page.client.state()
    assert state["training"]["epoch"] == 199
    assert state["version"] - before < 20


def test_like_next_to_like(open_page: Any) -> None:
    page = open_page(order="alike")
    page.ask(query(9, 1, 10, 2))
    shown = [item["id"].rpartition("-")[2] for item in page.client.state()["items"]]
    assert shown == ["9", "10", "2", "1"]
