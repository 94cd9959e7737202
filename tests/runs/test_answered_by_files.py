"""What people are shown: the model's guesses, which leave every bit of the run as it was."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dal
from dal.data import Dataset, initial_labels, make_source
from dal.learners import Committee, Dropout, Ensemble
from dal.models import MLP
from dal.models.estimators import svm
from dal.oracles import FilesOracle
from dal.query import BALD, Entropy, Instability, Query, Random, Strategy
from dal.training.trainer import Trainer

NAMES = ("cat", "dog", "größe")
RNG = torch.Generator().manual_seed(0)
TARGETS = torch.arange(150) % 3
INPUTS = torch.randn(150, 6, generator=RNG) + 0.8 * torch.eye(6)[TARGETS]
SOURCE = make_source(Dataset("mine", INPUTS, TARGETS, NAMES), seed=0)
INITIAL = initial_labels(SOURCE.train.targets, seed=0, count=9)
STRATEGIES: dict[str, tuple[Callable[[], Strategy], Any, Committee]] = {
    "from the pass": (Entropy, MLP, Dropout()),
    "from the pass for the history": (Instability, MLP, Dropout()),
    "predicted": (Random, MLP, Dropout()),
    "predicted beside members": (BALD, MLP, Ensemble(2)),
    "of an estimator": (Random, svm, Dropout()),
}


def run(folder: Path, kind: str, oracle: Any, budget: int = 12) -> dal.Result:
    strategy, model, committee = STRATEGIES[kind]
    return dal.run(
        SOURCE,
        model,
        strategy(),
        initial=INITIAL,
        trainer=Trainer(epochs=3),
        committee=committee,
        oracle=oracle,
        settings=dal.Settings(budget=budget, query_size=6, threads=1, figures=False),
        run_dir=folder / "run",
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, strict=True))


def fill_in(path: Path) -> None:
    """Give the true labels, in the middle of a table of two columns."""
    found = [
        (row["index"], NAMES[int(SOURCE.train.targets[int(row["index"])])]) for row in rows(path)
    ]
    path.write_text("index;label\n" + "".join(f"{i};{label}\n" for i, label in found), "utf-8")


def by_people(folder: Path, kind: str, guess: bool) -> tuple[dal.Result, list[bytes]]:
    """Two queries answered by hand; the result, and the files as they were written."""
    written = []
    for number in range(2):
        oracle = FilesOracle(folder / "asked", NAMES, guess=guess)
        assert run(folder, kind, oracle).status == "waiting"
        path = folder / "asked" / f"round_{number:04d}.csv"
        written.append(path.read_bytes())
        fill_in(path)
    return run(folder, kind, FilesOracle(folder / "asked", NAMES, guess=guess)), written


def timeless(result: dal.Result) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in result.rows]


@pytest.mark.parametrize("kind", STRATEGIES)
def test_guesses_are_those_of_the_model_and_change_no_bit(tmp_path: Path, kind: str) -> None:
    simulated = run(tmp_path / "simulated", kind, None)
    shown, files = by_people(tmp_path / "shown", kind, guess=True)
    hidden, plain = by_people(tmp_path / "hidden", kind, guess=False)
    assert timeless(shown) == timeless(hidden) == timeless(simulated)
    assert shown.job.pool.queries() == simulated.job.pool.queries()
    assert shown.job.learner.fingerprint() == simulated.job.learner.fingerprint()
    assert b"guess" not in plain[0]
    assert files[0] != plain[0]


@pytest.mark.parametrize("kind", STRATEGIES)
def test_guess_in_the_file_is_what_the_saved_model_predicts(tmp_path: Path, kind: str) -> None:
    waiting = run(tmp_path, kind, FilesOracle(tmp_path / "asked", NAMES))
    found = rows(tmp_path / "asked" / "round_0000.csv")
    picked = torch.tensor([int(row["index"]) for row in found])
    assert picked.tolist() == (waiting.job.state.pending or {})["indices"]
    probs = dal.load(tmp_path / "run").predict_proba(SOURCE.train.inputs[picked])
    assert [row["guess"] for row in found] == [NAMES[c] for c in probs.argmax(1).tolist()]
    assert [float(row["probability"]) for row in found] == pytest.approx(
        probs.amax(1).tolist(), abs=1e-4
    )


class Dying(FilesOracle):
    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        super().submit(query, round_number)
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", STRATEGIES)
def test_resumed_run_writes_the_same_file(tmp_path: Path, kind: str) -> None:
    _, straight = by_people(tmp_path / "straight", kind, guess=True)
    parts = tmp_path / "parts"
    for number in range(2):
        path = parts / "asked" / f"round_{number:04d}.csv"
        for attempt in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(parts, kind, Dying(parts / "asked", NAMES))
            assert path.read_bytes() == straight[number]
            if attempt == 0:
                path.unlink()
        run(parts, kind, FilesOracle(parts / "asked", NAMES))
        fill_in(path)
