"""What changes a step, against loops in plain PyTorch, and through interruptions."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from dal.models import MLP
from dal.task import Multiclass, Multilabel
from dal.training.augment import Augment
from dal.training.context import FitContext, FitState, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.epochs import parts_of
from dal.training.optim import adam, cosine, milestones, sgd, step
from dal.training.trainer import Trainer, balanced
from dal.utils.seeding import generator

TASK = Multiclass(3)
COUNT, SIZE, STEPS, EPOCHS = 22, 5, 5, 4
INPUTS = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0] * 12 + [1] * 7 + [2] * 3)
WEIGHTS = torch.linspace(0.5, 2, COUNT)


def samples(weights: Tensor | None = None) -> Samples:
    return Samples(INPUTS.__getitem__, TARGETS, weights)


def network(dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return MLP((4,), 3, hidden=(8,), dropout=dropout)


def plain(
    *,
    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    schedule: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    clip: float | None = None,
    decay: float | None = None,
    warm: float = 0.0,
    body: float = 1.0,
) -> tuple[dict[str, Tensor], list[float]]:
    """A loop of its own over the fit's batches; the last (averaged) weights, each step's rate."""
    model, done, rates = network(), 0, []
    head = [model.head.weight, model.head.bias]  # type: ignore[union-attr]
    others = [p for p in model.parameters() if not any(p is one for one in head)]
    optimizer = make([{"params": head}, {"params": others}])  # type: ignore[list-item]
    scheduler = schedule(optimizer) if schedule else None
    average = {name: value.clone() for name, value in model.state_dict().items()}
    for epoch in range(EPOCHS):
        order = torch.randperm(COUNT, generator=generator(0, 0, "order", epoch))
        for batch in torch.split(order, SIZE):
            scheduled = optimizer.param_groups[0]["lr"]
            rate = scheduled * min(1.0, (done + 1) / (warm * STEPS)) if warm else scheduled
            rates.append(rate)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.param_groups[1]["lr"] = rate * body
            logits = model(INPUTS[batch]).logits
            losses = F.cross_entropy(
                logits, TARGETS[batch], reduction="none", label_smoothing=smoothing
            )
            of_batch = torch.ones(len(batch)) if weights is None else weights[batch]
            optimizer.zero_grad()
            ((losses * of_batch).sum() / of_batch.sum()).backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] = scheduled
            done += 1
            if scheduler is not None:
                scheduler.step()
            if decay is not None:
                kept = min(decay, (1 + done) / (10 + done))
                for name, value in model.state_dict().items():
                    average[name] = kept * average[name] + (1 - kept) * value
    return average if decay is not None else dict(model.state_dict()), rates


def of_sgd(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda groups: torch.optim.SGD(groups, lr=lr, momentum=0.9)


def of_adam(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda groups: torch.optim.Adam(groups, lr=lr)


COSINE = cosine(EPOCHS)


@pytest.mark.parametrize("clock", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("settings", "of_plain", "weights"),
    [
        ({"label_smoothing": 0.2}, {"smoothing": 0.2}, None),
        ({"label_smoothing": 0.2}, {"smoothing": 0.2, "weights": WEIGHTS}, WEIGHTS),
        ({"clip": 0.1}, {"clip": 0.1}, None),
        ({"ema": 0.9}, {"decay": 0.9}, None),
        ({"ema": 0.2}, {"decay": 0.2}, None),
        ({"warmup": 2}, {"warm": 2}, None),
        ({"warmup": 1.5}, {"warm": 1.5}, None),
        ({"body_lr_factor": 0.1}, {"body": 0.1}, None),
        ({"body_lr_factor": 0.0}, {"body": 0.0}, None),
        ({"micro_batch_size": 2}, {}, None),
        ({"micro_batch_size": 1}, {"weights": WEIGHTS}, WEIGHTS),
        (
            {"class_weights": "balanced"},
            {"weights": torch.tensor([COUNT / (3 * n) for n in (12, 7, 3)])[TARGETS]},
            None,
        ),
        (
            {"class_weights": "balanced"},
            {"weights": (WEIGHTS.sum() / (3 * TARGETS.bincount(WEIGHTS)))[TARGETS] * WEIGHTS},
            WEIGHTS,
        ),
        (
            {"schedule_by": "step", "scheduler": COSINE},
            {"schedule": lambda optimizer: CosineAnnealingLR(optimizer, EPOCHS * STEPS)},
            None,
        ),
        (
            {
                "schedule_by": "step",
                "scheduler": COSINE,
                "warmup": 2,
                "body_lr_factor": 0.3,
                "clip": 0.2,
                "ema": 0.8,
                "micro_batch_size": 3,
                "label_smoothing": 0.1,
            },
            {
                "schedule": lambda optimizer: CosineAnnealingLR(optimizer, EPOCHS * STEPS),
                "warm": 2,
                "body": 0.3,
                "clip": 0.2,
                "decay": 0.8,
                "smoothing": 0.1,
                "weights": WEIGHTS,
            },
            WEIGHTS,
        ),
    ],
)
def test_fit_equals_a_plain_loop(
    settings: dict[str, Any], of_plain: dict[str, Any], weights: Tensor | None, clock: str
) -> None:
    ours, theirs = (sgd(0.05), of_sgd(0.05)) if clock == "sgd" else (adam(0.01), of_adam(0.01))
    expected, rates = plain(make=theirs, **of_plain)
    model = network()
    fitted = Trainer(EPOCHS, SIZE, ours, **settings).fit(
        model, samples(weights), TASK, FitContext()
    )
    assert fitted.steps == len(rates) == EPOCHS * STEPS
    last = rates[STEPS - 1 :: STEPS]
    assert [row["lr"] for row in fitted.history] == pytest.approx(last)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (step(2, 0.3), lambda optimizer: StepLR(optimizer, 2 * STEPS, 0.3)),
        (milestones([3, 1], 0.5), lambda optimizer: MultiStepLR(optimizer, [15, 5], 0.5)),
        (cosine(4, 0.1), lambda optimizer: CosineAnnealingLR(optimizer, 4 * STEPS, 0.1)),
    ],
)
def test_schedules_by_step_are_torchs_own_of_as_many_steps(make: Any, reference: Any) -> None:
    _, rates = plain(make=of_sgd(1.0), schedule=reference)
    used: list[float] = []

    class Noting(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            used.append(self.param_groups[0]["lr"])
            super().step()

    trainer = Trainer(EPOCHS, SIZE, lambda ps: Noting(ps, lr=1.0), make, schedule_by="step")
    trainer.fit(network(), samples(), TASK, FitContext())
    assert used == pytest.approx(rates)


def test_body_and_head_have_their_rates_at_every_step() -> None:
    used: list[list[float]] = []

    class Noting(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            used.append([group["lr"] for group in self.param_groups])
            super().step()

    trainer = Trainer(
        2, 11, lambda ps: Noting(ps, lr=1.0), step(1, 0.5), warmup=2, body_lr_factor=0.1
    )
    trainer.fit(network(), samples(), TASK, FitContext())
    heads = [0.25, 0.5, 0.5 * 0.75, 0.5]
    assert [rate for pair in used for rate in pair] == pytest.approx(
        [rate for head in heads for rate in (head, 0.1 * head)]
    )


class _Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).tanh()


class _Tower(nn.Module):
    """Blocks that repeat, something before and behind them, and a head, which stands first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(4))
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.Sequential(_Part(), _Part(), _Part())
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.stem(x * self.scale))))
        return logits


LEVELS = {"head": 0, "norm": 1, "blocks.2": 1, "blocks.1": 2, "blocks.0": 3, "stem": 4, "scale": 4}


@pytest.mark.parametrize("frozen", [(), ("stem", "blocks.0")])
@pytest.mark.parametrize("body", [1.0, 0.8])
def test_every_block_goes_on_slower_than_what_is_above_it(
    body: float, frozen: tuple[str, ...]
) -> None:
    model = _Tower()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen or "-"))
    before = copy.deepcopy(model)
    trainer = Trainer(
        1, COUNT, sgd(1.0, momentum=0.0), warmup=1, body_lr_factor=body, layer_lr_decay=0.5
    )
    trainer.fit(model, samples(), TASK, FitContext())
    F.cross_entropy(before(INPUTS), TARGETS).backward()  # type: ignore[no-untyped-call]
    moved = dict(model.named_parameters())
    for name, parameter in before.named_parameters():
        level = next(n for part, n in LEVELS.items() if name.startswith(part))
        rate = 0.5**level * (body if level else 1.0)
        step = torch.zeros(()) if parameter.grad is None else rate * parameter.grad
        assert (parameter.grad is None) == name.startswith(frozen or "-")
        torch.testing.assert_close(moved[name], parameter - step, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(7, None, [7]), (7, 7, [7]), (7, 9, [7]), (7, 3, [3, 4]), (8, 3, [3, 3, 2]), (3, 1, [1] * 3)],
)
def test_parts_make_up_a_batch(count: int, size: int | None, sizes: list[int]) -> None:
    whole = list(range(count))
    parts = [whole[part] for part in parts_of(count, size)]
    assert [len(part) for part in parts] == sizes
    assert [place for part in parts for place in part] == whole


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 2, 2], [3, 3, 1], [0, 0]])
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    classes = np.unique(labels)
    found_by = compute_class_weight("balanced", classes=classes, y=labels)
    of_class = dict(zip(classes.tolist(), found_by, strict=True))
    found = balanced(torch.tensor(labels))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([of_class[label] for label in labels])
    assert found.mean().item() == pytest.approx(1)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 2, 2], [3, 3, 1], [0, 0]])
def test_with_weights_the_classes_count_alike_by_weight(labels: list[int]) -> None:
    weights = torch.linspace(0.2, 3, len(labels))
    whole = balanced(torch.tensor(labels), weights) * weights
    found = torch.tensor(labels).bincount(whole)
    torch.testing.assert_close(
        found[found > 0], whole.sum() / (found > 0).sum() * found.sign()[found > 0]
    )
    assert float(whole.sum()) == pytest.approx(float(weights.sum()))
    torch.testing.assert_close(
        balanced(torch.tensor(labels), torch.full((len(labels),), 0.3)),
        balanced(torch.tensor(labels)),
    )


def test_with_weights_each_label_counts_as_much_where_it_holds_as_where_not() -> None:
    targets, weights = F.one_hot(TARGETS, 3), WEIGHTS.unsqueeze(1)
    whole = balanced(targets, WEIGHTS) * weights
    torch.testing.assert_close((whole * targets).sum(0), (whole * (1 - targets)).sum(0))
    everywhere = torch.ones(4, 2, dtype=torch.int64)
    assert balanced(everywhere, WEIGHTS[:4]).tolist() == [[1, 1]] * 4


@pytest.mark.parametrize("task", [TASK, Multilabel(3)])
def test_measured_and_validated_losses_are_without_smoothing(task: Any) -> None:
    targets = TARGETS if task is TASK else F.one_hot(TARGETS, 3)
    rule = EarlyStopping("train/loss", patience=None)
    trainer = Trainer(3, 8, early_stopping=rule, label_smoothing=0.3)
    model = network()
    fitted = trainer.fit(model, Samples(INPUTS.__getitem__, targets), task, FitContext())
    with torch.no_grad():
        loss = task.loss(model.eval()(INPUTS).logits, targets)
    assert float(loss) == pytest.approx(fitted.best_value, rel=1e-6)


class _Normed(nn.Module):
    """Convolution, BatchNorm, dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.4), nn.Flatten()
        )
        self.head = nn.Linear(144, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(x))
        return logits


IMAGES = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(3))
OF_IMAGES = torch.arange(24) % 3
EVERYTHING: dict[str, Any] = {
    "augment": Augment(shift=0.2, brightness=0.3, erase=0.5),
    "ema": 0.8,
    "clip": 0.5,
    "micro_batch_size": 3,
    "warmup": 1.5,
    "schedule_by": "step",
    "body_lr_factor": 0.5,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
}


class _EndedError(Exception):
    """The process would end here."""


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return dict(torch.load(buffer, weights_only=True))


def ended_at(look: int, resume: dict[str, Any] | None = None) -> FitContext:
    """A context in which a signal comes before the look for one of that number."""
    looks: Iterator[int] = iter(range(10**6))

    def end(save: Callable[[], dict[str, Any]]) -> None:
        raise _EndedError(saved_and_loaded(save()))

    return FitContext(seed=4, pending=lambda: next(looks) >= look, on_signal=end, resume=resume)


@pytest.mark.parametrize("settings", [EVERYTHING, *({k: v} for k, v in EVERYTHING.items())])
@pytest.mark.parametrize("rule", [EarlyStopping("train/loss", patience=None), None])
def test_fit_ended_between_any_two_batches_goes_on_to_the_same_bits(
    settings: dict[str, Any], rule: EarlyStopping | None
) -> None:
    """Also where the signal comes while the averaged weights are measured."""
    trainer = Trainer(2, 5, adam(0.01), cosine(2), rule, **settings)
    data = Samples(IMAGES.__getitem__, OF_IMAGES)
    torch.manual_seed(1)
    start = _Normed()
    whole = copy.deepcopy(start)
    expected = trainer.fit(whole, data, TASK, FitContext(seed=4))
    assert expected.steps == 10
    model, ends, resume, look = copy.deepcopy(start), 0, None, 3
    while True:
        try:
            found = trainer.fit(model, data, TASK, ended_at(look, resume))
            break
        except _EndedError as end:
            resume, ends, look = end.args[0], ends + 1, 1
            assert ends < 100
            model = _Normed()
    assert ends >= 7
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
    assert (found.history, found.best_value) == (expected.history, expected.best_value)


@pytest.mark.parametrize("name", ["ema", "augment"])
def test_fit_resumed_after_any_epoch_gives_the_same_bits(name: str) -> None:
    trainer = Trainer(3, 8, adam(0.01), **{name: EVERYTHING[name]})
    data, states = Samples(IMAGES.__getitem__, OF_IMAGES), []
    torch.manual_seed(1)
    whole = _Normed()

    def note(state: FitState, save: Callable[[], dict[str, Any]]) -> None:
        states.append(saved_and_loaded(save()))

    trainer.fit(whole, data, TASK, FitContext(on_epoch=note))
    for state in states:
        model = _Normed()
        trainer.fit(model, data, TASK, FitContext(resume=state))
        for key, value in model.state_dict().items():
            assert torch.equal(value, whole.state_dict()[key]), key


def test_averaged_weights_are_validated_kept_and_used_while_training_goes_on_with_its_own() -> None:
    seen: list[Tensor] = []
    model, bare = network(), network()

    def evaluate() -> dict[str, float]:
        seen.append(model.head.weight.detach().clone())  # type: ignore[union-attr, operator]
        return {"loss": [3.0, 1.0, 2.0, 2.0][len(seen) - 1]}

    lives: list[Tensor] = []
    rule = EarlyStopping("val/loss", patience=None)
    context = FitContext(
        evaluate=evaluate,
        on_epoch=lambda state, save: lives.append(save()["model"]["head.weight"]),
    )
    trainer = Trainer(EPOCHS, SIZE, sgd(0.05), early_stopping=rule, ema=0.9)
    trainer.fit(model, samples(), TASK, context)
    Trainer(EPOCHS, SIZE, sgd(0.05)).fit(bare, samples(), TASK, FitContext())
    assert torch.equal(model.head.weight, seen[1])  # type: ignore[union-attr, arg-type]
    assert torch.equal(bare.head.weight, lives[-1])  # type: ignore[union-attr, arg-type]
    assert not torch.equal(seen[-1], lives[-1])


def test_statistics_of_batch_norm_are_averaged_and_counters_are_not() -> None:
    torch.manual_seed(1)
    model = _Normed()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    bare = copy.deepcopy(model)
    data = Samples(IMAGES.__getitem__, OF_IMAGES)
    Trainer(1, 24, ema=0.9).fit(model, data, TASK, FitContext())
    Trainer(1, 24).fit(bare, data, TASK, FitContext())
    kept = 2 / 11  # after one step
    for name, value in model.state_dict().items():
        live = bare.state_dict()[name]
        if name.endswith("num_batches_tracked"):
            assert int(value) == int(live) == 1
        else:
            torch.testing.assert_close(value, kept * start[name] + (1 - kept) * live)


def test_parts_of_a_batch_are_augmented_as_the_whole_is() -> None:
    found = []
    for size in (None, 3):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        trainer = Trainer(3, 8, augment=Augment(flip=True, shift=0.3), micro_batch_size=size)
        trainer.fit(model, Samples(IMAGES.__getitem__, OF_IMAGES), TASK, FitContext())
        found.append(model[1].weight.detach())
    torch.testing.assert_close(*found)


def test_augmentation_changes_steps_alone_and_draws_anew_for_seed_round_epoch_and_step() -> None:
    class Seeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            (trained if self.training else measured).append(x.clone())
            logits: Tensor = self.head(x.flatten(1))
            return logits

    def seen(**context: int) -> list[Tensor]:
        trained.clear()
        rule = EarlyStopping("train/loss", patience=None)
        trainer = Trainer(2, 6, early_stopping=rule, augment=Augment(brightness=0.9))
        trainer.fit(Seeing(), data, TASK, FitContext(**context))
        return list(trained)

    trained: list[Tensor] = []
    measured: list[Tensor] = []
    data = Samples(torch.ones(12, 1, 8, 8).__getitem__, OF_IMAGES[:12])
    first = seen()
    assert all(torch.equal(batch, torch.ones(12, 1, 8, 8)) for batch in measured)
    levels = torch.cat([batch[:, 0, 0, 0] for batch in first])
    assert len(levels.unique()) == len(levels) == 24
    assert all(torch.equal(a, b) for a, b in zip(first, seen(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, seen(seed=1), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, seen(round=1), strict=True))


@pytest.mark.parametrize(
    ("settings", "data", "task", "fact"),
    [
        ({"augment": Augment(flip=True)}, samples(), TASK, r"\(4,\).*trainer/augment=none"),
        (
            {"augment": Augment(flip=True)},
            Samples(lambda batch: {"ids": INPUTS[batch]}, TARGETS),
            TASK,
            r"ids.*trainer/augment=none",
        ),
        (
            {"class_weights": "balanced"},
            Samples(INPUTS.__getitem__, F.one_hot(TARGETS, 3)),
            Multilabel(3),
            "several labels each; set trainer.class_weights=none, or choose trainer=lbfgs",
        ),
    ],
)
def test_settings_that_do_not_fit_the_samples_are_refused(
    settings: dict[str, Any], data: Samples, task: Any, fact: str
) -> None:
    with pytest.raises(TypeError, match=fact):
        Trainer(**settings).fit(network(), data, task, FitContext())


def test_network_without_head_has_no_body() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"Sequential has no linear layer named head"):
        Trainer(body_lr_factor=0.1).fit(model, samples(), TASK, FitContext())
    with pytest.raises(ValueError, match=r"layer_lr_decay=0\.9 .* no linear layer named head"):
        Trainer(layer_lr_decay=0.9).fit(model, samples(), TASK, FitContext())


def test_network_that_repeats_nothing_has_no_blocks_with_rates_of_their_own() -> None:
    with pytest.raises(ValueError, match=r"MLP repeats none; set trainer\.layer_lr_decay=1"):
        Trainer(layer_lr_decay=0.9).fit(network(), samples(), TASK, FitContext())


def test_parts_of_one_sample_are_refused_under_batch_norm() -> None:
    data = Samples(IMAGES.__getitem__, OF_IMAGES)
    with pytest.raises(ValueError, match=r"micro_batch_size=1.*BatchNorm.*give 2 or more"):
        Trainer(micro_batch_size=1).fit(_Normed(), data, TASK, FitContext())


@pytest.mark.parametrize(
    ("settings", "error", "fact"),
    [
        ({"label_smoothing": 1.0}, ValueError, "trainer.label_smoothing=1.0"),
        ({"label_smoothing": "much"}, TypeError, "trainer.label_smoothing='much'"),
        ({"clip": 0}, ValueError, "trainer.clip=0; give a positive number"),
        ({"ema": 1.0}, ValueError, "trainer.ema=1.0; give .* below 1"),
        ({"micro_batch_size": 0}, ValueError, "trainer.micro_batch_size=0"),
        ({"warmup": -1}, ValueError, "trainer.warmup=-1"),
        ({"epochs": 3, "warmup": 3.5}, ValueError, "warmup=3.5 is longer .* trainer.epochs=3, wh"),
        ({"warmup": 1e300}, ValueError, r"trainer.warmup=1e\+300 is longer than a fit"),
        ({"schedule_by": "batch"}, ValueError, "choose epoch or step"),
        ({"body_lr_factor": -0.1}, ValueError, "trainer.body_lr_factor=-0.1"),
        ({"layer_lr_decay": -0.1}, ValueError, "trainer.layer_lr_decay=-0.1"),
        ({"class_weights": "equal"}, ValueError, "choose none or balanced"),
        ({"augment": "light"}, TypeError, "trainer/augment=light"),
        (
            {"schedule_by": "step", "scheduler": lambda optimizer: StepLR(optimizer, 1)},
            TypeError,
            "takes the number of steps.*set trainer.schedule_by=epoch",
        ),
    ],
)
def test_trainer_refuses_settings_out_of_range(
    settings: dict[str, Any], error: type[Exception], fact: str
) -> None:
    with pytest.raises(error, match=fact):
        Trainer(**settings)
