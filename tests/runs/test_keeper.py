"""How the standing of a run is kept, without a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_parts import parts

from dal.learners import RoundContext
from dal.query import Entropy, Instability
from dal.runs.keeper import DiskKeeper, Keeper, restore
from dal.runs.parts import Parts, Standing
from dal.utils.safe_files import DamagedError


def answered(made: Parts, folder: Path, rounds: int) -> Standing:
    """A standing after so many queries of two samples, each committed."""
    standing = Standing.at_start(made, made.history(folder / "history"))
    keeper = DiskKeeper(folder, made, "digest")
    for number in range(rounds):
        picked = standing.candidates[:2]
        probs = torch.full((2, 3), 1 / 3)
        standing.history.append(number, picked, probs)
        targets = made.source.train.targets[picked]
        standing.pool.label(number, picked, targets, origin="oracle", score=torch.zeros(2))
        standing.state.rows.append({"round": number, "fit/steps": 3})
        standing.state.round, standing.state.steps = number + 1, 3 * (number + 1)
        keeper.save(standing)
    return standing


def restored(folder: Path) -> Standing:
    """Where a keeper that was just made says that the run stands."""
    made = parts(Instability(window=2))
    standing = Standing.at_start(made, made.history(folder / "history"))
    restore(made, standing, DiskKeeper(folder, made, "digest"))
    return standing


def test_a_keeper_brings_a_standing_back(tmp_path: Path) -> None:
    made = parts(Entropy())
    standing = Standing.at_start(made)
    made.learner.fit(standing.pool.train_set(), RoundContext())
    standing.state.next, standing.state.row = "query", {"round": 0}
    DiskKeeper(tmp_path, made, "digest").save(standing)

    again = parts(Entropy())
    other = Standing.at_start(again)
    restore(again, other, DiskKeeper(tmp_path, again, "digest"))
    assert other.begun
    assert other.state.state_dict() == standing.state.state_dict()
    assert other.pool.events() == standing.pool.events()
    assert again.learner.fingerprint() == made.learner.fingerprint()
    with pytest.raises(ValueError, match="data of gaussians have changed"):
        restore(again, other, DiskKeeper(tmp_path, again, "another digest"))


def test_what_keeps_nothing_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made, keeper = parts(Entropy()), Keeper()
    standing = Standing.at_start(made)
    before = standing.pool.events(), standing.state.state_dict()
    restore(made, standing, keeper)
    keeper.save(standing)
    keeper.keep_question(standing.state)
    keeper.keep_model(standing.state)
    keeper.export()
    assert (standing.pool.events(), standing.state.state_dict()) == before
    assert list(tmp_path.iterdir()) == []


def test_newest_whole_checkpoint_counts_and_what_lies_beyond_it_is_cut_off(tmp_path: Path) -> None:
    answered(parts(Instability(window=2)), tmp_path, rounds=3)
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    standing = restored(tmp_path)
    assert (standing.state.round, standing.pool.num_queried) == (2, 4)
    assert not newest.exists()
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 1 + 9 + 4
    assert standing.state.row == {}


def test_without_checkpoints_the_ledger_says_where_a_run_stands(tmp_path: Path) -> None:
    answered(parts(Instability(window=2)), tmp_path, rounds=3)
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.unlink()
    standing = restored(tmp_path)
    assert (standing.state.round, standing.pool.num_queried, standing.begun) == (3, 6, True)
    assert standing.history.rounds == [1, 2]
    assert standing.numerics == {}
    assert "all checkpoints" in standing.state.row["lost"]


def test_damaged_predictions_are_done_without_where_no_checkpoint_is_without_them(
    tmp_path: Path,
) -> None:
    answered(parts(Instability(window=2)), tmp_path, rounds=1)
    (tmp_path / "history" / "round_0000.npy").write_bytes(b"damaged")
    standing = restored(tmp_path)
    assert (standing.state.round, standing.history.rounds) == (1, [])
    assert standing.state.row["lost"] == ["the predictions of round 0"]


def test_nothing_to_go_on_from_is_refused_and_a_fresh_directory_is_a_start(tmp_path: Path) -> None:
    assert not restored(tmp_path / "fresh").begun
    answered(parts(Instability(window=2)), tmp_path / "run", rounds=1)
    for path in [*(tmp_path / "run").rglob("*.pt"), *(tmp_path / "run").rglob("ledger.jsonl")]:
        path.write_bytes(b"damaged")
    with pytest.raises(DamagedError, match="restore it, or move all but queries/"):
        restored(tmp_path / "run")
