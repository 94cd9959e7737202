"""A small run that can be killed at a chosen event; imported by the processes of test_resume."""

from __future__ import annotations

import csv
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny_texts
import token_texts
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

import dal
from dal.cooperation import AgreeingRounds, Cooperative, FixedThreshold, Propagation
from dal.data import initial_labels, make_source
from dal.data.dataset import Dataset
from dal.data.initial import cold_start
from dal.data.source import UNKNOWN
from dal.learners import Committee, Dropout, Ensemble
from dal.models import MLP, TextTransformer, TransformersNetwork
from dal.models.base import MakeModel
from dal.oracles import FilesOracle
from dal.query import BALD, ExpectedGradientLength, Instability, Margin, MultilabelMargin, Strategy
from dal.runs import StreamSetting
from dal.runs.setting import Setting
from dal.streams import SplitThreshold
from dal.training.early_stopping import EarlyStopping
from dal.training.optim import adam
from dal.training.trainer import Trainer
from dal.utils.inputs import InputSpec, tensors_of
from dal.utils.safe_files import csv_text

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "instability": Instability,
    "margin": Margin,
    "expected_gradient_length": ExpectedGradientLength,
    "dropout": BALD,
    "ensemble": BALD,
    "norm": Margin,
    "texts": MultilabelMargin,
    "transformers": MultilabelMargin,
    "cooperative": Margin,
    "teacher": Margin,
    "stream": Margin,
}
SETTINGS: dict[str, Callable[[], Setting]] = {
    "stream": lambda: StreamSetting(SplitThreshold(0.3), density=1.0, window=20, chunk=16)
}
COOPERATIVE: dict[str, Cooperative] = {
    "cooperative": AgreeingRounds(0.5),
    "teacher": FixedThreshold(0.5, teacher=Propagation(5)),
}
COMMITTEES: dict[str, Committee] = {"dropout": Dropout(4), "ensemble": Ensemble(3, bootstrap=True)}


def make_model(input_shape: tuple[int, ...], num_classes: int) -> MLP:
    """Dropout, so that the noise of training has to be resumed too."""
    return MLP(input_shape, num_classes, hidden=(16,), dropout=0.2)


def make_transformer(input_shape: InputSpec, num_classes: int) -> TextTransformer:
    """A small one, of all that it is made of."""
    return TextTransformer(input_shape, num_classes, token_texts.WORDS, width=8, layers=1, heads=2)


def make_pretrained(input_shape: InputSpec, num_classes: int) -> TransformersNetwork:
    """A tiny one, of which a file keeps the plain description."""
    content = tiny_texts.config(num_hidden_layers=3, hidden_size=16, intermediate_size=32)
    return TransformersNetwork(input_shape, num_classes, token_texts.WORDS, architecture=content)


class Normed(nn.Module):
    """BatchNorm, whose statistics move with every batch, and dropout."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


def dataset() -> Dataset:
    """Three overlapping Gaussians in ten dimensions."""
    rng = torch.Generator().manual_seed(0)
    targets = torch.arange(300) % 3
    inputs = torch.randn(300, 10, generator=rng) + 0.8 * torch.eye(10)[targets]
    return Dataset("gaussians", inputs, targets, ("a", "b", "c"))


def run(run_dir: Path, strategy: str = "instability", budget: int = 24, **settings: Any) -> None:
    """One run of five rounds, saved after every second epoch."""
    source = make_source(dataset(), seed=0, validation=30)
    models: dict[str, MakeModel] = {
        "norm": Normed,
        "texts": make_transformer,
        "transformers": make_pretrained,
    }
    by_layer: dict[str, Any] = {}
    if strategy == "transformers":
        by_layer = {"layer_lr_decay": 0.8, "warmup": 2}
    if strategy in ("texts", "transformers"):
        source = token_texts.source(60, multilabel=True)
        source = replace(source, validation=source.test)
    options: dict[str, Any] = {"threads": 1, "save_every": 2, "batch_size": 64, "figures": False}
    dal.run(
        source,
        models.get(strategy, make_model),
        STRATEGIES[strategy](),
        initial=initial_labels(source.train.targets, seed=0, count=9),
        trainer=Trainer(
            epochs=6,
            batch_size=4,
            optimizer=adam(lr=0.01),
            early_stopping=EarlyStopping(monitor="val/loss", patience=3),
            **by_layer,
        ),
        committee=COMMITTEES.get(strategy),
        cooperative=COOPERATIVE.get(strategy),
        settings=dal.Settings(query_size=6, budget=budget, **options | settings),
        setting=SETTINGS[strategy]() if strategy in SETTINGS else None,
        run_dir=run_dir,
    )


def run_cold(run_dir: Path, per_class: int | None = None, count: int = 6) -> dal.Result:
    """A run without any label: people are asked in files before the first round, and in each."""
    data = dataset()
    source = make_source(replace(data, targets=torch.full((300,), UNKNOWN)), seed=0)
    indices = cold_start(300, 3, seed=0, count=None if per_class else count, per_class=per_class)
    return dal.run(
        source,
        make_model,
        Margin(),
        initial=indices,
        trainer=Trainer(epochs=2, batch_size=4, optimizer=adam(lr=0.01)),
        oracle=FilesOracle(run_dir / "queries", data.class_names),
        settings=dal.Settings(query_size=4, budget=8, threads=1, batch_size=64, figures=False),
        run_dir=run_dir,
    )


def give_answers(
    run_dir: Path, abstain: Callable[[int], bool] = lambda index: not index % 7
) -> int:
    """Fill in what is asked: the true classes, and ``?`` for some; gives how many were open."""
    names, answered = dataset().class_names, 0
    for path in sorted((run_dir / "queries").glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if any(row["label"] for row in rows):
            continue
        answered += len(rows)
        for row in rows:
            index = int(row["index"])
            row["label"] = "?" if abstain(index) else names[index % 3]
        path.write_text(csv_text([list(rows[0]), *[list(row.values()) for row in rows]]))
    return answered


def run_to_exit_code(run_dir: Path, **options: Any) -> None:
    """As the command line does: a signal becomes the exit code."""
    from dal.utils.signals import PreemptedError

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    try:
        run(run_dir, **options)
    except PreemptedError as end:
        raise SystemExit(128 + end.signum) from None


def run_and_die(run_dir: Path, seed: int, strategy: str) -> None:
    """Run until a random event kills the process: a batch, a step, a file synced or renamed."""
    die_within(seed, 200)
    run(run_dir, strategy)


def run_cold_and_die(run_dir: Path, seed: int) -> None:
    """The same of a run that asks before its first round."""
    die_within(seed, 60)
    run_cold(run_dir)


def die_within(seed: int, events: int) -> None:
    """Let one of the next events kill the process."""
    left = random.Random(seed).randrange(1, events)

    def event() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    at_batches(event)
    register_optimizer_step_post_hook(lambda *step: event())
    sync = os.fsync

    def sync_and_count(file: int) -> None:
        sync(file)
        event()

    os.fsync = sync_and_count
    sys.addaudithook(lambda name, values: event() if name == "os.rename" else None)


def run_and_end(run_dir: Path, seed: int, strategy: str) -> None:
    """Run until SIGTERM comes in a random batch; after it there may be no other."""
    left = random.Random(seed).randrange(1, 30)

    def event() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        if left < 0:
            raise RuntimeError("the signal was not heeded")

    at_batches(event)
    run_to_exit_code(run_dir, strategy=strategy, save_every=None)


def at_batches(event: Callable[[], None]) -> None:
    """Call a function whenever a network gets a batch, to be trained on or predicted.

    The two samples with which a network is tried when it is built are no such batch.
    """

    def before(module: nn.Module, inputs: Any) -> None:
        if (
            isinstance(module, MLP | Normed | TextTransformer | TransformersNetwork)
            and len(tensors_of(inputs[0])[0]) != 2
        ):
            event()

    register_module_forward_pre_hook(before)


def run_partly(run_dir: Path) -> dal.Result:
    """A run that goes on with half of the answers to each of its three queries."""
    data = dataset()
    source = make_source(data, seed=0)
    return dal.run(
        source,
        make_model,
        Margin(),
        initial=initial_labels(source.train.targets, seed=0, count=9),
        trainer=Trainer(epochs=2, batch_size=4, optimizer=adam(lr=0.01)),
        oracle=FilesOracle(run_dir / "queries", data.class_names, enough=0.5),
        settings=dal.Settings(query_size=4, budget=12, threads=1, batch_size=64, figures=False),
        run_dir=run_dir,
    )


def answer_partly(run_dir: Path) -> bool:
    """What people do while the run waits: answer half, one of it wrongly; later all, and right.

    Gives whether there was anything to do.
    """
    names, done = dataset().class_names, False
    for path in sorted((run_dir / "queries").glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        begun = any(row["label"] for row in rows)
        before = [row["label"] for row in rows]
        for place, row in enumerate(rows):
            index = int(row["index"])
            right = names[index % 3] if index % 5 else "-"
            if begun or place < 2:
                row["label"] = right if begun or place else names[(index + 1) % 3]
        done |= before != [row["label"] for row in rows]
        path.write_text(csv_text([list(rows[0]), *[list(row.values()) for row in rows]]))
    return done


def run_partly_and_die(run_dir: Path, seed: int) -> None:
    """The same, killed at some event."""
    die_within(seed, 60)
    run_partly(run_dir)
