"""Runs from settings to their end: frozen features, a harder pool, a signal on the way."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from dal.cli.config import compose
from dal.recording.run_directory import read_status
from dal.runs.from_config import execute
from dal.utils.signals import PreemptedError

CONF = Path(__file__).parents[2] / "conf"


def archive(path: Path, seed: int) -> str:
    """Images of one's own in two classes, told apart by their brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    images = rng.integers(0, 100, (60, 8, 8), dtype=np.uint8) + 100 * labels[:, None, None]
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return str(path)


def settings(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """A run on frozen features with foreign samples and wrong labels in its pool."""
    from torchvision.models import resnet18

    weights = tmp_path / "weights.pt"
    if not weights.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(resnet18(weights=None).state_dict(), weights)
    config = compose(
        CONF,
        [
            "data=npz",
            f"data.path={archive(tmp_path / 'own.npz', 0)}",
            "features=torchvision",
            f"features.weights={weights}",
            f"features.cache_dir={tmp_path / 'cache'}",
            "features.size=32",
            "difficulty=[noisy,ood]",
            "data@difficulty.ood.data=npz",
            f"difficulty.ood.data.path={archive(tmp_path / 'foreign.npz', 1)}",
            "model=logistic_regression",
            "trainer=lbfgs",
            "strategy=margin",
            "initial.count=6",
            "query_size=5",
            f"data_dir={tmp_path}",
            f"saved_dir={tmp_path}",
            "figures=false",
            *overrides,
        ],
    )
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def test_frozen_features_and_hard_pool_from_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for run, budgets in (("whole", (20,)), ("parts", (10, 20))):
        for budget in budgets:
            result = execute(settings(tmp_path, f"budget={budget}"), tmp_path / run)
    assert sum("once over" in message for message in caplog.messages) == 2  # own and foreign
    source = result.job.source
    assert source.input_shape == (512,)
    assert len(source.train) == 42 + 60
    assert int(source.is_foreign.sum()) == 60
    assert result.job.pool.num_queried == 20
    whole, parts = (tmp_path / run / "queries.csv" for run in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    answers = [line.split(",") for line in whole.read_text().split()[1:]]
    foreign = [int(sample) >= 60 for *_, sample in answers]
    assert [label == "?" for *_, label, _ in answers] == foreign
    assert 0 < sum(foreign) < 20
    rows = [json.loads(x) for x in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["labels"] == 6 + 20
    assert rows[-1]["trained_on"] == 6 + 20 - sum(foreign)


def test_signal_while_features_are_computed_leaves_a_preempted_run(tmp_path: Path) -> None:
    def end(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            os.kill(os.getpid(), signal.SIGUSR1)

    config = settings(tmp_path, "budget=10")
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    hook = register_module_forward_pre_hook(end)
    try:
        with pytest.raises(PreemptedError):
            execute(config, tmp_path / "run")
    finally:
        hook.remove()
        signal.signal(signal.SIGUSR1, before)
    status = read_status(tmp_path / "run")
    assert status["status"] == "preempted"
    assert "SIGUSR1" in status["reason"]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert execute(config, tmp_path / "run").status == "complete"
