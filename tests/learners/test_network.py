import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dal.data import make_source, two_gaussians
from dal.data.store import ArrayStore
from dal.learners import Dropout, RoundContext, TorchLearner, make_learner
from dal.models import MLP
from dal.query import Decision, Features, GradNorms, Probs
from dal.task import Multiclass
from dal.train_set import TrainSet
from dal.training.early_stopping import EarlyStopping
from dal.training.trainer import Trainer

SOURCE = make_source(two_gaussians(90), seed=0, validation=9)


def learner(make_model: Any = MLP, seed: int = 0, **trainer: Any) -> TorchLearner:
    return TorchLearner(
        make_model,
        Trainer(**{"epochs": 3, **trainer}),
        SOURCE,
        Multiclass(2),
        seed=seed,
        device=torch.device("cpu"),
    )


def train_set(count: int = 12) -> TrainSet:
    return TrainSet(torch.arange(count), SOURCE.train.targets[:count], torch.ones(count))


def weights(of: TorchLearner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


def test_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), weights(learner())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights(learner()), first)
    assert not torch.equal(weights(learner(seed=1)), first)


def test_warm_restart_goes_on_from_the_best_weights() -> None:
    whole = learner()
    whole.fit(train_set(), RoundContext(0))
    before = weights(whole)
    starts: list[Tensor] = []
    whole.trainer.optimizer = lambda parameters: (
        starts.append(weights(whole)) or torch.optim.SGD(parameters, lr=0.1)  # type: ignore[func-returns-value]
    )
    whole.fit(train_set(), RoundContext(1))
    assert torch.equal(starts[0], before)


def test_cold_restart_starts_afresh_in_every_round_but_not_when_resuming() -> None:
    kept: list[dict[str, Any]] = []
    once, twice = learner(restart="cold"), learner(restart="cold")
    once.fit(train_set(), RoundContext(1))
    twice.fit(train_set(6), RoundContext(0))
    twice.fit(train_set(), RoundContext(1, on_epoch=lambda state, save: kept.append(save())))
    assert torch.equal(weights(once), weights(twice))
    other = learner(restart="cold")
    other.fit(train_set(), RoundContext(2))
    assert not torch.equal(weights(other), weights(once))
    model = once.model
    once.fit(train_set(), RoundContext(1, resume=kept[-1]))
    assert once.model is model


def test_fresh_rounds_differ_from_round_to_round() -> None:
    cold = learner(restart="cold")
    starts = [weights(cold)]
    for number in (1, 2):
        cold.model = cold._fresh(number)
        starts.append(weights(cold))
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])


def test_validation_metrics_are_logged_and_monitored() -> None:
    rule = EarlyStopping("val/accuracy", "max")
    fitted = learner(early_stopping=rule).fit(train_set(), RoundContext())
    row = fitted.history[0]
    assert {"val/loss", "val/accuracy", "val/ece", "val/macro_f1"} <= set(row)
    assert fitted.best_value == max(row["val/accuracy"] for row in fitted.history)


def test_monitoring_validation_without_a_split_is_refused_at_once() -> None:
    trainer = Trainer(early_stopping=EarlyStopping("val/loss"))
    source = make_source(two_gaussians(30), seed=0)
    with pytest.raises(ValueError, match=r"validation split is empty; set split\.validation"):
        TorchLearner(MLP, trainer, source, Multiclass(2), seed=0, device=torch.device("cpu"))


def test_weights_of_the_labels_reach_the_loss() -> None:
    plain, weighted = learner(), learner()
    uneven = TrainSet(train_set().indices, train_set().targets, torch.linspace(0, 1, 12))
    plain.fit(train_set(), RoundContext())
    weighted.fit(uneven, RoundContext())
    assert not torch.allclose(weights(plain), weights(weighted))


def test_scan_gives_what_was_asked_of_the_candidates() -> None:
    one = learner(partial(MLP, hidden=(5,)))
    indices = torch.tensor([7, 3, 11])
    view = one.scan(indices, frozenset({Probs(), Features()}), RoundContext())
    one.model.eval()
    output = one.model(SOURCE.train.take(indices))
    torch.testing.assert_close(view[Probs()], output.logits.softmax(1))
    torch.testing.assert_close(view[Features()], output.features)


def test_scan_without_needs_runs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner()
    monkeypatch.setattr(one, "model", None)
    view = one.scan(torch.arange(4), frozenset(), RoundContext())
    assert len(view) == 4


def test_predict_gives_a_logit_row_for_every_sample_in_order() -> None:
    one = learner()
    logits = one.predict(SOURCE.test, RoundContext())
    one.model.eval()
    expected = one.model(SOURCE.test.take(torch.arange(len(SOURCE.test)))).logits
    torch.testing.assert_close(logits, expected)


def test_needs_the_model_cannot_answer_are_refused() -> None:
    one = learner(lambda shape, classes: nn.Linear(shape[0], classes))
    one.check_needs(frozenset({Probs(), GradNorms("all")}), "Any")
    with pytest.raises(TypeError, match=r"Any needs Features.*choose another"):
        one.check_needs(frozenset({Features()}), "Any")
    with pytest.raises(TypeError, match=r"choose model=svm or model=linear_svm"):
        one.check_needs(frozenset({Decision()}), "Any")


def test_state_round_trip_restores_weights_and_batch_size() -> None:
    trained, other = learner(), learner(seed=1)
    trained.fit(train_set(), RoundContext())
    trained.batch_size = 17
    other.load_state_dict(trained.state_dict())
    assert torch.equal(weights(other), weights(trained))
    assert other.numerics() == trained.numerics()
    assert other.numerics()["batch_size"] == 17


def test_batches_asked_for_beyond_the_pool_are_no_larger_than_those_that_are_chosen() -> None:
    def asking(size: int | None) -> TorchLearner:
        make: Any = learner().make_model
        task, cpu = Multiclass(2), torch.device("cpu")
        return TorchLearner(make, Trainer(), SOURCE, task, seed=0, device=cpu, batch_size=size)

    chosen, huge = asking(None), asking(10**19)
    assert huge.numerics() == chosen.numerics()
    huge.load_state_dict(asking(16).state_dict())
    assert huge.numerics() == chosen.numerics()
    huge.scan(torch.arange(40), frozenset({Probs()}), RoundContext(0))


def test_a_model_function_builds_once_for_the_first_round() -> None:
    """Networks may be large: what is built to learn the kind of model is what is trained."""
    built: list[nn.Module] = []

    def make(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        built.append(MLP(input_shape, num_classes))
        return built[-1]

    where: dict[str, Any] = {"seed": 0, "device": torch.device("cpu")}
    made = make_learner(make, Trainer(), SOURCE, SOURCE.task, Dropout(), **where)
    assert isinstance(made, TorchLearner)
    assert built == [made.model]
    alone = TorchLearner(make, Trainer(), SOURCE, SOURCE.task, **where)
    for one, other in zip(made.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(one, other)


class Announced(ArrayStore):
    """Keeps the batches that are read without having been announced as the next ones."""

    def __init__(self, inputs: Any) -> None:
        super().__init__(inputs)
        self.coming: list[list[int]] = []
        self.surprises: list[list[int]] = []
        self.read_as_announced = 0

    def expect(self, batches: Iterable[Tensor]) -> None:
        self.coming = [batch.tolist() for batch in batches]

    def read(self, rows: Tensor, device: torch.device | str = "cpu") -> Any:
        if self.coming[:1] == [rows.tolist()]:
            self.coming.pop(0)
            self.read_as_announced += 1
        else:
            self.surprises.append(rows.tolist())
        return super().read(rows, device)


def test_the_store_is_told_which_batches_come_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dal.training.fit.RESIDENT_LIMIT", 0)
    data = two_gaussians(90)
    assert isinstance(data.inputs, Tensor)
    store = Announced(data.inputs)
    source = make_source(dataclasses.replace(data, inputs=store), seed=0, validation=9)
    trainer = Trainer(epochs=2, batch_size=5, early_stopping=EarlyStopping("train/loss"))
    one = TorchLearner(
        MLP, trainer, source, Multiclass(2), seed=0, device=torch.device("cpu"), batch_size=32
    )
    store.surprises.clear()
    one.fit(train_set(), RoundContext())
    one.scan(torch.arange(40), frozenset({Probs()}), RoundContext())
    one.predict(source.test, RoundContext())
    assert store.surprises == [source.train.rows[:1].tolist()]  # how large a sample is
    assert store.read_as_announced == 2 * (3 + 1 + 1) + 2 + 1
    assert not store.coming


def test_scan_tells_of_labeled_and_rejected_samples_too() -> None:
    one = learner(partial(MLP, hidden=(5,)))
    rejected = torch.tensor([30, 4, 17])
    needs = frozenset({Probs(), Probs("labeled"), Features("labeled"), Features("rejected")})
    view = one.scan(torch.tensor([7]), needs, RoundContext(rejected=rejected), train_set())
    one.model.eval()
    of_labeled, of_rejected = (
        one.model(SOURCE.train.take(rows)) for rows in (train_set().indices, rejected)
    )
    torch.testing.assert_close(view[Probs("labeled")], of_labeled.logits.softmax(1))
    torch.testing.assert_close(view[Features("labeled")], of_labeled.features)
    torch.testing.assert_close(view[Features("rejected")], of_rejected.features)
    assert len(view[Probs()]) == 1


def test_where_nothing_is_rejected_there_are_no_rows_of_it() -> None:
    one = learner(partial(MLP, hidden=(5,)))
    view = one.scan(torch.arange(3), frozenset({Features("rejected")}), RoundContext())
    assert view[Features("rejected")].shape == (0, 5)
