"""``dal label``: a run that waits goes on, answered on a page."""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from page_client import Client
from waiting import Limit, join, needed

from dal.cli import command, config
from dal.cli.folders import config_dir
from dal.cli.running import ENDING, PAGE, nobody_to_ask

SETTINGS = (
    "data=iris", "model=logistic_regression", "strategy=margin", "query_size=4", "budget=8",
    "trainer.epochs=3", "batch_size=64", "figures=false",
)  # fmt: skip
Dal = Callable[..., int]


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dal]:
    """Runs the command in this process; gives its exit code."""
    monkeypatch.setenv("DAL_SAVED_DIR", str(tmp_path))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["dal", *arguments])
        monkeypatch.setattr(config.Jobs, "begun", 0)
        monkeypatch.setattr(config.Jobs, "failed", False)
        GlobalHydra.instance().clear()
        try:
            command.main()
        except SystemExit as end:
            if isinstance(end.code, str):
                sys.stderr.write(end.code)
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    yield run
    GlobalHydra.instance().clear()


class Person(threading.Thread):
    """Answers every question on the page of a run, until that has ended."""

    def __init__(self, run_dir: Path, seen: list[Any]) -> None:
        super().__init__()
        self._secret, self._seen = run_dir / "queries/.page.json", seen

    @needed
    def run(self) -> None:
        end = time.monotonic() + 60
        while not self._secret.exists() or not self._secret.read_text().endswith("\n"):
            assert time.monotonic() < end
            time.sleep(0.02)
        secret = json.loads(self._secret.read_text())
        client = Client(f"http://127.0.0.1:{secret['port']}/?token={secret['token']}", "Zoe")
        state = client.state()
        limit = Limit(120, lambda: state)
        while state["phase"] in ("ask", "train"):
            limit.check()
            self._seen.append(state)
            for item in state["items"]:
                self._seen.append(client.get(f"/api/sample/{item['id']}")[1])
                client.answer(item["id"], {"labels": [1]})
            if state["phase"] == "ask":
                client.hand_in(state["question"])
            state = client.state(client.state()["version"])
        self._seen.append(state)


def ledger(run_dir: Path) -> list[tuple[Any, ...]]:
    lines = (run_dir / "ledger.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event.get("origin") == "oracle"]
    return [(event["round"], event["annotator"], event["target"]) for event in events]


def test_a_run_that_waits_for_files_goes_on_on_the_page(dal: Dal, tmp_path: Path) -> None:
    assert dal("train", *SETTINGS, "oracle=files") == 0
    (run_dir,) = [path.parent for path in tmp_path.glob("*/config.yaml")]
    before = (run_dir / "config.yaml").read_text()
    path = run_dir / "queries/round_0000.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    rows[1]["label"] = "virginica"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    run_dir = run_dir.rename(tmp_path / "elsewhere")  # a run goes on wherever it was moved to
    seen: list[Any] = []
    person = Person(run_dir, seen)
    person.start()
    assert dal("label", str(run_dir), "guess=true", "open_browser=false") == 0
    join(person)
    asked = [state for state in seen if state.get("phase") == "ask"]
    assert len(asked[0]["items"]) == 3  # the fourth had its answer in the file
    assert all(item["guess"]["probability"] > 0 for item in asked[-1]["items"])
    assert next(one["columns"][0][0] for one in seen if "columns" in one) == "0"
    assert (seen[-1]["phase"], seen[-1]["reason"]) == ("done", "budget")
    events = ledger(run_dir)
    assert sorted(events)[:4] == [(0, "Zoe", 1)] * 3 + [(0, "files", 2)]
    assert events[4:] == [(1, "Zoe", 1)] * 4
    assert (run_dir / "config.yaml").read_text() == before
    assert dal("label", str(run_dir)) == 0  # complete: nothing is left to do


def test_a_run_with_a_page_of_its_own_goes_on(dal: Dal, tmp_path: Path) -> None:
    seen: list[Any] = []
    names = "oracle=page", "oracle.open_browser=false", "max_rounds=1"
    (tmp_path / "x").mkdir()
    run_dirs: list[Path] = []

    @needed
    def find() -> None:
        end = time.monotonic() + 60
        while not (found := list(tmp_path.glob("*/queries"))):
            assert time.monotonic() < end
            time.sleep(0.02)
        run_dirs.append(found[0].parent)
        person = Person(run_dirs[0], seen)
        person.start()
        join(person)

    finder = threading.Thread(target=find)
    finder.start()
    assert dal("train", *SETTINGS, *names) == 0
    join(finder)
    assert ledger(run_dirs[0]) == [(0, "Zoe", 1)] * 4


@pytest.mark.parametrize("own", ["files", "page"])
def test_a_run_that_has_ended_asks_nobody(
    dal: Dal, tmp_path: Path, capsys: pytest.CaptureFixture[str], own: str
) -> None:
    """Whatever ended it, here a criterion, and without a test part as well."""
    command = (*SETTINGS, "max_rounds=0", "split.kind=none", "stopping=[cost]")
    command = (*command, "stopping.cost.value=1")
    assert dal("train", *command) == 0
    (run_dir,) = [path.parent for path in tmp_path.glob("*/config.yaml")]
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    status = json.loads((run_dir / "status.json").read_text())
    assert status["reason"].startswith("cost: ")
    page = yaml.safe_load((config_dir() / "oracle/page.yaml").read_text())
    config["oracle"] = page if own == "page" else {"_target_": "dal.oracles.FilesOracle"}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert dal("label", str(run_dir), "open_browser=false") == 0
    said = "".join(capsys.readouterr()).splitlines()
    assert len(said) == 1
    assert "complete already: 20 labels, in " in said[0]


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({}, True),
        ({"budget": 9}, False),
        ({"stopping": {}}, False),
        ({"oracle": {"_target_": PAGE, "enough": 0.9}}, False),
        ({"oracle": {"_target_": "dal.oracles.FilesOracle", "enough": 1.0}}, False),
    ],
)
def test_only_a_page_has_nothing_to_add_to_a_run_that_has_ended(
    changes: dict[str, Any], ended: bool
) -> None:
    saved = dict.fromkeys(ENDING, 8) | {"oracle": {"_target_": PAGE, "enough": 1.0}}
    config = saved | changes
    for reason, expected in (("plateau: no better", ended), ("pool_exhausted", False)):
        status = {"status": "complete", "reason": reason}
        assert nobody_to_ask(status, config, saved, config["oracle"]) is expected
    assert not nobody_to_ask({"status": "waiting"}, saved, saved, saved["oracle"])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("nowhere",), "holds no run"),
        (("RUN", "ports=1"), "did you mean port"),
        (("RUN", "guess"), "key=value"),
        (("RUN", "port=high"), "not of type int"),
        (("RUN", "port=-1"), "oracle.port=-1"),
        (("RUN", "guess={"), "no value that can be read"),
        (("RUN", "guess=!!python/name:os.system"), "no value that can be read"),
        (("RUN", "class_names=[versicolor,setosa,virginica]"), "it takes guess, sort_labels"),
        (("RUN", "multilabel=true"), "no setting multilabel"),
        (("RUN", "_target_=dal.oracles.FilesOracle"), "no setting _target_"),
    ],
)
def test_what_cannot_be_labeled_is_refused_in_one_line(
    dal: Dal, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Any, fault: str
) -> None:
    run_dir = tmp_path
    if words[0] == "RUN":
        assert dal("train", *SETTINGS, "oracle=files", "max_rounds=1") == 0
        (run_dir,) = [path.parent for path in tmp_path.glob("*/config.yaml")]
    capsys.readouterr()
    assert dal("label", *(str(run_dir) if word == "RUN" else word for word in words)) == 1
    said = "".join(capsys.readouterr())
    assert fault in said
    assert "Traceback" not in said
