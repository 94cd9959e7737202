"""Runs in the plane draw it, and no picture changes a bit of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import dal
from dal.data import initial_labels, make_source, two_gaussians
from dal.learners import Dropout, Ensemble, RoundContext
from dal.models import MLP
from dal.models.estimators import knn
from dal.query import BALD, Badge, Density, Entropy, Instability, Probs, Random
from dal.recording.plane import SIDE
from dal.runs import StreamSetting
from dal.runs.looking import is_field, scan_points
from dal.runs.loop import Result
from dal.streams import Quantile
from dal.training.trainer import Trainer

SOURCE = make_source(two_gaussians(120), seed=0)
QUICK = Trainer(epochs=8)
PLANE = ("plane", "plane.png", "plane.gif")
CASES: dict[str, dict[str, Any]] = {
    "entropy": {"strategy": Entropy()},
    "random": {"strategy": Random()},
    "badge": {"strategy": Badge()},
    "density": {"strategy": Density()},
    "instability": {"strategy": Instability()},
    "dropout": {"strategy": BALD(), "model": lambda s, c: MLP(s, c, [8], 0.5)},
    "ensemble": {"strategy": BALD(), "committee": Ensemble(3)},
    "knn": {"strategy": Entropy(), "model": knn},
}


def run(folder: Path, figures: bool = True, budget: int = 12, **case: Any) -> Result:
    options = {"model": lambda s, c: MLP(s, c, [8]), "committee": Dropout(4)} | case
    return dal.run(
        SOURCE,
        initial=initial_labels(SOURCE.train.targets, seed=0, count=6),
        trainer=QUICK,
        settings=dal.Settings(budget=budget, query_size=4, threads=1, figures=figures),
        run_dir=folder,
        **options,
    )


def bits(folder: Path) -> list[Any]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    plain = [{k: v for k, v in row.items() if k[-2:] != "_s"} for row in rows]
    return [plain, (folder / "queries.csv").read_text()]


@pytest.mark.parametrize("case", CASES)
def test_pictures_change_no_bit_of_a_run(tmp_path: Path, case: str) -> None:
    torch.manual_seed(0)
    with_pictures = run(tmp_path / "with", **CASES[case])
    drawn = torch.rand(1)
    torch.manual_seed(0)
    without = run(tmp_path / "without", figures=False, **CASES[case])
    assert torch.equal(torch.rand(1), drawn)
    assert bits(tmp_path / "with") == bits(tmp_path / "without")
    results = with_pictures, without
    assert len({result.job.learner.fingerprint() for result in results}) == 1
    assert all((tmp_path / "with" / name).exists() for name in PLANE)
    assert not any((tmp_path / "without" / name).exists() for name in PLANE)


def test_frames_are_kept_of_every_round_and_drawn_again_by_a_run_that_goes_on(
    tmp_path: Path,
) -> None:
    run(tmp_path / "long", budget=12, strategy=Entropy())
    run(tmp_path / "short", budget=4, strategy=Entropy())
    run(tmp_path / "short", budget=12, strategy=Entropy())
    names = [f"round_{number:04d}.pt" for number in range(4)]
    for folder in ("long", "short"):
        assert sorted(p.name for p in (tmp_path / folder / "plane").iterdir()) == names
    frames = [dal.checkpoint.load(tmp_path / f / "plane" / names[1]) for f in ("long", "short")]
    assert torch.equal(frames[0]["probs"], frames[1]["probs"])
    assert torch.equal(frames[0]["picked"], frames[1]["picked"])
    assert len(frames[0]["picked"]) == 4
    images = [(tmp_path / folder / "plane.png").read_bytes() for folder in ("long", "short")]
    assert images[0] == images[1]


def test_a_grid_of_samples_is_predicted_as_these_are(tmp_path: Path) -> None:
    result = run(tmp_path / "run", strategy=Entropy())
    job, indices = result.job, torch.arange(20)
    train_set = job.pool.train_set()
    view = job.learner.scan(indices, frozenset({Probs()}), RoundContext(3), train_set)
    raw = SOURCE.train.raw(indices)
    assert isinstance(raw, torch.Tensor)
    found = scan_points(job.learner, raw, frozenset(), RoundContext(3), train_set)
    torch.testing.assert_close(found[Probs()], view[Probs()])
    assert job.learner.source.train is job.source.train


def test_scores_of_single_points_are_fields_and_others_are_of_the_nearest_sample(
    tmp_path: Path,
) -> None:
    assert is_field(Entropy())
    assert is_field(BALD())
    assert not any(map(is_field, (Random(), Badge(), Density(), Instability())))
    for strategy in (Entropy(), Density(), Badge()):
        folder = tmp_path / type(strategy).__name__
        run(folder, budget=4, strategy=strategy)
        frame = dal.checkpoint.load(folder / "plane" / "round_0000.pt")
        if isinstance(strategy, Badge):
            assert frame["scores"] is None
            continue
        levels = len(frame["scores"].unique())
        assert levels > SIDE if isinstance(strategy, Entropy) else levels <= len(SOURCE.train)
        assert ("nearest" in frame["scored"]) == isinstance(strategy, Density)


def test_scores_of_samples_that_arrived_are_none_of_those_to_come(tmp_path: Path) -> None:
    result = dal.run(
        SOURCE,
        knn,
        Random(),
        initial=torch.arange(6),
        setting=StreamSetting(Quantile(share=1.0)),
        settings=dal.Settings(budget=39, query_size=39, threads=1),
        run_dir=tmp_path / "run",
    )
    assert result.rows[0]["stream/arrived"] == 39 == len(result.job.candidates)
    frame = dal.checkpoint.load(tmp_path / "run" / "plane" / "round_0000.pt")
    assert frame["scores"] is None
