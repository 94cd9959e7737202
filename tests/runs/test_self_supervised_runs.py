"""Runs on features that are learned from their own training part."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from dal.cli.config import compose
from dal.features.self_supervised.encoders import Joint
from dal.recording.run_directory import read_status
from dal.runs.from_config import execute
from dal.runs.labels import known_labels
from dal.utils.signals import PreemptedError

CONF = Path(__file__).parents[2] / "conf"


def settings(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """A run on gray images of two classes, told apart by where they are bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = rng.integers(0, 120, (80, 8, 8), dtype=np.uint8)
    images[labels == 1, :4] += 120
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    config = compose(
        CONF,
        [
            "data=npz",
            f"data.path={tmp_path / 'own.npz'}",
            "features=self_supervised",
            f"features.cache_dir={tmp_path / 'cache'}",
            "features.steps=6",
            "features.batch=16",
            "split.validation=6",
            "model=logistic_regression",
            "trainer=lbfgs",
            "strategy=margin",
            "initial.count=6",
            "query_size=5",
            "budget=10",
            f"saved_dir={tmp_path}",
            "figures=false",
            *overrides,
        ],
    )
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def trained(caplog: pytest.LogCaptureFixture) -> int:
    return sum("features: training" in message for message in caplog.messages)


def test_a_run_learns_from_the_training_part_of_its_own_seed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for seed in (0, 1):
        for strategy in ("margin", "random"):
            overrides = f"seed={seed}", f"strategy={strategy}"
            result = execute(settings(tmp_path, *overrides), tmp_path / f"{strategy}_{seed}")
            source = result.job.source
            assert source.input_shape == (128,)
            assert source.sizes == {"train": 50, "validation": 6, "test": 24}
        assert trained(caplog) == seed + 1  # two strategies share it
    execute(settings(tmp_path, "features.seed=0", "strategy=entropy"), tmp_path / "entropy")
    assert trained(caplog) == 2


def test_signal_while_an_encoder_is_trained_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole = execute(settings(tmp_path, f"features.cache_dir={tmp_path / 'other'}"), tmp_path / "a")
    calls: list[int] = []

    def end(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, Joint):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    hook = register_module_forward_pre_hook(end)
    try:
        with pytest.raises(PreemptedError):
            execute(settings(tmp_path), tmp_path / "b")
        assert read_status(tmp_path / "b")["status"] == "preempted"
        result = execute(settings(tmp_path), tmp_path / "b")
    finally:
        hook.remove()
        signal.signal(signal.SIGUSR1, before)
    assert len(calls) == 6
    assert "going on after step 3 of 6" in caplog.text
    assert result.status == "complete"
    queries = [(tmp_path / run / "queries.csv").read_bytes() for run in "ab"]
    assert queries[0] == queries[1]
    assert whole.status == "complete"


def test_labels_of_pictures_behind_features_are_named_by_their_files(tmp_path: Path) -> None:
    photos, rng = tmp_path / "photos", np.random.default_rng(0)
    for number in range(40):
        kind = ("cat", "dog")[number % 2]
        (photos / kind).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(100 * (number % 2), 100 + 100 * (number % 2), (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(photos / kind / f"{number}.png")
    of_folder = "data=image_folder", f"data.path={photos}", "data.size=9", "budget=5"
    execute(settings(tmp_path, *of_folder), tmp_path / "run")
    title, rows = known_labels(tmp_path / "run")
    assert title == "file_name"
    assert all(photos.joinpath(row[0]).is_file() for row in rows)
    assert all(row[0].startswith(row[1]) for row in rows)
