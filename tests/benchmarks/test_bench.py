"""Every measurement of `scripts/bench.py` runs; how fast things are is not tested here."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import rounds
from benchmarks.setup import Sizes

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/bench.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    before = list(sys.path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.mark.parametrize(
    "name",
    [
        "pool_pass",
        "instability",
        "gradient_length",
        "train_step",
        "round",
        "memory",
        "committee",
        "badge",
        "last_layer",
        "large_pool",
        "frozen_features",
    ],
)
def test_measurement_tiny_sizes_gives_finite_ratios(
    bench: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)  # no peers
    source, data = bench.load_source(None, 140)
    setup = bench.Setup(
        source,
        data,
        torch.device("cpu"),
        repeat=1,
        epochs=2,
        rounds=3,
        items=8,
        items_autograd=2,
        steps=1,
        batch_sizes=(32, 64),
        sizes=Sizes(scores=50, selection=60, large=70, frozen=80, members=3, width=8, picks=5),
    )
    rows = bench.measurements(None)[name](setup)
    assert rows
    for row in rows:
        assert all(math.isfinite(value) for value in (row.ratio, row.low, row.high)), row
        assert 0 < row.low <= row.ratio <= row.high, row


def test_bench_command_prints_table_and_writes_json(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    bench.main(["--pool", "140", "--only", "instability", "--repeat", "1", "--json", str(path),
                "--data-dir", str(tmp_path), "--device", "cpu"])  # fmt: skip
    printed = capsys.readouterr().out
    assert "random uint8 images" in printed
    assert "| instability query" in printed
    assert json.loads(path.read_text())["rows"][0]["target"] == 0.05


def test_training_macs_lenet5_matches_count_by_hand(bench: ModuleType) -> None:
    from benchmarks.timing import forward_macs, training_macs
    from dal.models import LeNet5

    model, sample = LeNet5((1, 28, 28), 10), torch.zeros(1, 1, 28, 28)
    assert forward_macs(model, sample) == [117_600, 240_000, 48_000, 10_080, 840]
    assert training_macs(model, sample) == 3 * 416_520 - 117_600


def test_cost_of_rounds_is_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rounds.main(["--rounds", "2", "4"])
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert header == "| round | KB written | milliseconds |"
    cells = [[float(cell) for cell in line.strip("|").split("|")] for line in lines]
    assert [number for number, *_ in cells] == [2, 4]
    assert all(written > 1 and seconds > 0 for _, written, seconds in cells)
