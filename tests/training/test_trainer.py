import copy
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dal.training.fit
from dal.models import MLP, BayesianCNN, forward
from dal.task import Multiclass
from dal.training.context import FitContext, FitState, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.epochs import split_batches
from dal.training.optim import adam, adamw, constant, cosine, milestones, sgd, step
from dal.training.trainer import Trainer
from dal.utils.signals import PreemptedError

TASK = Multiclass(3)
NAN, INF = float("nan"), float("inf")


def samples(count: int = 24, weights: Tensor | None = None, width: int = 4) -> Samples:
    rng = torch.Generator().manual_seed(3)
    targets = torch.arange(count) % 3
    inputs = torch.randn(count, width, generator=rng) + F.one_hot(targets, width)
    return Samples(inputs.__getitem__, targets, weights)


def network(dropout: float = 0.0, batch_norm: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        if not batch_norm:
            return MLP((4,), 3, hidden=(8,), dropout=dropout)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def scripted(values: list[float], name: str = "loss") -> Callable[[], Mapping[str, float]]:
    """An evaluation that gives these values, epoch by epoch."""
    following: Iterator[float] = iter(values)
    return lambda: {name: next(following)}


def fit_scripted(values: list[float], **rule: Any) -> FitState:
    name = "accuracy" if rule.get("mode") == "max" else "loss"
    stopping = EarlyStopping(monitor=f"val/{name}", **rule)
    trainer = Trainer(epochs=len(values), batch_size=8, early_stopping=stopping)
    return trainer.fit(network(), samples(), TASK, FitContext(evaluate=scripted(values, name)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (constant(), {0: 1.0, 60: 1.0, 119: 1.0}),
        (step(50, 0.1), {0: 1.0, 49: 1.0, 50: 0.1, 99: 0.1, 100: 0.01, 119: 0.01}),
        (step(20, 0.9), {19: 1.0, 20: 0.9, 40: 0.81, 119: 0.9**5}),
        (milestones([60, 30], 0.5), {29: 1.0, 30: 0.5, 59: 0.5, 60: 0.25}),
        (cosine(120), {0: 1.0, 60: 0.5}),
        (cosine(120, lr_min=0.5), {0: 1.0, 60: 0.75}),
    ],
)
def test_schedule_gives_the_rate_of_each_epoch(make: Any, expected: dict[int, float]) -> None:
    trainer = Trainer(epochs=120, batch_size=8, optimizer=sgd(lr=1.0), scheduler=make)
    fitted = trainer.fit(network(), samples(3), TASK, FitContext())
    rates = [row["lr"] for row in fitted.history]
    assert {epoch: rates[epoch] for epoch in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "values", "epochs", "best"),
    [
        ({"patience": 2}, [5, 4, 4, 4, 1, 0], 4, 1),
        ({"patience": 3}, [5, 4, 4, 4, 1, 0], 6, 5),
        ({"patience": 2, "mode": "max"}, [1, 2, 2, 2, 9], 4, 1),
        ({"patience": 3, "min_delta": 1.0}, [5, 4.5, 4, 3.5, 3, 3, 2], 7, 6),
        ({"patience": 2, "min_delta": 1.0}, [5, 4.5, 4, 3.5, 3, 3, 3], 3, 0),
        ({"patience": 1, "min_delta": 1.0}, [5, 4, 3, 2], 2, 0),
        ({"patience": 1, "min_epochs": 4}, [5, 6, 6, 6, 6, 6], 4, 0),
        ({"patience": 1, "min_epochs": 3}, [5, 6, 4, 3, 3, 1], 5, 3),
        ({"patience": None}, [5, 1, 6, 6, 6, 6], 6, 1),
        ({"patience": 3}, [NAN, 4, NAN, 3, NAN, 5], 6, 3),
    ],
)
def test_early_stopping_ends_at_the_right_epoch(
    rule: dict[str, Any], values: list[float], epochs: int, best: int
) -> None:
    fitted = fit_scripted(values, **rule)
    assert (fitted.epoch, fitted.best_epoch, fitted.best_value) == (epochs, best, values[best])
    assert fitted.stopped == ("early" if epochs < len(values) else "epochs")


@pytest.mark.parametrize(
    ("monitor", "best"),
    [
        ("val/loss", 1),
        ("val/ece", 1),
        ("val/hamming_loss", 1),
        ("val/accuracy", 2),
        ("val/macro_f1", 2),
        ("val/micro_f1", 2),
        ("val/sample_f1", 2),
    ],
)
def test_early_stopping_knows_which_way_a_metric_is_better(monitor: str, best: int) -> None:
    rule = EarlyStopping(monitor, patience=None)
    evaluate = scripted([0.5, 0.1, 0.9, 0.4], monitor.removeprefix("val/"))
    fitted = Trainer(4, 8, early_stopping=rule).fit(
        network(), samples(), TASK, FitContext(evaluate=evaluate)
    )
    assert fitted.best_epoch == best


def test_early_stopping_by_a_metric_of_unknown_direction_asks_for_it() -> None:
    rule = EarlyStopping("val/kappa")
    context = FitContext(evaluate=scripted([0.5, 0.5, 0.5], "kappa"))
    with pytest.raises(ValueError, match=r"val/kappa is better.*early_stopping\.mode=min or max"):
        Trainer(2, early_stopping=rule).fit(network(), samples(), TASK, context)
    rule = EarlyStopping("val/kappa", "max")
    assert Trainer(2, early_stopping=rule).fit(network(), samples(), TASK, context).best_epoch == 0


def test_early_stopping_by_a_metric_that_is_never_a_number_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="val/loss was NaN in every epoch of round 0"):
        fit_scripted([NAN, NAN, NAN])


@pytest.mark.parametrize(("monitor", "mode"), [("train/loss", "min"), ("train/accuracy", "max")])
def test_early_stopping_monitors_training_metrics(monitor: str, mode: Any) -> None:
    trainer = Trainer(epochs=8, early_stopping=EarlyStopping(monitor, mode, patience=None))
    fitted = trainer.fit(network(), samples(), TASK, FitContext())
    values = [row[monitor] for row in fitted.history]
    best = max(values) if mode == "max" else min(values)
    assert (fitted.best_value, fitted.best_epoch) == (best, values.index(best))


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"mode": "best"}, "choose min or max"),
        ({"monitor": "val/accuracy", "mode": "min"}, "mode=min would keep the worst.*set max"),
        ({"mode": "max"}, "mode=max would keep the worst epoch by train/loss; set min"),
        ({"patience": 0}, r"trainer.early_stopping.patience=0; give at least 1, or null for never"),
        ({"patience": -3}, "at least 1"),
        ({"min_delta": -1.0}, "0 or more"),
        ({"min_delta": NAN}, "0 or more"),
        ({"min_delta": INF}, "trainer.early_stopping.min_delta=inf; give"),
        ({"min_epochs": -1}, "trainer.early_stopping.min_epochs=-1; give at least 0"),
    ],
)
def test_early_stopping_refuses_settings_out_of_range(settings: Any, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        EarlyStopping(**settings)


@pytest.mark.parametrize(
    ("settings", "error", "fact"),
    [
        ({"epochs": 0}, ValueError, "trainer.epochs=0"),
        ({"batch_size": 0}, ValueError, "trainer.batch_size=0"),
        (
            {"batch_size": 2**63},
            ValueError,
            rf"trainer.batch_size={2**63}; give at most {2**63 - 1}",
        ),
        ({"batch_size": "many"}, TypeError, "trainer.batch_size='many'; give a whole number"),
        ({"batch_size": 1.5}, TypeError, "trainer.batch_size=1.5"),
        ({"samples_per_epoch": 2**70}, ValueError, "trainer.samples_per_epoch="),
        ({"samples_per_epoch": 2**62}, ValueError, "trainer.samples_per_epoch=.*GiB.*ask for less"),
        ({"epochs": 2**64}, ValueError, "trainer.epochs="),
        ({"restart": "hot"}, ValueError, "warm or cold"),
        ({"precision": "float8"}, ValueError, "bfloat16"),
        ({"optimizer": "adam"}, TypeError, "trainer/optimizer=adam"),
        ({"scheduler": "step"}, TypeError, "trainer/scheduler=step"),
        ({"early_stopping": 3}, TypeError, "patience"),
    ],
)
def test_trainer_refuses_settings_out_of_range(
    settings: Any, error: type[Exception], fact: str
) -> None:
    with pytest.raises(error, match=fact):
        Trainer(**settings)


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: sgd(lr=0), "optimizer.lr=0; give a positive number"),
        (lambda: adam(lr=-1), "optimizer.lr=-1"),
        (lambda: adamw(lr=NAN), "optimizer.lr=nan"),
        (lambda: adamw(lr=INF), "optimizer.lr=inf"),
        (lambda: adam(betas=[0.9]), "optimizer.betas=.*give two"),  # type: ignore[arg-type]
        (lambda: adam(betas=(0.9, 1.0)), "optimizer.betas=1.0; give .* below 1"),
        (lambda: adamw(betas=(-0.1, 0.9)), "optimizer.betas=-0.1"),
        (lambda: adam(eps=-1e-8), "optimizer.eps=-1e-08"),
        (lambda: adamw(eps=NAN), "optimizer.eps=nan"),
        (lambda: sgd(weight_decay=-0.1), "optimizer.weight_decay=-0.1; give a number of 0 or more"),
        (lambda: adam(weight_decay=INF), "optimizer.weight_decay=inf"),
        (lambda: sgd(momentum=5), "optimizer.momentum=5; give a number of 0 or more and below 1"),
        (lambda: sgd(momentum=-0.5), "optimizer.momentum=-0.5"),
        (lambda: sgd(momentum=0, nesterov=True), "optimizer.nesterov=true.*momentum=0.9"),
        (lambda: step(every=0), "scheduler.every=0"),
        (lambda: step(every=2**63), "scheduler.every="),
        (lambda: step(factor=-0.1), "scheduler.factor=-0.1; give a number of 0 or more"),
        (lambda: milestones([3], factor=NAN), "scheduler.factor=nan"),
        (lambda: milestones([3, -1]), "scheduler.at=-1"),
        (lambda: milestones(3), "scheduler.at=3; give a list"),  # type: ignore[arg-type]
        (lambda: milestones([1.5]), "scheduler.at=1.5"),  # type: ignore[list-item]
        (lambda: cosine(epochs=0), "scheduler.epochs=0"),
        (lambda: cosine(lr_min=-1), "scheduler.lr_min=-1"),
        (lambda: sgd(lr="fast"), "optimizer.lr='fast'; give a positive number"),  # type: ignore[arg-type]
        (lambda: sgd(lr=10**400), "optimizer.lr=1000"),
    ],
)
def test_optimizer_settings_out_of_range_are_refused(make: Callable[[], Any], fact: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^trainer\.{fact}"):
        make()


def test_fit_restores_the_best_weights_bit_for_bit() -> None:
    seen: list[Tensor] = []
    model = network()
    context = FitContext(
        evaluate=scripted([3.0, 1.0, 2.0, 2.0, 2.0]),
        on_epoch=lambda state, save: seen.append(weights_of(model)),
    )
    stopping = EarlyStopping("val/loss", patience=None)
    Trainer(epochs=5, early_stopping=stopping).fit(model, samples(), TASK, context)
    assert torch.equal(weights_of(model), seen[1])
    assert not torch.equal(seen[1], seen[4])


def test_best_weights_stay_as_they_were_while_training_goes_on() -> None:
    model, kept, live = network(batch_norm=True), [], []

    def note(state: FitState, save: Callable[[], dict[str, Any]]) -> None:
        kept.append(copy.deepcopy(state.best))
        live.append({name: value.clone() for name, value in model.state_dict().items()})

    stopping = EarlyStopping("val/loss", patience=None)
    context = FitContext(evaluate=scripted([1.0, 2.0, 2.0]), on_epoch=note)
    Trainer(epochs=3, early_stopping=stopping).fit(model, samples(), TASK, context)
    for name, value in live[0].items():
        assert all(torch.equal(best[name], value) for best in kept), name
    assert not torch.equal(live[0]["0.weight"], live[2]["0.weight"])


def test_fit_without_early_stopping_keeps_the_last_weights() -> None:
    seen: list[Tensor] = []
    model = network()
    context = FitContext(on_epoch=lambda state, save: seen.append(weights_of(model)))
    fitted = Trainer(epochs=3).fit(model, samples(), TASK, context)
    assert torch.equal(weights_of(model), seen[2])
    assert (fitted.best_epoch, fitted.epoch, fitted.stopped) == (2, 3, "epochs")


def fitted_weights(seed: int = 0, round_number: int = 0, weights: Tensor | None = None) -> Tensor:
    model = network(dropout=0.3)
    context = FitContext(seed=seed, round=round_number)
    Trainer(epochs=3, batch_size=8).fit(model, samples(weights=weights), TASK, context)
    return weights_of(model)


def test_fit_depends_on_seed_and_round_alone() -> None:
    first = fitted_weights()
    torch.manual_seed(99)
    assert torch.equal(fitted_weights(), first)
    assert not torch.equal(fitted_weights(seed=1), first)
    assert not torch.equal(fitted_weights(round_number=1), first)


def test_fit_leaves_the_global_random_state() -> None:
    before = torch.get_rng_state()
    fitted_weights()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("wanted", "seen"), [(None, 24), (10, 24), (24, 24), (60, 60)])
def test_epoch_sees_as_many_samples_as_wanted(wanted: int | None, seen: int) -> None:
    taken: list[Tensor] = []

    class Recording(Multiclass):
        def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
            taken.append(targets)
            return super().loss(logits, targets, weights)

    stopping = EarlyStopping(monitor="val/loss")
    trainer = Trainer(1, 8, samples_per_epoch=wanted, early_stopping=stopping)
    data = Samples(samples().take, torch.arange(24) % 3)
    state = trainer.fit(network(), data, Recording(3), FitContext(evaluate=scripted([1.0])))
    counts = torch.bincount(torch.cat(taken), minlength=3)
    assert int(counts.sum()) == seen
    assert state.steps == -(-seen // 8)
    assert int(counts.max() - counts.min()) <= seen % 24


def test_fit_learns_separable_samples() -> None:
    model, data = network(), samples()
    Trainer(epochs=200, optimizer=adam(0.02)).fit(model, data, TASK, FitContext())
    model.eval()
    inputs = data.take(torch.arange(len(data)))
    assert torch.equal(forward(model, inputs).logits.argmax(1), data.targets)


def test_zero_weight_equals_absence() -> None:
    half = torch.cat([torch.ones(12), torch.zeros(12)])
    trainer = Trainer(epochs=5, batch_size=24, optimizer=sgd(0.1))
    weighted, plain = network(), network()
    trainer.fit(weighted, samples(24, half), TASK, FitContext())
    every = samples(24)
    trainer.fit(plain, Samples(every.take, every.targets[:12]), TASK, FitContext())
    torch.testing.assert_close(weights_of(weighted), weights_of(plain))


def test_scale_of_the_weights_does_not_matter_but_their_ratio_does() -> None:
    ones, twos = torch.ones(24), torch.full((24,), 2.0)
    assert torch.allclose(fitted_weights(weights=ones), fitted_weights(weights=twos))
    assert torch.allclose(fitted_weights(weights=ones), fitted_weights())
    uneven = torch.cat([torch.ones(12), torch.full((12,), 5.0)])
    assert not torch.allclose(fitted_weights(weights=uneven), fitted_weights(weights=ones))


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (1, 8, [1]),
        (3, 8, [3]),
        (8, 8, [8]),
        (9, 8, [9]),
        (10, 8, [8, 2]),
        (17, 8, [8, 9]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
    ],
)
def test_split_batches_joins_a_last_batch_of_one(count: int, size: int, sizes: list[int]) -> None:
    order = torch.randperm(count)
    batches = split_batches(order, size)
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches), order)


@pytest.mark.parametrize(("count", "size"), [(1, 8), (3, 8), (9, 8), (3, 1)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_fit_takes_any_number_of_samples(count: int, size: int, batch_norm: bool) -> None:
    model = network(batch_norm=batch_norm)
    fitted = Trainer(epochs=2, batch_size=size).fit(model, samples(count), TASK, FitContext())
    assert all(0 <= row["train/accuracy"] <= 1 for row in fitted.history)
    assert weights_of(model).isfinite().all()


def test_single_sample_under_batch_norm_counts_once() -> None:
    model, data = network(batch_norm=True), samples(1)
    with torch.no_grad():
        logits = copy.deepcopy(model).train()(data.take(torch.tensor([0, 0])))
    expected = F.cross_entropy(logits, data.targets.repeat(2)).item()
    fitted = Trainer(epochs=1).fit(model, data, TASK, FitContext())
    assert fitted.history[0]["train/loss"] == pytest.approx(expected)


def test_fit_of_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no labeled samples"):
        Trainer().fit(network(), samples(0), TASK, FitContext())


def test_non_finite_loss_is_an_error_that_names_round_and_epoch() -> None:
    trainer = Trainer(epochs=20, optimizer=sgd(lr=1e38))
    with pytest.raises(FloatingPointError, match=r"round 2, epoch \d+; lower trainer.optimizer.lr"):
        trainer.fit(network(), samples(), TASK, FitContext(round=2))


@pytest.mark.parametrize(("monitor", "remedy"), [("val/loss", "split.validation"), ("foo", "lr$")])
def test_metric_that_is_not_logged_is_an_error_that_lists_metrics(
    monitor: str, remedy: str
) -> None:
    trainer = Trainer(early_stopping=EarlyStopping(monitor))
    with pytest.raises(ValueError, match=rf"train/loss, train/accuracy, lr.*{remedy}|{remedy}"):
        trainer.fit(network(), samples(), TASK, FitContext())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_float32_weights(precision: Any) -> None:
    model, plain = network(), network()
    fitted = Trainer(epochs=3, precision=precision).fit(model, samples(), TASK, FitContext())
    Trainer(epochs=3).fit(plain, samples(), TASK, FitContext())
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not torch.equal(weights_of(model), weights_of(plain))
    torch.testing.assert_close(weights_of(model), weights_of(plain), rtol=0.1, atol=0.02)
    assert fitted.history[0]["train/loss"] > 0


def test_large_inputs_are_prepared_batch_by_batch_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident = fitted_weights()
    monkeypatch.setattr(dal.training.fit, "RESIDENT_LIMIT", 0)
    assert torch.equal(fitted_weights(), resident)


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return dict(torch.load(buffer, weights_only=True))


def resumable(optimizer: Any, scheduler: Any) -> Trainer:
    return Trainer(
        epochs=6,
        batch_size=8,
        optimizer=optimizer,
        scheduler=scheduler,
        early_stopping=EarlyStopping("val/loss", patience=3),
    )


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        (adam(0.01), milestones([2, 4], 0.5)),
        (adamw(0.01), constant()),
        (sgd(0.05, momentum=0.9), cosine(6)),
        (sgd(0.05, momentum=0.9, nesterov=True, weight_decay=0.01), step(2, 0.3)),
    ],
)
def test_fit_resumed_after_any_epoch_gives_the_same_bits(optimizer: Any, scheduler: Any) -> None:
    values = [5.0, 2.0, 3.0, 1.0, 4.0, 4.0]
    states: list[dict[str, Any]] = []
    whole, trainer = network(0.3), resumable(optimizer, scheduler)
    context = FitContext(
        seed=4,
        evaluate=scripted(values),
        on_epoch=lambda state, save: states.append(saved_and_loaded(save())),
    )
    expected = trainer.fit(whole, samples(), TASK, context)
    assert len(states) == 6
    for state in states:
        model = MLP((4,), 3, hidden=(8,), dropout=0.3)
        rest = FitContext(seed=4, evaluate=scripted(values[state["epoch"] :]), resume=state)
        fitted = trainer.fit(model, samples(), TASK, rest)
        assert torch.equal(weights_of(model), weights_of(whole)), state["epoch"]
        assert fitted.history == expected.history
        assert (fitted.best_epoch, fitted.steps) == (expected.best_epoch, expected.steps)


def test_fit_best_weights_are_those_that_were_measured() -> None:
    """One step an epoch at a rate that overshoots: the loss before a step says nothing of it."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(20, 6, generator=generator)
    targets = torch.randint(0, 3, (20,), generator=generator)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    rule = EarlyStopping("train/loss", patience=None)
    trainer = Trainer(epochs=12, optimizer=sgd(lr=2.0), early_stopping=rule)
    samples = Samples(lambda batch: inputs[batch], targets)
    state = trainer.fit(model, samples, Multiclass(3), FitContext())
    loss = F.cross_entropy(model(inputs), targets).detach()
    assert float(loss) == pytest.approx(state.best_value, rel=1e-6)
    assert state.best_value == min(epoch["train/loss"] for epoch in state.history)


class _EndedError(Exception):
    """The process would end here."""


def ended_at(look: int, resume: dict[str, Any] | None = None, **more: Any) -> FitContext:
    """A context in which a signal comes before the look for one of that number."""
    looks = iter(range(10**6))

    def end(save: Callable[[], dict[str, Any]]) -> None:
        raise _EndedError(saved_and_loaded(save()))

    return FitContext(
        seed=4, pending=lambda: next(looks) >= look, on_signal=end, resume=resume, **more
    )


class _Normed(nn.Module):
    """BatchNorm, whose statistics move with every batch, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def of_images(count: int = 24) -> Samples:
    rng = torch.Generator().manual_seed(3)
    inputs = torch.randn(count, 1, 28, 28, generator=rng)
    return Samples(inputs.__getitem__, torch.arange(count) % 3)


@pytest.mark.parametrize(
    ("make", "data", "optimizer"),
    [
        (_Normed, samples, sgd(0.05, momentum=0.9)),
        (_Normed, samples, adam(0.01)),
        (lambda: BayesianCNN((1, 28, 28), 3), of_images, adam(0.001)),
    ],
)
def test_fit_ended_between_any_two_batches_goes_on_to_the_same_bits(
    make: Callable[[], nn.Module], data: Callable[[], Samples], optimizer: Any
) -> None:
    rule = EarlyStopping("train/loss", patience=None)  # measured, so that the signal can come there
    trainer = Trainer(2, 5, optimizer, step(1, 0.5), rule)
    torch.manual_seed(1)
    start = make().state_dict()

    def begun() -> nn.Module:
        model = make()
        model.load_state_dict(start)
        return model

    whole = begun()
    expected = trainer.fit(whole, data(), TASK, FitContext(seed=4))
    assert expected.steps == 10
    model, ends, resume, look = begun(), 0, None, 3
    while True:
        try:
            found = trainer.fit(model, data(), TASK, ended_at(look, resume))
            break
        except _EndedError as end:
            resume, ends, look = end.args[0], ends + 1, 1
            assert ends < 100
            model = make()
    assert ends >= 9
    assert torch.equal(weights_of(model), weights_of(whole))
    assert found.history == expected.history
    assert (found.steps, found.best_value) == (expected.steps, expected.best_value)


def test_fit_ended_by_a_signal_does_no_other_step() -> None:
    taken: list[int] = []

    class Counting(Multiclass):
        def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
            taken.append(len(targets))
            return super().loss(logits, targets, weights)

    with pytest.raises(_EndedError) as end:
        Trainer(3, 5).fit(network(), samples(), Counting(3), ended_at(7))
    assert len(taken) == 7
    (within,) = end.value.args[0]["within"]
    assert (end.value.args[0]["epoch"], len(within["losses"])) == (1, 2)


def test_fit_ended_while_it_validates_validates_again() -> None:
    def evaluate() -> Mapping[str, float]:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise PreemptedError(15)
        return {"loss": 1.0}

    trainer = Trainer(3, 5)
    whole, model, asked = network(0.3), network(0.3), 5
    expected = trainer.fit(whole, samples(), TASK, FitContext(seed=4, evaluate=evaluate))
    asked = 0
    with pytest.raises(_EndedError) as end:
        trainer.fit(model, samples(), TASK, ended_at(10**6, evaluate=evaluate))
    assert end.value.args[0]["steps"] == 10
    rest = FitContext(seed=4, evaluate=evaluate, resume=end.value.args[0])
    model = network(0.3)
    found = trainer.fit(model, samples(), TASK, rest)
    assert torch.equal(weights_of(model), weights_of(whole))
    assert (found.history, found.steps, asked) == (expected.history, 15, 4)


def test_fit_leaves_the_global_random_state_when_it_ends_early() -> None:
    before = torch.get_rng_state()
    with pytest.raises(_EndedError):
        Trainer(3, 5).fit(network(0.3), samples(), TASK, ended_at(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_metric_of_validation_that_is_missing_names_both_ways_to_have_it() -> None:
    rule = EarlyStopping("val/loss")
    with pytest.raises(ValueError, match=r"split\.validation=0\.1 or split\.validation_of_labels="):
        rule.value({"train/loss": 1.0})
