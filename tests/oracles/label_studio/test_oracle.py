"""People who answer in Label Studio: a stand-in for the server, and what they do there."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from label_studio_server import TOKEN, LabelStudio, serving
from PIL import Image

from dal.data import Dataset, make_source, table, text
from dal.data.source import Source
from dal.data.store import ArrayStore
from dal.features.base import with_features
from dal.oracles import LabelStudioOracle
from dal.oracles.label_studio import tasks
from dal.oracles.label_studio.client import UnreachableError
from dal.pool import REJECTED
from dal.query import Query
from dal.utils.logs import working_for

NAMES = ("cat", 'd<o>g & "c"', "größe")
QUERY = Query(torch.tensor([8, 3, 5]), torch.tensor([0.9, 0.5, 0.25]))
PROBS = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[LabelStudio]:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    monkeypatch.setattr(LabelStudioOracle, "pauses", (0.0, 0.0))
    with serving() as found:
        yield found


def texts(names: tuple[str, ...] = NAMES, multilabel: bool = False) -> Source:
    shape = (10, len(names)) if multilabel else (10,)
    return make_source(
        Dataset(
            name="words",
            inputs=torch.arange(20.0).reshape(10, 2),
            targets=torch.full(shape, -1, dtype=torch.int64),
            class_names=names,
            contents=[f"<b>text</b> {i}" for i in range(10)],
        ),
        kind="none",
        seed=0,
    )


def images(behind_features: bool = False) -> Source:
    pixels = torch.arange(10 * 3 * 4 * 4).reshape(10, 3, 4, 4).to(torch.uint8)
    names = [f"cat/{i} größe.png" for i in range(10)]
    data = Dataset("pixels", pixels, torch.full((10,), -1), NAMES, contents=names)
    if behind_features:
        data = with_features(data, ArrayStore(torch.rand(10, 5)), None, False)
    return make_source(data, kind="none", seed=0)


def oracle(
    studio: LabelStudio, folder: Path, source: Source | None = None, **settings: Any
) -> LabelStudioOracle:
    source = source or texts()
    made = LabelStudioOracle(
        folder,
        source.class_names,
        multilabel=source.task.kind == "multilabel",
        url=studio.url,
        **{"wait": False, **settings},
    )
    made.open(source)
    return made


def test_samples_become_tasks_in_the_order_of_the_query(
    studio: LabelStudio, tmp_path: Path
) -> None:
    ticket = oracle(studio, tmp_path, run_name="my-run").submit(QUERY, 3)
    assert json.loads(json.dumps(ticket)) == ticket
    (project,) = studio.projects.values()
    mark = json.loads((tmp_path / "label_studio.json").read_text())["mark"]
    assert project["title"] == f"my-run (dal {mark})"
    assert [task["data"] for task in studio.tasks] == [
        {"text": f"<b>text</b> {i}", "index": i, "score": score, "dal_sample": i,
         "dal_question": "round_0003", "dal_run": mark}
        for i, score in ((8, pytest.approx(0.9)), (3, 0.5), (5, 0.25))
    ]  # fmt: skip
    assert all(task["predictions"] == [] for task in studio.tasks)
    assert ticket["where"] == f"{studio.url}/projects/1/data"


def test_names_with_marks_are_choices_as_they_are(studio: LabelStudio, tmp_path: Path) -> None:
    names = ("7", "none of these", "$5", "\uff045", *NAMES)
    oracle(studio, tmp_path, texts(names), annotators_per_sample=2).submit(QUERY, 0)
    (project,) = studio.projects.values()
    view = ElementTree.fromstring(project["label_config"])
    keys = {one.get("value"): one.get("hotkey") for one in view.iter("Choice")}
    shown = ("7", "none of these", "\uff045", "(\uff045)", *NAMES, "(none of these)")
    assert keys == dict(zip(shown, "71234560", strict=True))
    assert [tag.tag for tag in view] == ["Text", "Choices"]
    assert project["maximum_annotations"] == 2


def test_choices_are_labels_skips_abstentions_and_none_is_an_answer(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    assert asking.collect(ticket) is None
    studio.answer(studio.task(3), NAMES[1], seconds=2.5)
    studio.skip(studio.task(5))
    answers = asking.collect(ticket)
    assert answers is not None
    assert answers.indices.tolist() == [3, 5]
    studio.answer(studio.task(8), "none of these", person=2, seconds="long")
    answers = oracle(studio, tmp_path).collect(json.loads(json.dumps(ticket)))
    assert answers is not None
    assert answers.indices.tolist() == [3, 5, 8]
    assert answers.targets.tolist()[::2] == [1, REJECTED]
    assert answers.abstained.tolist() == [False, True, False]
    assert answers.cost.tolist() == [1.0] * 3
    assert answers.seconds is not None
    assert answers.seconds[0] == 2.5
    assert answers.seconds.isnan().tolist() == [False, True, True]
    assert answers.annotators == ["p1@example.org", "p1@example.org", "p2@example.org"]


def test_of_several_labels_any_number_is_chosen(studio: LabelStudio, tmp_path: Path) -> None:
    asking = oracle(studio, tmp_path, texts(multilabel=True), guess=True)
    rows = torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.3, 0.4], [0.1, 0.6, 0.1]])
    ticket = asking.submit(Query(QUERY.indices, QUERY.scores, probs=rows), 0)
    guessed = [[p["result"][0]["value"] for p in task["predictions"]] for task in studio.tasks]
    assert guessed == [[{"choices": ["cat", "größe"]}], [], [{"choices": [NAMES[1]]}]]
    studio.answer(studio.task(8), "größe", "cat")
    studio.answer(studio.task(3))
    studio.skip(studio.task(5))
    answers = asking.collect(ticket)
    assert answers is not None
    assert answers.targets.tolist()[:2] == [[1, 0, 1], [0, 0, 0]]
    assert answers.abstained.tolist() == [False, False, True]


def test_guesses_are_pre_annotations_with_their_probability(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path, guess=True)
    asking.submit(Query(QUERY.indices, QUERY.scores, probs=PROBS), 12)
    (one,) = studio.task(8)["predictions"]
    assert one["model_version"] == "dal"
    assert one["score"] == pytest.approx(0.7)
    assert one["result"] == [
        {"from_name": "label", "to_name": "sample", "type": "choices",
         "value": {"choices": ["größe"]}}
    ]  # fmt: skip


def test_submitting_again_makes_no_task_twice(studio: LabelStudio, tmp_path: Path) -> None:
    ticket = oracle(studio, tmp_path).submit(QUERY, 0)
    before = [task["id"] for task in studio.tasks]
    assert oracle(studio, tmp_path).submit(QUERY, 0) == ticket
    assert [task["id"] for task in studio.tasks] == before
    assert len(studio.projects) == 1


@pytest.mark.parametrize("path", ["/api/projects/", "/api/projects/1/import"])
def test_a_reply_that_is_lost_makes_nothing_twice(
    studio: LabelStudio, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "BATCH", 2)

    def drop(method: str, asked: str) -> None:
        if (method, asked) == ("POST", path):
            raise OSError

    studio.after = drop
    with pytest.raises(UnreachableError, match="nothing is lost: mend this and run the same"):
        oracle(studio, tmp_path).submit(QUERY, 0)
    studio.after = lambda *_: None
    oracle(studio, tmp_path).submit(QUERY, 0)
    assert [task["data"]["dal_sample"] for task in studio.tasks] == [8, 3, 5]
    assert len(studio.projects) == 1


def test_tasks_of_a_request_that_outlived_its_process_are_removed_again(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    for task in list(studio.tasks):
        studio.add(1, task)
    late = studio.tasks[-3:]
    studio.answer(late[1], "cat")
    answers = asking.collect(ticket)
    assert answers is not None
    assert answers.indices.tolist() == [3]
    assert [task["data"]["dal_sample"] for task in studio.tasks] == [8, 5, 3]
    assert studio.task(3) is late[1]


def test_a_deleted_task_is_asked_again_and_a_deleted_project_is_an_error(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    studio.answer(studio.task(8), "cat")
    assert asking.collect(ticket) is not None
    studio.tasks.remove(studio.task(5))
    asking.collect(ticket)
    assert [task["data"]["dal_sample"] for task in studio.tasks] == [8, 3, 5]
    del studio.projects[1]
    studio.create(title="of somebody else")  # which is given the same number
    with pytest.raises(ValueError, match=r"project 1 of this run is not at .* it was deleted"):
        asking.collect(ticket)
    assert studio.projects[1] == {"title": "of somebody else", "description": ""}


def test_what_belongs_to_others_is_left_alone_and_said(
    studio: LabelStudio, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    strange: list[dict[str, Any]] = [
        {"text": "mine"},
        {"dal_run": "another", "dal_question": "round_0000", "dal_sample": 8},
        {"dal_run": asking.submit(QUERY, 0) and studio.tasks[0]["data"]["dal_run"],
         "dal_question": ["round_0000"], "dal_sample": "8"},
    ]  # fmt: skip
    for data in strange:
        studio.add(1, {"data": data})
        studio.answer(studio.tasks[-1], "unheard of")
    studio.answer(studio.task(3), "cat")
    with caplog.at_level(logging.WARNING):
        answers = asking.collect(ticket)
    assert answers is not None
    assert answers.indices.tolist() == [3]
    assert len(studio.tasks) == 6
    assert "3 answered tasks of project 1 are not of this run; they are left alone" in caplog.text


def test_the_latest_answer_of_each_person_counts_and_corrections_are_seen(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path, annotators_per_sample=2)
    ticket = asking.submit(QUERY, 0)
    studio.answer(studio.task(3), "cat", person=1)
    studio.answer(studio.task(3), "größe", person=2)
    corrected = studio.skip(studio.task(3), person=1)
    answers = asking.collect(ticket)
    assert answers is not None
    assert answers.indices.tolist() == [3, 3]
    assert sorted(zip(answers.annotators or (), answers.abstained.tolist(), strict=True)) == [
        ("p1@example.org", True),
        ("p2@example.org", False),
    ]
    asking.submit(Query(torch.tensor([1]), torch.tensor([0.5])), 1)
    value = {"choices": ["größe"]}
    corrected |= {"was_cancelled": False, "result": [{"from_name": "label", "value": value}]}
    studio.answer(studio.task(8), "cat")
    answers = asking.revisit(ticket)
    assert answers is not None
    found = list(zip(answers.indices.tolist(), answers.targets.tolist(), strict=True))
    assert sorted(found) == [(3, 2), (3, 2), (8, 0)]


def test_who_changes_their_name_stays_the_same_annotator(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    studio.answer(studio.task(3), "cat")
    first = asking.collect(ticket)
    named = [{"id": 1, "email": "another@example.org"}]
    studio.before = lambda method, path: (200, named) if path.endswith("annotators/") else None
    again = oracle(studio, tmp_path).collect(ticket)
    assert first is not None
    assert again is not None
    assert again.annotators == first.annotators == ["p1@example.org"]


def test_the_same_sample_in_another_round_is_another_task(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path)
    first, second = asking.submit(QUERY, 0), asking.submit(QUERY, 1)
    assert len(studio.tasks) == 6
    studio.answer(studio.task(3, "round_0001"), "cat")
    assert asking.collect(second) is not None
    unanswered = asking.revisit(first)  # None would say that there is nothing to come
    assert unanswered is not None
    assert unanswered.indices.tolist() == []


@pytest.mark.parametrize(
    ("choices", "fault"),
    [(("bird",), "has the label 'bird', which is no class"), (("cat", "größe"), "has 2 labels")],
)
def test_an_answer_that_is_no_label_is_named(
    studio: LabelStudio, tmp_path: Path, choices: tuple[str, ...], fault: str
) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    studio.answer(studio.task(3), *choices)
    with pytest.raises(ValueError, match=rf"task 2 .*{fault}.*; nothing is lost"):
        asking.collect(ticket)


def test_a_server_that_is_gone_is_waited_for(
    studio: LabelStudio, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asking = oracle(studio, tmp_path, wait=True)
    studio.before = lambda *_: (502, {"detail": "Bad Gateway"})
    with caplog.at_level(logging.WARNING):
        ticket = asking.submit(QUERY, 0)
        assert asking.collect(ticket) is asking.collect(ticket) is None
    assert caplog.text.count("nothing is lost, waiting for it") == 1
    assert asking.wait(ticket, 0.001)
    studio.before = lambda *_: None
    asking.collect(ticket)
    studio.answer(studio.task(3), "cat")
    studio.before = lambda method, path: (500, {}) if path.endswith("export") else None
    assert asking.collect(ticket) is None
    studio.before = lambda *_: None
    answers = asking.collect(ticket)
    assert answers is not None
    assert len(studio.tasks) == 3


def test_nobody_waits_where_that_is_not_asked_for(studio: LabelStudio, tmp_path: Path) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    assert not asking.wait(ticket, 10.0)
    studio.before = lambda *_: (502, {})
    with pytest.raises(UnreachableError, match="nothing is lost: mend this and run the same"):
        asking.collect(ticket)


def test_several_runs_in_one_process_are_not_waited_for(
    studio: LabelStudio, tmp_path: Path
) -> None:
    with working_for("margin s0"):
        with pytest.raises(ValueError, match=r"one run.* set oracle.wait=false"):
            oracle(studio, tmp_path, wait=True)
        assert oracle(studio, tmp_path).submit(QUERY, 0)["where"]


def test_before_anything_is_trained_server_and_token_are_tried(
    studio: LabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.before = lambda *_: (502, {})
    with pytest.raises(UnreachableError, match="mend this"):
        oracle(studio, tmp_path, wait=True)
    studio.before = lambda *_: None
    oracle(studio, tmp_path).submit(QUERY, 0)
    studio.before = lambda *_: (502, {})
    oracle(studio, tmp_path)  # which goes on with what it has to do before
    studio.before = lambda *_: None
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "f" * 40)
    with pytest.raises(ValueError, match="refuses the token"):
        oracle(studio, tmp_path)


@pytest.mark.parametrize("behind_features", [False, True])
def test_pictures_are_uploaded_once_as_files_that_can_be_seen(
    studio: LabelStudio, tmp_path: Path, behind_features: bool
) -> None:
    asking = oracle(studio, tmp_path, images(behind_features))
    asking.submit(QUERY, 0)
    asking.submit(QUERY, 1)
    assert len(studio.uploads) == 3
    data = studio.task(3, "round_0001")["data"]
    assert data["image"] == f"/data/upload/1/1a2b3c4d-{data['dal_run']}-3.png"
    assert data["title"] == "3 größe.png"  # and not the folder, which may be the label
    with Image.open(io.BytesIO(studio.uploads[data["image"].removeprefix("/data/")])) as picture:
        assert picture.size == (256, 256)
        assert picture.getpixel((0, 0)) == (144, 160, 176)
    again = oracle(studio, tmp_path, images(behind_features))
    again.submit(QUERY, 2)
    assert len(studio.uploads) == 3


def test_pictures_may_be_read_by_the_server_itself(studio: LabelStudio, tmp_path: Path) -> None:
    places = {"pictures": "local", "document_root": "/data/", "images": "/data/my photos"}
    asking = oracle(studio, tmp_path, images(), **places)
    asking.submit(QUERY, 0)
    asking.submit(QUERY, 1)
    (storage,) = studio.storages
    assert storage == {"project": 1, "path": "/data/my photos", "use_blob_urls": True}
    address = "/data/local-files/?d=my%20photos/cat/3%20gr%C3%B6%C3%9Fe.png"
    assert studio.task(3)["data"]["image"] == address
    assert studio.uploads == {}
    places["images"] = "/data/missing"
    with pytest.raises(ValueError, match="does not find /data/local-files/"):
        oracle(studio, tmp_path, images(), **places).submit(QUERY, 2)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"document_root": "/data", "images": "/data"}, "not a folder below"),
        ({"document_root": "/data", "images": "/other"}, "not a folder below"),
        ({}, "needs oracle.document_root"),
        ({"pictures": "inline"}, "use upload or local"),
        ({"annotators_per_sample": 0}, "annotators_per_sample=0"),
    ],
)
def test_settings_out_of_range(
    studio: LabelStudio, tmp_path: Path, settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        oracle(studio, tmp_path, images(), **{"pictures": "local", **settings})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("id", [None, "key"])
def test_texts_of_a_file_are_shown_as_texts(
    studio: LabelStudio, tmp_path: Path, id: str | None
) -> None:
    path = tmp_path / "texts.csv"
    path.write_text('key,text\nk1,"=<b>a</b>\n$b"\nk2,שלום a b\nk3,https://a.b\n', encoding="utf-8")
    data = text(str(path), None, id=id, class_names=NAMES)
    asking = oracle(studio, tmp_path, make_source(data, kind="none", seed=0))
    asking.submit(Query(torch.arange(3), torch.full((3,), math.nan)), -1)
    told = [f"k{n}: " if id else "" for n in (1, 2, 3)]
    assert [task["data"]["text"] for task in studio.tasks] == [
        f"{told[0]}=<b>a</b>\n$b",
        f"{told[1]}שלום a b",
        f"{told[2]}https://a.b",
    ]
    (project,) = studio.projects.values()
    assert '<Text name="sample" value="$text"/>' in project["label_config"]


def test_rows_are_shown_by_their_columns(studio: LabelStudio, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,size,color\na,0.50,<b>\nb,,red\nc,3,\n")
    rows = table(str(path), None, id="name", missing="fill", class_names=NAMES)
    asking = oracle(studio, tmp_path, make_source(rows, kind="none", seed=0))
    asking.submit(Query(torch.arange(3), torch.full((3,), math.nan)), -1)
    assert [task["data"]["columns"] for task in studio.tasks] == [
        {"size": "0.50", "color": "<b>"},
        {"size": "", "color": "red"},
        {"size": "3", "color": ""},
    ]
    assert studio.tasks[0]["data"]["title"] == "a"
    assert studio.tasks[0]["data"]["dal_question"] == "initial_0001"
    assert "score" not in studio.tasks[0]["data"]


def test_a_damaged_mark_is_an_error_and_nothing_is_created(
    studio: LabelStudio, tmp_path: Path
) -> None:
    asking = oracle(studio, tmp_path)
    (tmp_path / "label_studio.json").write_text('{"mark": "0123456789abcdef", "project": "1"}')
    with pytest.raises(ValueError, match=r"label_studio.json is damaged"):
        asking.submit(QUERY, 0)
    assert studio.projects == {}


@pytest.mark.parametrize(
    "task",
    [{"annotations": None}, {"annotations": [3]}, {"annotations": [{"result": "cat"}]},
     {"annotations": [{"id": True, "result": []}]}],
)  # fmt: skip
def test_an_export_of_another_shape_is_not_believed(
    studio: LabelStudio, tmp_path: Path, task: dict[str, Any]
) -> None:
    asking = oracle(studio, tmp_path)
    ticket = asking.submit(QUERY, 0)
    studio.answer(studio.task(3), "cat")
    sent = [{**studio.task(3), **task}]
    studio.before = lambda method, path: (200, sent) if path.endswith("export") else None
    with pytest.raises(UnreachableError, match="Label Studio sent no"):
        asking.collect(ticket)
