from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor

import dal
from dal.cli.config import compose
from dal.data import digits, initial_labels, iris, make_source, two_gaussians
from dal.learners import Dropout, EstimatorLearner, RoundContext, TorchLearner, make_learner
from dal.models import MLP, estimators
from dal.models.estimators.families import KINDS
from dal.models.estimators.fitted import FLOOR, Fitted, fit_estimator
from dal.query import (
    Decision,
    Entropy,
    ExpectedGradientLength,
    Features,
    GradNorms,
    Instability,
    Margin,
    Members,
    Probs,
)
from dal.runs.from_config import execute
from dal.task import Multiclass, Multilabel
from dal.train_set import TrainSet
from dal.training.augment import Augment
from dal.training.trainer import Trainer

IRIS = make_source(iris(), seed=0)
GAUSSIANS = make_source(two_gaussians(80), seed=0)
MODELS: dict[str, Callable[..., Any]] = {
    **KINDS,
    "random_forest": partial(estimators.random_forest, n_estimators=10),
    "bagging": estimators.bagging,
    "bagging_svm": partial(estimators.bagging, kind="svm", size=5, votes="hard"),
    "sklearn_committee": estimators.sklearn_committee,
}
COMMITTEES = ["random_forest", "bagging", "bagging_svm", "sklearn_committee"]


def learner(model: str | Callable[..., Any] = "svm", source: Any = IRIS) -> EstimatorLearner:
    make_model = MODELS[model] if isinstance(model, str) else model
    return EstimatorLearner(make_model, source, Multiclass(source.num_classes), seed=3)


def labels(classes: str, source: Any = IRIS, count: int = 4) -> TrainSet:
    """Some samples of some classes, e.g. ``02``, in a mixed order."""
    targets = source.train.targets
    each = [(targets == int(c)).nonzero().squeeze(1)[:count] for c in classes]
    indices = torch.cat(each).sort(descending=True).values
    return TrainSet(indices, targets[indices], torch.ones(len(indices)))


def fitted(model: str | Callable[..., Any], classes: str, source: Any = IRIS) -> EstimatorLearner:
    one = learner(model, source)
    one.fit(labels(classes, source), RoundContext(2))
    return one


def scan(one: EstimatorLearner, need: Any, count: int = 40) -> Tensor:
    return one.scan(torch.arange(count), frozenset({need}), RoundContext())[need]


@pytest.mark.parametrize("classes", ["012", "02", "21", "1"])
@pytest.mark.parametrize("model", MODELS)
def test_probabilities_have_a_column_for_every_class(model: str, classes: str) -> None:
    one = fitted(model, classes)
    probs = scan(one, Probs())
    assert probs.shape == (40, 3)
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs.sum(1), torch.ones(40))
    missing = [c for c in range(3) if str(c) not in classes]
    assert bool((probs[:, missing] == 0).all())
    logits = one.predict(IRIS.train, RoundContext())
    assert logits.shape == (len(IRIS.train), 3)
    assert bool(torch.isfinite(logits).all())
    torch.testing.assert_close(logits[:40].softmax(1), probs, rtol=1e-5, atol=10 * FLOOR)
    if model not in ("passive_aggressive", "svm"):  # ties of the first, few labels for the second
        known = one._train_set
        assert known is not None
        right = logits[known.indices].argmax(1) == known.targets
        assert right.double().mean() > 0.8


@pytest.mark.parametrize("model", [m for m in MODELS if m not in COMMITTEES])
def test_probabilities_are_those_of_scikit_learn(model: str) -> None:
    one = fitted(model, "012")
    known = labels("012")
    inputs = IRIS.train.take(torch.arange(len(IRIS.train))).double().numpy()
    reference = one.template.set_params(
        **{
            name: value
            for name, value in one._model.estimator.get_params().items()
            if name == "random_state"
        }
    ).fit(inputs[known.indices], known.targets.numpy())
    if hasattr(reference, "predict_proba"):
        expected = reference.predict_proba(inputs[:40])
    else:
        values = torch.from_numpy(reference.decision_function(inputs[:40]))
        expected = values.softmax(1).numpy()
    np.testing.assert_allclose(scan(one, Probs()).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_two_classes_without_probabilities_get_the_sigmoid_of_the_distance() -> None:
    one = fitted("svm", "01", GAUSSIANS)
    distance = scan(one, Decision())
    assert distance.shape == (40, 1)
    torch.testing.assert_close(scan(one, Probs())[:, 1:], distance.sigmoid())
    targets = GAUSSIANS.train.targets[:40]
    assert ((distance.squeeze(1) > 0) == (targets == 1)).double().mean() > 0.8


@pytest.mark.parametrize(
    ("classes", "seen"), [("012", [0, 1, 2]), ("02", [0, 2]), ("12", [1, 2]), ("0", [0])]
)
def test_decision_has_a_column_for_every_class(classes: str, seen: list[int]) -> None:
    one = fitted("linear_svm", classes)
    values = scan(one, Decision())
    assert values.shape == (40, 3)
    if len(seen) == 1:
        assert bool((values == 0).all())
        return
    raw = one._model.estimator.decision_function(IRIS.train.take(torch.arange(40)).double().numpy())
    expected = np.stack([-raw, raw], 1) if raw.ndim == 1 else raw
    np.testing.assert_allclose(values[:, seen].numpy(), expected, rtol=1e-6)
    assert bool((values.min(1).values == values[:, seen].min(1).values).all())


class Shuffled(BaseEstimator):  # type: ignore[misc]
    """Puts its columns in another order than that of the classes."""

    def fit(self, inputs: Any, targets: Any) -> Shuffled:
        self.inner_ = KNeighborsClassifier(1).fit(inputs, targets)
        self.classes_ = self.inner_.classes_[::-1]
        return self

    def predict_proba(self, inputs: Any) -> Any:
        return self.inner_.predict_proba(inputs)[:, ::-1]

    def decision_function(self, inputs: Any) -> Any:
        probs = self.predict_proba(inputs)
        return probs[:, 1] - probs[:, 0] if len(self.classes_) == 2 else probs


@pytest.mark.parametrize("classes", ["012", "02"])
@pytest.mark.parametrize("need", [Probs(), Decision()])
def test_columns_in_another_order_than_the_classes_are_put_right(classes: str, need: Any) -> None:
    one = fitted(lambda shape, count: Shuffled(), classes)
    known = labels(classes)
    values = one.scan(known.indices, frozenset({need}), RoundContext())[need]
    assert torch.equal(values.argmax(1), known.targets)


def test_columns_of_two_classes_in_another_order_keep_the_sign() -> None:
    one = fitted(lambda shape, count: Shuffled(), "01", GAUSSIANS)
    known = labels("01", GAUSSIANS)
    values = one.scan(known.indices, frozenset({Decision()}), RoundContext())[Decision()]
    assert torch.equal(values.squeeze(1) > 0, known.targets == 1)


@pytest.mark.parametrize("model", COMMITTEES)
@pytest.mark.parametrize("classes", ["012", "12", "1"])
def test_members_have_all_columns_and_their_mean_is_the_prediction(
    model: str, classes: str
) -> None:
    one = fitted(model, classes)
    members = scan(one, Members())
    size = {"sklearn_committee": 8, "bagging_svm": 5}.get(model, 10)
    assert members.shape == (size, 40, 3)
    torch.testing.assert_close(members.sum(-1), torch.ones(size, 40))
    torch.testing.assert_close(members.mean(0), scan(one, Probs()))
    missing = [c for c in range(3) if str(c) not in classes]
    assert bool((members[..., missing] == 0).all())
    if len(classes) > 1:
        assert len(members.unique(dim=0)) > 1


def test_bootstraps_that_miss_classes_keep_the_columns() -> None:
    make_model = partial(estimators.bagging, kind="naive_bayes", size=40)
    one = learner(make_model)
    few = labels("012", count=1)
    one.fit(few, RoundContext())
    sets = [tuple(member.classes) for member in one._model.estimator.fitted_]
    assert {len(classes) for classes in sets} == {1, 2, 3}
    members = scan(one, Members())
    for member, classes in zip(members, sets, strict=True):
        assert set(member.argmax(1).tolist()) <= set(classes)
        assert bool((member[:, [c for c in range(3) if c not in classes]] == 0).all())


def test_members_that_are_all_the_same_are_refused() -> None:
    twins = partial(estimators.sklearn_committee, kinds=["svm", "svm"])
    with pytest.raises(ValueError, match=r"all 2 members .* give members that differ"):
        scan(fitted(twins, "012"), Members())
    scan(fitted(twins, "0"), Members())  # nobody could differ yet


def test_hard_votes_are_shares_of_the_members() -> None:
    make_model = partial(
        estimators.sklearn_committee, kinds=["svm", "knn", "naive_bayes", "svm"], votes="hard"
    )
    one = fitted(make_model, "012")
    members = scan(one, Members())
    assert set(members.unique().tolist()) == {0.0, 1.0}
    soft = fitted(partial(make_model, votes="soft"), "012")
    assert torch.equal(members.argmax(-1), scan(soft, Members()).argmax(-1))
    assert set(scan(one, Probs()).unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}


@pytest.mark.parametrize("model", MODELS)
def test_state_holds_labels_alone_and_loading_fits_again_to_the_same_bits(model: str) -> None:
    one = fitted(model, "012")
    state = one.state_dict()
    assert set(state) == {"batch_size", "round", "indices", "targets", "weights"}
    twin = learner(model)
    twin.load_state_dict(state)
    assert torch.equal(scan(twin, Probs()), scan(one, Probs()))
    assert torch.equal(
        twin.predict(IRIS.test, RoundContext()), one.predict(IRIS.test, RoundContext())
    )
    if model in COMMITTEES:
        assert torch.equal(scan(twin, Members()), scan(one, Members()))


def test_chance_in_a_fit_derives_from_seed_and_round() -> None:
    probs = []
    for seed, number in [(0, 1), (0, 2), (1, 1), (0, 1)]:
        one = EstimatorLearner(MODELS["random_forest"], IRIS, Multiclass(3), seed=seed)
        np.random.seed(len(probs))
        state = np.random.get_state()[1]
        one.fit(labels("012"), RoundContext(number))
        assert np.array_equal(np.random.get_state()[1], state)
        probs.append(scan(one, Probs()))
    assert torch.equal(probs[0], probs[3])
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(probs[:3], 2))


def test_state_before_the_first_fit_is_taken_back() -> None:
    one = learner()
    one.load_state_dict(learner().state_dict())
    with pytest.raises(RuntimeError, match="SVC has not been fitted yet"):
        scan(one, Probs())


def test_features_are_the_prepared_inputs() -> None:
    source = make_source(digits(), seed=0)
    one = fitted("naive_bayes", "0123456789", source)
    indices, known = torch.tensor([5, 3, 9]), labels("012", source)
    needs = frozenset({Features(), Features("labeled")})
    view = one.scan(indices, needs, RoundContext(), known)
    torch.testing.assert_close(view[Features()], source.train.take(indices).flatten(1))
    expected = source.train.take(known.indices).flatten(1)
    torch.testing.assert_close(view[Features("labeled")], expected)


@pytest.mark.parametrize("rejected", [[8, 6], []])
def test_scan_tells_of_labeled_and_rejected_samples_too(rejected: list[int]) -> None:
    source = make_source(digits(), seed=0)
    one = fitted("naive_bayes", "0123456789", source)
    known, rows = labels("012", source), torch.tensor(rejected, dtype=torch.int64)
    needs = frozenset({Probs("labeled"), Features("rejected")})
    view = one.scan(torch.tensor([5]), needs, RoundContext(rejected=rows), known)
    expected = one.scan(known.indices, frozenset({Probs()}), RoundContext())[Probs()]
    assert torch.equal(view[Probs("labeled")], expected)
    assert torch.equal(view[Features("rejected")], source.train.take(rows).flatten(1))


def test_scan_in_small_blocks_gives_the_same() -> None:
    one = fitted("random_forest", "012")
    needs = [Probs(), Members(), Features()]
    whole = [scan(one, need) for need in needs]
    one.batch_size = 7
    checks: list[int] = []
    context = RoundContext(check=lambda: checks.append(1))
    view = one.scan(torch.arange(40), frozenset(needs), context)
    for need, expected in zip(needs, whole, strict=True):
        torch.testing.assert_close(view[need], expected)
    assert len(checks) == 18


def test_scan_without_needs_asks_no_model() -> None:
    assert len(learner().scan(torch.arange(4), frozenset(), RoundContext())) == 4


def test_fit_reports_loss_and_accuracy_and_validation() -> None:
    source = make_source(iris(), seed=0, validation=20)
    one = EstimatorLearner(MODELS["naive_bayes"], source, Multiclass(3), seed=0)
    seen: list[int] = []
    known = labels("012", source)
    context = RoundContext(on_epoch=lambda state, save: seen.append(state.epoch + len(save())))
    state = one.fit(known, context)
    assert seen == [1]
    row = state.history[state.best_epoch]
    logits = one.predict(source.train, RoundContext())[known.indices]
    assert row["train/accuracy"] == float((logits.argmax(1) == known.targets).double().mean())
    expected = torch.nn.functional.cross_entropy(logits, known.targets)
    assert row["train/loss"] == pytest.approx(float(expected))
    assert {"val/loss", "val/accuracy"} <= set(row)


def test_one_class_only_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    one = learner()
    for number in range(2):
        one.fit(labels("1"), RoundContext(number))
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "all labels so far are 'versicolor': SVC predicts it" in caplog.text
    values, _ = Multiclass(3).evaluate(one.predict(IRIS.test, RoundContext()), IRIS.test.targets)
    assert np.isfinite(values["loss"])


def test_ending_before_convergence_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    one = learner(partial(estimators.sklearn_logistic_regression, max_iter=1))
    for number in range(2):
        one.fit(labels("012"), RoundContext(number))
    assert caplog.text.count("LogisticRegression: lbfgs failed to converge") == 1


def test_fewer_labels_than_neighbors_are_all_asked() -> None:
    one = learner(partial(estimators.knn, n_neighbors=50))
    one.fit(labels("01", count=2), RoundContext())
    assert bool((scan(one, Probs())[:, :2] == 0.5).all())
    assert one.template.n_neighbors == 50


def test_weights_reach_the_fit_or_are_refused() -> None:
    even, known = fitted("naive_bayes", "012"), labels("012")
    uneven = TrainSet(known.indices, known.targets, torch.linspace(0.1, 1, len(known)))
    weighted = learner("naive_bayes")
    weighted.fit(uneven, RoundContext())
    assert not torch.allclose(scan(weighted, Probs()), scan(even, Probs()))
    inputs = IRIS.train.take(known.indices).double().numpy()
    expected = estimators.naive_bayes((4,), 3).fit(
        inputs, known.targets.numpy(), uneven.weights.double().numpy()
    )
    np.testing.assert_allclose(
        weighted._model.probs(inputs), expected.predict_proba(inputs), rtol=1e-6
    )
    with pytest.raises(ValueError, match="Neighbors cannot weigh its samples"):
        learner("knn").fit(uneven, RoundContext())


def test_no_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="no labeled samples"):
        learner().fit(labels("0", count=0), RoundContext())


@pytest.mark.parametrize(
    ("model", "strategy", "need", "reason"),
    [
        ("svm", ExpectedGradientLength(), None, "SVC has no gradients; choose a network"),
        ("svm", None, Members(), "SVC is no committee; choose model=sklearn_committee"),
        ("naive_bayes", None, Decision(), "GaussianNB has no decision function; choose model=svm"),
        ("sklearn_committee", None, Decision(), "EstimatorCommittee has no decision function"),
        ("random_forest", None, GradNorms("input"), "Forest has no gradients"),
    ],
)
def test_needs_it_cannot_answer_are_refused_with_the_reason(
    model: str, strategy: Any, need: Any, reason: str
) -> None:
    needs = strategy.needs if strategy else frozenset({need})
    with pytest.raises(TypeError, match=rf"Wanted needs .*, and {reason}"):
        learner(model).check_needs(needs, "Wanted")
    learner(model).check_needs(frozenset({Probs(), Features(), Features("labeled")}), "Wanted")


def test_targets_of_several_labels_are_refused() -> None:
    with pytest.raises(TypeError, match="take multiclass targets, and those of iris are multil"):
        EstimatorLearner(MODELS["svm"], IRIS, Multilabel(3), seed=0)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (estimators.svm, EstimatorLearner),
        (partial(estimators.knn, n_neighbors=1), EstimatorLearner),
        (lambda shape, classes: SVC(), EstimatorLearner),
        (MLP, TorchLearner),
        (partial(MLP, hidden=[3]), TorchLearner),
        (lambda shape, classes: MLP(shape, classes), TorchLearner),
    ],
)
def test_learner_is_chosen_by_what_the_model_function_builds(model: Any, kind: type) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made = make_learner(
        model, Trainer(), IRIS, Multiclass(3), Dropout(), seed=0, device=torch.device("cpu")
    )
    assert type(made) is kind
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_of_the_trainer_that_mean_nothing_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for model, trainer, told in (
        (estimators.svm, Trainer(epochs=3), ""),
        (MLP, Trainer(ema=0.9), ""),
        (
            estimators.svm,
            Trainer(ema=0.9, augment=Augment(flip=True)),
            "augment, trainer.ema plays",
        ),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            make_learner(
                model, trainer, IRIS, Multiclass(3), Dropout(), seed=0, device=torch.device("cpu")
            )
        assert told in caplog.text
        assert bool(told) == ("plays no part" in caplog.text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(estimators.sklearn_committee, kinds=["svm"]), "committee of 1 cannot disagree"),
        (partial(estimators.sklearn_committee, kinds=["svm", "svn"]), "no kind of classifier"),
        (partial(estimators.bagging, kind="tree"), "no kind of classifier 'tree'; choose linear"),
        (partial(estimators.bagging, size=1), r"model\.size=1.*committee of 1"),
        (partial(estimators.bagging, size=-1), r"model\.size=-1; give at least 2"),
        (partial(estimators.bagging, size=2**62), r"model\.size=46\d+: .*GiB.*ask for less"),
        (
            partial(estimators.random_forest, n_estimators=10**9),
            r"n_estimators=10+: .*ask for less",
        ),
        (partial(estimators.bagging, votes="loud"), r"model\.votes='loud'; choose soft or hard"),
    ],
)
def test_committee_settings_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make((4,), 3)


@pytest.mark.parametrize("setting", ["max_depth", "min_samples_leaf"])
def test_whole_numbers_beyond_scikit_learns_are_refused_by_name(setting: str) -> None:
    make = partial(estimators.decision_tree, **{setting: 10**19})
    with pytest.raises(ValueError, match=rf"model\.{setting}=10+; give at most 2147483647"):
        EstimatorLearner(make, IRIS, Multiclass(3), seed=0)


def run(model: Any, folder: Path | None, strategy: Any = None, budget: int = 6, **more: Any) -> Any:
    return dal.run(
        IRIS,
        model,
        strategy or Margin(),
        initial=initial_labels(IRIS.train.targets, seed=0, count=5),
        settings=dal.Settings(query_size=2, budget=budget, seed=1, threads=1, figures=False),
        run_dir=folder,
        **more,
    )


@pytest.mark.parametrize(
    ("model", "strategy"), [("svm", Margin), ("bagging", Entropy), ("random_forest", Instability)]
)
def test_resumed_run_equals_an_uninterrupted_one(
    model: str, strategy: Callable[[], Any], tmp_path: Path
) -> None:
    whole = run(MODELS[model], tmp_path / "whole", strategy())
    for budget in (2, 6):
        parts = run(MODELS[model], tmp_path / "parts", strategy(), budget)
    for name in ("queries.csv", "model.pt", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).is_file()
    assert parts.job.pool.queries() == whole.job.pool.queries()
    assert [row["test/loss"] for row in parts.rows] == [row["test/loss"] for row in whole.rows]
    assert len(whole.rows) == 4


@pytest.mark.parametrize("model", MODELS)
def test_loaded_model_predicts_as_the_learner_and_nothing_is_pickled(
    model: str, tmp_path: Path
) -> None:
    # A setting called weights must reach an estimator, though it is left out for networks.
    make = partial(MODELS[model], weights="distance") if model == "knn" else MODELS[model]
    one = fitted(make, "02")
    one.export(tmp_path)
    predictor = dal.load(tmp_path)
    raw = IRIS.test.inputs
    expected = one.predict(IRIS.test, RoundContext()).softmax(1)
    assert torch.equal(predictor.predict_proba(raw.numpy()), expected)
    names = [IRIS.class_names[c] for c in expected.argmax(1).tolist()]
    assert predictor.predict(raw) == names


def test_loaded_images_are_prepared_as_in_training(tmp_path: Path) -> None:
    source = make_source(digits(size=16), seed=0)
    one = fitted("naive_bayes", "0123456789", source)
    one.export(tmp_path)
    predictor = dal.load(tmp_path)
    expected = one.predict(source.test, RoundContext()).softmax(1)[:9]
    torch.testing.assert_close(predictor.predict_proba(source.test.inputs[:9]), expected)
    assert (tmp_path / "model.pt").stat().st_size < 20_000


def test_estimator_without_a_name_must_be_passed(tmp_path: Path) -> None:
    one = fitted(lambda shape, classes: SVC(C=2.0), "012")
    one.export(tmp_path)
    with pytest.raises(ValueError, match="pass it as model="):
        dal.load(tmp_path)
    predictor = dal.load(tmp_path, model=SVC(C=2.0))
    expected = one.predict(IRIS.test, RoundContext()).softmax(1)
    assert torch.equal(predictor.predict_proba(IRIS.test.inputs), expected)


def test_tutorial_of_pool_based_sampling_improves_on_its_few_labels() -> None:
    result = run(partial(estimators.knn, n_neighbors=3), None, budget=20)
    assert result.rows[-1]["test/accuracy"] > 0.85 > result.rows[0]["test/accuracy"]


def test_preset_iris_demo_runs_from_five_labels_in_ten_rounds_of_one(tmp_path: Path) -> None:
    settings = compose(Path(__file__).parents[2] / "conf", ["experiment=iris_demo"])
    config: Any = OmegaConf.to_container(settings, resolve=True)
    result = execute(config, tmp_path)
    assert [row["labels"] for row in result.rows] == list(range(5, 16))
    assert result.rows[-1]["test/accuracy"] > 0.9 > result.rows[0]["test/accuracy"]
    assert (tmp_path / "curve.png").stat().st_size > 1000
    predictor = dal.load(tmp_path)
    assert predictor.predict_proba(load_iris().data).shape == (150, 3)
    GlobalHydra.instance().clear()


def test_estimators_own_data_are_left_alone() -> None:
    inputs = np.ascontiguousarray(load_iris().data)
    inputs.setflags(write=False)
    targets = load_iris().target
    for make in MODELS.values():
        model = fit_estimator(make((4,), 3), inputs, targets, None, 3, 0)
        assert isinstance(model, Fitted)
        assert (model.probs(inputs).argmax(1) == targets).mean() > 0.8
