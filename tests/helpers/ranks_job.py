"""What one of several processes does in test_ranks: python -m torch.distributed.run ... FOLDER."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import named_inputs
import torch
from omegaconf import OmegaConf
from run_parts import SOURCE
from scripted_people import People
from torch import Tensor, nn

import dal
from dal.cli.config import compose
from dal.inference.dropout_masks import DropoutMasks
from dal.inference.pool_pass import pool_pass, predict_logits
from dal.models import MLP, BayesianCNN, LeNet5
from dal.query import Margin
from dal.query.needs import Features, GradNorms, Heights, Members, Probs, Scores
from dal.runs.from_config import execute
from dal.runs.parts import check_alike
from dal.task import Multiclass
from dal.training.augment import Augment
from dal.training.context import FitContext, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.optim import cosine, sgd
from dal.training.trainer import Trainer
from dal.utils.inputs import Inputs, take_rows
from dal.utils.ranks import ALONE, current, joined
from dal.utils.signals import Interrupts, PreemptedError

CPU = torch.device("cpu")
TASK = Multiclass(4)
INPUTS = torch.randn(67, 1, 28, 28, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(67) % 4
CONF = Path(__file__).parents[2] / "conf"
RUN = (
    "data=digits",
    "model=lenet5",
    "strategy=instability",
    "budget=40",
    "query_size=10",
    "trainer.epochs=10",
    "save_every=3",
    "threads=1",
    "batch_size=256",
    "figures=false",
)
"""A run of some rounds, done here without an interruption."""


def take(indices: Tensor, device: torch.device) -> Tensor:
    return INPUTS[indices]


def network(make: Any) -> nn.Module:
    torch.manual_seed(5)
    model: nn.Module = make((1, 28, 28), 4)
    return model


def scan(count: int, batch_size: int) -> dict[str, Tensor]:
    """Everything a pass computes, over some samples in an order of their own."""
    indices = torch.arange(count).flip(0)
    lenet, bayesian = network(LeNet5), network(BayesianCNN)
    needs = frozenset({Probs(), Features(), GradNorms()})
    results, _ = pool_pass(lenet, take, indices, needs, TASK, device=CPU, batch_size=batch_size)
    masks = DropoutMasks(bayesian, 3, seed=0, round_number=1)
    members, _ = pool_pass(
        bayesian,
        take,
        indices,
        frozenset({Members()}),
        TASK,
        device=CPU,
        batch_size=batch_size,
        masks=masks,
    )
    logits = predict_logits(lenet, take, count, device=CPU, batch_size=batch_size)
    named = {repr(need): value for need, value in {**results, **members}.items()}
    return {**named, "logits": logits, **scores(count, batch_size)}


def scores(count: int, batch_size: int) -> dict[str, Tensor]:
    """Scores that are made batch by batch, and what candidates rank by."""
    strategy = Margin()
    results, _ = pool_pass(
        network(LeNet5),
        take,
        torch.arange(count),
        frozenset({Scores(strategy)}),
        TASK,
        device=CPU,
        batch_size=batch_size,
    )
    return {"scores": results[Scores(strategy)], "heights": results[Heights(strategy)]}


def starved(batch_size: int) -> tuple[Tensor, int]:
    """A pass in which the last process runs out of memory with more than 8 samples at once."""

    def hungry(indices: Tensor, device: torch.device) -> Tensor:
        if current().rank == current().world_size - 1 and len(indices) > 8:
            raise MemoryError
        return take(indices, device)

    needs = frozenset({Probs()})
    results, size = pool_pass(
        network(LeNet5), hungry, torch.arange(67), needs, TASK, device=CPU, batch_size=batch_size
    )
    return results[Probs()], size


ALL_SETTINGS: dict[str, Any] = {
    "augment": Augment(flip=True, shift=0.1, brightness=0.2, erase=0.3),
    "ema": 0.9,
    "clip": 0.5,
    "micro_batch_size": 3,
    "warmup": 0.5,
    "schedule_by": "step",
    "scheduler": cosine(2),
    "body_lr_factor": 0.5,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
}


def fit(
    epochs: int, weights: Tensor | None = None, **settings: Any
) -> tuple[dict[str, Tensor], list[Any]]:
    """Ten steps an epoch over the samples; weights and history."""
    model = network(LeNet5)
    samples = Samples(lambda batch: INPUTS[batch], TARGETS, weights)
    trainer = Trainer(epochs, 7, sgd(lr=0.01, momentum=0.9), **settings)
    state = trainer.fit(model, samples, TASK, FitContext(seed=3, round=0))
    return {name: value.clone() for name, value in model.state_dict().items()}, state.history


def normalized(**settings: Any) -> dict[str, Tensor]:
    """What a fit leaves of a network with BatchNorm."""
    torch.manual_seed(5)
    layers = nn.Flatten(), nn.Linear(784, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)
    model = nn.Sequential(*layers)
    samples = Samples(lambda batch: INPUTS[batch], TARGETS)
    Trainer(2, 12, sgd(lr=0.01), **settings).fit(model, samples, TASK, FitContext(seed=3))
    return dict(model.state_dict())


def by_name(case: str, named: bool) -> dict[str, Tensor]:
    """The weights of a fit on tensors by name, or on one tensor that holds the same numbers."""
    make, inputs = named_inputs.CASES[case]
    given: Inputs = inputs if named else named_inputs.side_by_side(inputs)
    model = named_inputs.network(make)
    samples = Samples(lambda batch: take_rows(given, batch), named_inputs.TARGETS)
    Trainer(epochs=2, batch_size=8).fit(model, samples, Multiclass(3), FitContext(seed=3))
    return dict(model.state_dict())


def everything() -> dict[str, Any]:
    weights = torch.linspace(0.5, 2, 67)
    return {
        "scan": scan(67, 8),
        "few": scan(5, 8),
        "starved": starved(32),
        "fit": fit(1),
        "weighted": fit(1, weights),
        "all settings": fit(1, weights, **ALL_SETTINGS),
    }


def failing() -> str:
    """What a process is told when the first one fails."""

    def fail() -> None:
        raise ValueError("no such thing")

    try:
        current().broadcast(fail)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def unlike() -> str:
    """What a process is told that has other data than the first."""
    try:
        check_alike({"initial": "equal", "data": f"those of {current().rank}"})
    except RuntimeError as error:
        return str(error)
    return "nothing"


def execute_with(run_dir: Path, *overrides: str) -> None:
    """A run from settings, as the command line does it."""
    config: Any = OmegaConf.to_container(compose(CONF, [*RUN, *overrides]), resolve=True)
    execute(config, run_dir)


def estimator(run_dir: Path) -> str:
    """What a process is told that shall fit a model of scikit-learn with others."""
    try:
        execute_with(run_dir, "model=svm", "strategy=margin")
    except TypeError as error:
        return str(error)
    return "nothing"


def waiting() -> dict[str, Any]:
    """A run that waits for people: half of the answers come after two turns, the others last.

    They are asked in the first process alone.
    """
    people = People(patience=1000, enough=0.5)

    def at_wait(number: int) -> None:
        if people.waited % 3 == 0:
            people.say(number, slice(None if people.said[number] else 2))

    people.at_wait = at_wait
    result = dal.run(
        SOURCE,
        MLP,
        Margin(),
        initial=torch.arange(9),
        trainer=Trainer(epochs=1),
        oracle=people,
        settings=dal.Settings(query_size=4, budget=8, batch_size=64, figures=False, threads=1),
    )
    calls = people.opened, people.waited, people.closed, len(people.asked), len(people.news) > 0
    return {"status": result.status, "events": result.job.pool.events(), "calls": calls}


class _EndedError(Exception):
    """The process would end here."""


def interrupted() -> dict[str, Any]:
    """A fit with dropout, and the same one ended in every epoch; and who knows of the signal.

    It comes to the last process alone.
    """

    def fitted(resume: dict[str, Any] | None, interrupts: Interrupts | None) -> dict[str, Any]:
        def end(save: Any) -> None:
            raise _EndedError(save())

        def pending() -> bool:
            nonlocal looks
            looks += 1
            if looks == 4 and current().rank == current().world_size - 1:
                signal.raise_signal(signal.SIGUSR1)
            return interrupts is not None and interrupts.pending

        model, looks = network(BayesianCNN), 0
        trainer = Trainer(epochs=2, batch_size=12, optimizer=sgd(lr=0.01, momentum=0.9))
        samples = Samples(lambda batch: INPUTS[batch], TARGETS)
        context = FitContext(3, 0, pending=pending, on_signal=end, resume=resume)
        if interrupts is None:
            context = FitContext(3, 0, resume=resume)
        state = trainer.fit(model, samples, TASK, context)
        return {"weights": model.state_dict(), "history": state.history, "steps": state.steps}

    resume, ends = None, 0
    while True:
        try:
            with current().interrupts() as interrupts:
                again = fitted(resume, interrupts)
            break
        except _EndedError as error:
            resume, ends = error.args[0], ends + 1
            assert ends < 100
    return {"whole": fitted(None, None), "again": again, "ends": ends}


def preempted_in_a_pass() -> int:
    """The signal that ends a pass in all processes, having come to the last one alone."""
    last, needs = current().rank == current().world_size - 1, frozenset({Probs()})

    def check() -> None:
        if last:
            raise PreemptedError(signal.SIGUSR1)

    try:
        pool_pass(
            network(LeNet5),
            take,
            torch.arange(67),
            needs,
            TASK,
            device=CPU,
            batch_size=8,
            on_batch=check,
        )
    except PreemptedError as error:
        return error.signum
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with joined() as ranks:
        found = everything()
        found["told"] = failing()
        found["unlike"] = unlike()
        found["interrupted"] = interrupted()
        rule = EarlyStopping("train/loss", patience=None)
        choices: list[dict[str, Any]] = [{}, {"early_stopping": rule}, {"ema": 0.5}]
        found["normalized"] = [normalized(**settings) for settings in choices]
        found["by_name"] = [(by_name(c, True), by_name(c, False)) for c in named_inputs.CASES]
        found["preempted"] = preempted_in_a_pass()
        found["all_reduce_max"] = ranks.all_reduce_max(ranks.rank)
        found["main_first"] = ranks.main_first(
            lambda: (current().world_size, scan(20, 8)["Probs()"])
        )
        found["waiting"] = waiting()
        found["estimator"] = estimator(folder / "refused")
        execute_with(folder / "whole")
        found["together"] = current() is ranks
    found["after"] = current() is ALONE
    torch.save(found, folder / f"rank{ranks.rank}.pt")
