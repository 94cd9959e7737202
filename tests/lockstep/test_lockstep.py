"""Runs in lockstep equal those by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import named_inputs
import pytest
import token_texts
import torch
from rejecting import Rejecting
from torch import Tensor, nn

import dal
from dal import checkpoint
from dal.data import initial_labels, make_multilabel_classification, make_source
from dal.data.dataset import Dataset
from dal.data.prepare import Prepare
from dal.data.source import Source
from dal.learners import TorchLearner
from dal.lockstep import Lockstep, Replica
from dal.lockstep.replicas import Place
from dal.lockstep.stack import Stack
from dal.models import MLP, EmbeddingBag, LeNet5, LogisticRegression, Output, TextTransformer
from dal.oracles import Oracle
from dal.query import (
    BALD,
    Entropy,
    Instability,
    Margin,
    MultilabelMargin,
    Pure,
    Random,
    Strategy,
)
from dal.runs.host import hosted_by
from dal.runs.loop import Result
from dal.training.early_stopping import EarlyStopping
from dal.training.full_batch import FullBatch
from dal.training.optim import adam, adamw, cosine, sgd
from dal.training.trainer import Trainer
from dal.utils.signals import Interrupts, PreemptedError

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "multilabel_margin": MultilabelMargin,
    "random": Random,
    "entropy": Entropy,
    "margin": Margin,
    "instability": Instability,
    "bald": BALD,
    "pure": lambda: Pure(Entropy()),
}


class Mixed(nn.Module):
    """Everything that is special about stacking: BatchNorm, and dropout of channels and units."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.channels, self.units = nn.Dropout2d(0.2), nn.Dropout(0.3)
        self.fc = nn.Linear(4 * 36, 8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Output:
        x = self.units(self.channels(torch.relu(self.norm(self.conv(x)))))
        features = self.units(torch.relu(self.fc(x.flatten(1))))
        return Output(self.head(features), features)


class Branching(nn.Module):
    """Looks at values, which stacked networks do not show."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(input_shape[0], num_classes)

    def forward(self, x: Tensor) -> Output:
        return Output(self.head(x if float(x.sum()) > 0 else -x), x)


class Adding(nn.Module):
    """Adds in place to a tensor that all networks would share; torch's error names no vmap."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(input_shape[0], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), self.head.out_features, dtype=x.dtype).add_(self.head(x))


class Hungry(LogisticRegression):
    """Takes more memory than there is, where there are several."""

    def stacked(self, tensors: Any, x: Tensor) -> Output:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")


class Untrainable(LogisticRegression):
    """Has a defect that only training shows."""

    def forward(self, x: Tensor) -> Output:
        if self.training:
            x = x @ x
        output: Output = super().forward(x)
        return output

    def stacked(self, tensors: Any, x: Tensor) -> Output:
        return super().stacked(tensors, x @ x if self.training else x)


class Lookup(nn.Module):
    """An embedding of as many ids as there are, one of which stands for padding."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 6, padding_idx=20)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Output:
        features = self.embed((x * 3 + 20).long()).mean(1)
        return Output(self.head(features), features)


class Late(Mixed):
    """Looks at values once it has been called so often in training, with its statistics moved."""

    calls, limit = 0, 0

    def forward(self, x: Tensor) -> Output:
        output = super().forward(x)
        if self.training:
            type(self).calls += 1
            if type(self).calls > self.limit:
                assert float(output.logits.sum()) < 1e9
        return output


@dataclass(frozen=True)
class Double(Prepare):
    """Prepares inputs in float64, and fails on infinite ones."""

    def __call__(self, raw: Tensor) -> Tensor:
        if raw.isinf().any():
            raise ValueError("an input is infinite")
        return super().__call__(raw).double()


def in_double(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def made(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return make(input_shape, num_classes).double()

    return made


def dataset(shape: tuple[int, ...], count: int = 120) -> Dataset:
    rng = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 3
    inputs = torch.randn(count, *shape, generator=rng)
    inputs += 0.7 * torch.randn(3, *shape, generator=rng)[targets]
    return Dataset("made", inputs, targets, ("a", "b", "c"))


def source_of(seed: int, shape: tuple[int, ...], validation: int, count: int = 120) -> Source:
    return in_float64(make_source(dataset(shape, count), seed=seed, validation=validation))


def in_float64(source: Source) -> Source:
    for split in (source.train, source.test, source.validation):
        if split is not None:
            split.prepare = Double(**asdict(split.prepare))
    return source


class Experiment:
    """Runs of one model and trainer, by themselves or in lockstep.

    Attributes:
        spoiled: By seed a training sample, and the value that its inputs have.
        done: What has been done for how many at once, `Lockstep.done`.
        oracle: Makes who answers; None for the labels of the data.
    """

    oracle: Callable[[Tensor], Oracle] | None = None

    def __init__(
        self,
        model: Callable[..., nn.Module],
        trainer: Trainer,
        shape: tuple[int, ...] = (5,),
        validation: int = 0,
        budget: int = 9,
        counts: dict[int, int] | None = None,
        **settings: Any,
    ) -> None:
        self.model, self.trainer, self.shape = in_double(model), trainer, shape
        self.validation, self.counts = validation, counts or {}
        self.spoiled: dict[int, tuple[int, float]] = {}
        self.done: dict[tuple[str, int], int] = {}
        self.settings = {"query_size": 3, "budget": budget, "threads": 1, "figures": False}
        self.settings |= settings

    def source(self, seed: int) -> Source:
        return source_of(seed, self.shape, self.validation, self.counts.get(seed, 120))

    def run(self, folder: Path, name: str, seed: int, **more: Any) -> Result:
        source = self.source(seed)
        if seed in self.spoiled:
            index, value = self.spoiled[seed]
            source.train.store.inputs[source.train.rows[index]] = value
        return dal.run(
            source,
            self.model,
            STRATEGIES[name](),
            initial=initial_labels(source.train.targets, seed=seed, count=9),
            trainer=self.trainer,
            oracle=None if self.oracle is None else self.oracle(source.train.targets),
            settings=dal.Settings(seed=seed, batch_size=64, **{**self.settings, **more}),
            run_dir=folder / f"{name}{seed}",
        )

    def lockstep(
        self,
        folder: Path,
        runs: Sequence[tuple[str, int]],
        interrupts: Interrupts | None = None,
        **more: Any,
    ) -> list[BaseException | None]:
        lockstep = Lockstep(len(runs), "true")
        shared = interrupts or Interrupts()

        def body(name: str, seed: int) -> Callable[[Replica], None]:
            def work(replica: Replica) -> None:
                with hosted_by(Place(lockstep, replica, shared)):
                    self.run(folder, name, seed, **more)

            return work

        replicas = [Replica(f"{name} s{seed}", body(name, seed)) for name, seed in runs]
        lockstep.engine.run(replicas)
        self.done = dict(lockstep.done)
        return [replica.error for replica in replicas]


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if not k.endswith("_s")} for x in lines]


def picks(folder: Path) -> list[str]:
    return [li.split(",")[1] for li in (folder / "queries.csv").read_text().splitlines()[1:]]


def assert_equal(one: Path, other: Path) -> None:
    """Picks the same, files the same, numbers equal but for rounding.

    Networks are float64; their losses are taken in float32, as everywhere.
    """
    assert picks(one) == picks(other)
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    for mine, others in zip(rows(one), rows(other), strict=True):
        assert mine.keys() - {"numerics_changed"} == others.keys() - {"numerics_changed"}
        for key, value in others.items():
            close = isinstance(value, float) and key != "numerics_changed"
            close |= key == "thresholds"
            assert mine[key] == (pytest.approx(value, rel=1e-5, abs=1e-6) if close else value), key
    first, second = (checkpoint.load(path / "model.pt")["weights"] for path in (one, other))
    for key in first | second:
        torch.testing.assert_close(first[key], second[key], rtol=1e-5, atol=1e-6)


EARLY = EarlyStopping(monitor="train/loss", patience=2, min_delta=0.01)
LATE = EarlyStopping(monitor="val/loss", patience=2)
CASES = {
    "logistic": Experiment(LogisticRegression, Trainer(5, 4, sgd(0.05))),
    "adam": Experiment(LogisticRegression, Trainer(5, 4, adam(0.05), cosine(5))),
    "early": Experiment(LogisticRegression, Trainer(40, 4, sgd(0.3), early_stopping=EARLY)),
    "mlp": Experiment(
        lambda shape, classes: MLP(shape, classes, hidden=(8, 6), dropout=0.2),
        Trainer(12, 4, adamw(0.02), early_stopping=LATE),
        validation=12,
    ),
    "cold": Experiment(MLP, Trainer(3, 8, restart="cold")),
    "lenet5": Experiment(LeNet5, Trainer(3, 8), shape=(1, 28, 28)),
    "mixed": Experiment(Mixed, Trainer(4, 4, early_stopping=EARLY), shape=(1, 8, 8)),
}


@pytest.mark.parametrize("case", list(CASES))
def test_lockstep_equals_separate_runs(case: str, tmp_path: Path) -> None:
    experiment, runs = CASES[case], [("entropy", 0), ("entropy", 1), ("instability", 1)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    # Test part and stop set are predicted in each round.
    assert experiment.done == {("fit", 3): 4, ("predict", 3): 8, ("scan", 3): 3}


def assert_lockstep_equals_separate_runs(
    experiment: Experiment, runs: Sequence[tuple[str, int]], folder: Path
) -> None:
    for name, seed in runs:
        experiment.run(folder / "alone", name, seed)
    assert experiment.lockstep(folder / "together", runs) == [None] * len(runs)
    for name, seed in runs:
        place = f"{name}{seed}"
        assert_equal(folder / "together" / place, folder / "alone" / place)


class Several(Experiment):
    """Samples that may have several labels."""

    def source(self, seed: int) -> Source:
        data = make_multilabel_classification(120, n_features=5, n_classes=4)
        return in_float64(make_source(data, seed=seed, validation=self.validation))


@pytest.mark.parametrize("validation", [30, 0])
def test_lockstep_fits_the_thresholds_of_separate_runs(validation: int, tmp_path: Path) -> None:
    trainer = Trainer(3, 8) if validation else FullBatch()
    experiment = Several(LogisticRegression, trainer, thresholds="fitted", validation=validation)
    runs = [("multilabel_margin", seed) for seed in range(3)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    for name, seed in runs:
        told = rows(tmp_path / "together" / f"{name}{seed}")
        assert [len(row["thresholds"]) for row in told] == [4] * len(told)


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
@pytest.mark.parametrize(("norm", "shape"), [(nn.BatchNorm1d, (4,)), (nn.BatchNorm2d, (4, 3, 3))])
def test_stacked_batch_norm_equals_that_of_each(
    norm: Callable[..., nn.Module], shape: tuple[int, ...], options: dict[str, bool]
) -> None:
    width = 4 if len(shape) == 1 else 36
    layers = lambda: [norm(4, **options), nn.Flatten(), nn.Linear(width, 3)]  # noqa: E731
    models = [nn.Sequential(*layers()).double() for _ in range(3)]
    stack, rng = Stack(models), torch.Generator().manual_seed(0)
    for training in (True, True, False):
        inputs = torch.randn(3, 8, *shape, generator=rng).double()
        logits = stack.train(training)(inputs).logits
        for model, own, found in zip(models, inputs, logits, strict=True):
            torch.testing.assert_close(found, model.train(training)(own))
    for name, buffer in stack.buffers.items():
        each = torch.stack([dict(model.named_buffers())[name] for model in models])
        torch.testing.assert_close(buffer, each)


def test_lockstep_early_stopping_ends_fits_at_different_epochs(tmp_path: Path) -> None:
    experiment = CASES["early"]
    runs = [("random", seed) for seed in range(4)]
    assert experiment.lockstep(tmp_path, runs) == [None] * 4
    assert experiment.done == {("fit", 4): 4, ("predict", 4): 8, ("scan", 4): 3}
    ends = {tuple(r["fit/epochs"] for r in rows(tmp_path / f"random{s}")) for s in range(4)}
    assert len(ends) > 1


def test_lockstep_scans_alone_where_a_strategy_needs_members(tmp_path: Path) -> None:
    experiment, runs = CASES["mlp"], [("bald", 0), ("random", 0), ("entropy", 0)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    assert experiment.done[("scan", 1)] == experiment.done[("scan", 2)] == 3


def test_lockstep_scans_rejected_samples_of_all(tmp_path: Path) -> None:
    experiment = Experiment(MLP, Trainer(5, 8))
    experiment.oracle = Rejecting
    runs = [("pure", 0), ("pure", 1), ("random", 1)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    assert experiment.done[("scan", 3)] == 3
    assert all("query/pure" in row for row in rows(tmp_path / "together" / "pure0")[1:3])


REFUSALS = {
    "branching": (Branching, "vmap: It looks like you're calling .item()"),
    "adding": (Adding, "output with shape"),
}


@pytest.mark.parametrize("case", list(REFUSALS))
def test_lockstep_network_that_cannot_be_stacked_goes_on_one_by_one(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, reason = REFUSALS[case]
    experiment = Experiment(model, Trainer(2, 4), budget=6)
    assert_lockstep_equals_separate_runs(experiment, [("entropy", 0), ("entropy", 1)], tmp_path)
    assert experiment.done == {("fit", 1): 6, ("predict", 1): 12, ("scan", 1): 4}
    told = [r.message for r in caplog.records if "cannot be stacked" in r.message]
    assert len(told) == 3  # once for fits, for tests, for passes
    assert all(f"one by one, as they cannot be stacked: RuntimeError: {reason}" in t for t in told)


def test_lockstep_in_half_precision_goes_on_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = Experiment(LogisticRegression, Trainer(2, 4, precision="bfloat16"), budget=3)
    assert_lockstep_equals_separate_runs(experiment, [("entropy", 0), ("entropy", 1)], tmp_path)
    assert experiment.done == {("fit", 1): 4, ("predict", 1): 8, ("scan", 1): 2}
    (told,) = [r.message for r in caplog.records if "cannot be stacked" in r.message]
    assert told.endswith("cannot be stacked: trainer.precision=bfloat16; float32 can be")


def test_lockstep_without_memory_for_all_at_once_goes_on_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = Experiment(Hungry, Trainer(2, 4), budget=6)
    assert_lockstep_equals_separate_runs(experiment, [("entropy", 0), ("entropy", 1)], tmp_path)
    assert experiment.done == {("fit", 1): 6, ("predict", 1): 12, ("scan", 1): 4}
    assert caplog.text.count("memory ran out for 2 networks at once; these runs go on one") == 3
    assert "cannot be stacked" not in caplog.text


@pytest.mark.parametrize("after", [1, 4, 20])
def test_lockstep_stack_that_fails_later_goes_on_one_by_one_from_there(
    after: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first epoch of the first fit, in its third, and in the second fit, of 18 steps each.

    The step that fails has moved statistics of BatchNorm and drawn masks of dropout, both of which
    are taken back.
    """
    monkeypatch.setattr(Late, "limit", 10**9)
    experiment = Experiment(Late, Trainer(6, 4, adamw(0.02)), (1, 8, 8), budget=3)
    runs = [("entropy", 0), ("entropy", 1), ("entropy", 2)]
    for name, seed in runs:
        experiment.run(tmp_path / "alone", name, seed)
    monkeypatch.setattr(Late, "calls", 0)
    monkeypatch.setattr(Late, "limit", after)
    assert experiment.lockstep(tmp_path / "together", runs) == [None] * 3
    fits = {("fit", 1): 3, ("fit", 3): 1} if after == 20 else {("fit", 1): 6}
    assert {key: n for key, n in experiment.done.items() if key[0] == "fit"} == fits
    assert caplog.text.count("cannot be stacked: RuntimeError: vmap") == 1
    for name, seed in runs:
        place = f"{name}{seed}"
        assert_equal(tmp_path / "together" / place, tmp_path / "alone" / place)


def test_lockstep_defect_of_a_model_is_raised_as_it_is_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment, runs = Experiment(Untrainable, Trainer(2, 4)), [("random", 0), ("random", 1)]
    with pytest.raises(RuntimeError, match="cannot be multiplied") as alone:
        experiment.run(tmp_path / "alone", *runs[0])
    errors = experiment.lockstep(tmp_path / "together", runs)
    assert [(type(error), str(error)) for error in errors] == [(RuntimeError, str(alone.value))] * 2
    assert "stacked" not in caplog.text


def test_lockstep_embedding_equals_that_of_each(tmp_path: Path) -> None:
    """The row of padding is trained in none of them, which vmap would not see to."""
    experiment = Experiment(Lookup, Trainer(4, 4, sgd(0.5)))
    runs = [("entropy", 0), ("entropy", 1), ("entropy", 2)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    # Test part and stop set are predicted in each round.
    assert experiment.done == {("fit", 3): 4, ("predict", 3): 8, ("scan", 3): 3}


@pytest.mark.parametrize("case", list(named_inputs.CASES))
def test_lockstep_on_inputs_by_name_equals_separate_runs(case: str, tmp_path: Path) -> None:
    make, inputs = named_inputs.CASES[case]
    inputs = {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}

    class Named(Experiment):
        def source(self, seed: int) -> Source:
            data = Dataset("named", inputs, named_inputs.TARGETS, ("a", "b", "c"))
            return make_source(data, seed=seed, validation=self.validation)

    experiment = Named(make, Trainer(4, 4, adam(0.01)), validation=9)
    runs = [("entropy", 0), ("instability", 1), ("margin", 2)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    # Test part and stop set are predicted in each round.
    assert experiment.done == {("fit", 3): 4, ("predict", 3): 8, ("scan", 3): 3}


@pytest.mark.parametrize("kind", [EmbeddingBag, TextTransformer])
def test_lockstep_on_texts_equals_separate_runs(kind: Any, tmp_path: Path) -> None:
    """Texts of many lengths, each run's batches cut to lengths of their own; dropout included."""

    class Texts(Experiment):
        def source(self, seed: int) -> Source:
            return token_texts.source(80, multilabel=True, seed=seed)

    def make(input_shape: Any, num_classes: int) -> nn.Module:
        network: nn.Module = kind(input_shape, num_classes, token_texts.WORDS, width=8)
        return network

    experiment = Texts(make, Trainer(3, 4, sgd(0.05)))
    runs = [("multilabel_margin", seed) for seed in range(3)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    assert experiment.done == {("fit", 3): 4, ("predict", 3): 8, ("scan", 3): 3}


def test_lockstep_auto_leaves_attention_on_a_cpu_one_by_one() -> None:
    source = token_texts.source()
    for kind, stacked in ((EmbeddingBag, True), (TextTransformer, False)):
        network = kind(source.input_shape, 3, token_texts.WORDS, width=8)
        learner = TorchLearner(
            network, Trainer(), source, source.task, seed=0, device=torch.device("cpu")
        )
        wrapped = Lockstep(2).wrap(learner, Replica("one", lambda replica: None))
        assert wrapped.numerics()["replicas"] == (2 if stacked else 1)


def test_lockstep_fits_to_the_optimum_are_done_one_by_one(tmp_path: Path) -> None:
    """`FullBatch` has no epochs that could be stacked; Adam in its place would look much alike."""
    experiment, runs = Experiment(LogisticRegression, FullBatch()), [("margin", 0), ("margin", 1)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    assert experiment.done == {("fit", 1): 8, ("predict", 1): 16, ("scan", 1): 6}
    for seed in (0, 1):
        assert rows(tmp_path / f"together/margin{seed}")[0]["fit/stopped"] == "converged"


def test_lockstep_pool_exhausted_in_different_rounds(tmp_path: Path) -> None:
    trainer = Trainer(2, 4)
    experiment = Experiment(LogisticRegression, trainer, budget=60, counts={0: 36, 1: 60})
    runs = [("entropy", 0), ("entropy", 1)]
    assert_lockstep_equals_separate_runs(experiment, runs, tmp_path)
    for seed in (0, 1):
        status = json.loads((tmp_path / f"together/entropy{seed}/status.json").read_text())
        assert status["reason"] == "pool_exhausted"


SPOILED = {
    "loss": (LogisticRegression, float("nan"), FloatingPointError, "round 1, epoch 0", (2, 2)),
    "forward": (Lookup, 10.0, IndexError, "index out of range", (1, 2)),
    "reading": (LogisticRegression, float("inf"), ValueError, "an input is infinite", (1, 3)),
}
"""Model, value of a sample, what comes of it, and how many fits of three and of two are stacked."""


@pytest.mark.parametrize("case", list(SPOILED))
def test_lockstep_failure_of_one_leaves_the_others_alone(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sample with which training fails is drawn in the first query of one run."""
    model, value, kind, reason, stacked = SPOILED[case]
    # Without a stop set, which would read the sample before it is drawn.
    experiment = Experiment(model, Trainer(5, 4, sgd(0.05)), stop_set=0)
    runs = [("random", seed) for seed in range(3)]
    for name, seed in runs:
        experiment.run(tmp_path / "alone", name, seed)
    experiment.spoiled = {1: (int(picks(tmp_path / "alone/random1")[0]), value)}
    errors = experiment.lockstep(tmp_path / "together", runs)
    assert [type(error) for error in errors] == [type(None), kind, type(None)]
    assert (experiment.done["fit", 3], experiment.done["fit", 2]) == stacked
    assert "stacked" not in caplog.text
    for seed in (0, 2):
        assert_equal(tmp_path / f"together/random{seed}", tmp_path / f"alone/random{seed}")
    status = json.loads((tmp_path / "together/random1/status.json").read_text())
    assert status["status"] == "failed"
    assert reason in status["reason"]
    assert "random s1" not in (tmp_path / "together/random0/train.log").read_text()


class StopAfter(Interrupts):
    """A signal that comes after so many looks for one."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    @property
    def pending(self) -> bool:
        self.left -= 1
        return self.left < 0

    def check(self) -> None:
        if self.left < 0:
            raise PreemptedError(15)


class StopWithin(StopAfter):
    """A signal that comes after so many looks for one, also those between two batches."""

    def check(self) -> None:
        if self.pending:
            raise PreemptedError(15)


@pytest.mark.parametrize("case", ["mlp", "mixed", "early"])
def test_lockstep_stopped_between_batches_resumes_together_and_alone(
    case: str, tmp_path: Path
) -> None:
    experiment, runs = CASES[case], [("entropy", 0), ("entropy", 1), ("entropy", 2)]
    for name, seed in runs:
        experiment.run(tmp_path / "alone", name, seed)
    together, within = tmp_path / "together", 0
    for looks in range(4, 16):
        errors = experiment.lockstep(together, runs, StopWithin(looks))
        assert {type(error) for error in errors} == {PreemptedError}
        newest = max((together / "entropy0" / "checkpoints").glob("*.pt"))
        fit = checkpoint.load(newest)["state"]["fit"] or {}
        within += bool(fit.get("within", [{}])[0])
    assert within >= 2
    experiment.run(together, "entropy", 0)  # ahead of the others now, and complete
    assert experiment.lockstep(together, runs) == [None] * 3
    for name, seed in runs:
        place = f"{name}{seed}"
        assert_equal(together / place, tmp_path / "alone" / place)


@pytest.mark.parametrize("case", ["mlp", "mixed", "early"])
def test_lockstep_stopped_within_a_fit_resumes_together_and_alone(
    case: str, tmp_path: Path
) -> None:
    experiment, runs = CASES[case], [("entropy", 0), ("entropy", 1), ("entropy", 2)]
    for name, seed in runs:
        experiment.run(tmp_path / "alone", name, seed)
    together = tmp_path / "together"
    errors = experiment.lockstep(together, runs, StopAfter(7), save_every=1)
    assert [type(error) for error in errors] == [PreemptedError] * 3
    for seed in range(3):
        status = json.loads((together / f"entropy{seed}/status.json").read_text())
        assert status["status"] == "preempted"
    experiment.run(together, "entropy", 0)  # ahead of the others now, and complete
    assert experiment.lockstep(together, runs) == [None] * 3
    for name, seed in runs:
        place = f"{name}{seed}"
        assert_equal(together / place, tmp_path / "alone" / place)


def test_lockstep_run_begun_alone_goes_on_with_others(tmp_path: Path) -> None:
    experiment, runs = CASES["mlp"], [("entropy", 0), ("entropy", 1)]
    for name, seed in runs:
        experiment.run(tmp_path / "alone", name, seed)
    together = tmp_path / "together"
    experiment.run(together, "entropy", 0, budget=6)  # two rounds ahead
    assert experiment.lockstep(together, runs) == [None] * 2
    for name, seed in runs:
        place = f"{name}{seed}"
        assert_equal(together / place, tmp_path / "alone" / place)


def test_lockstep_checkpoint_within_a_fit_is_as_small_as_alone(tmp_path: Path) -> None:
    """Views of a stack would save the whole of it."""
    trainer = Trainer(4, 4, adam(0.01))
    experiment = Experiment(lambda s, c: MLP(s, c, hidden=(256,)), trainer, budget=3)
    runs = [("random", seed) for seed in range(4)]
    stopped: dict[str, int] = {}
    for folder, chosen in (("one", runs[:1]), ("four", runs)):
        experiment.lockstep(tmp_path / folder, chosen, StopAfter(2), save_every=1)
        files = sorted((tmp_path / folder / "random0" / "checkpoints").glob("*.pt"))
        stopped[folder] = files[-1].stat().st_size
    assert stopped["four"] < 1.1 * stopped["one"]
