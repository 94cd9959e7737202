"""Modules of one's own: a class, a function or an instance, with or without features."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from torch import Tensor, nn

import dal
from dal.data import Dataset, Source, make_source
from dal.inference.probe import probe
from dal.learners import Dropout, Ensemble
from dal.models import MLP, Output
from dal.query import (
    BALD,
    CoreSet,
    Entropy,
    ExpectedErrorReduction,
    ExpectedGradientLength,
    Margin,
    Strategy,
)
from dal.training.trainer import Trainer

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(80, 6)).astype(np.float32)
TARGETS = (INPUTS[:, 0] > 0).astype(int) + (INPUTS[:, 1] > 0)
INITIAL = [0, 1, 2, 3, 4, 5, 6, 7]


class Plain(nn.Module):
    """Takes no argument, and returns logits only."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.drop, self.out = nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.drop(self.hidden(x).relu()))


class Featured(Plain):
    """The same with features, and a last layer of any name."""

    def forward(self, x: Tensor) -> Any:
        features = self.drop(self.hidden(x).relu())
        return Output(self.out(features), features)


class Sized(nn.Module):
    def __init__(self, num_classes: int, width: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


def make_plain() -> nn.Module:
    return Plain()


def source() -> Source:
    return make_source(Dataset("mine", INPUTS, TARGETS, ["a", "b", "c"]), seed=0)  # type: ignore[arg-type]


def go(
    model: Any,
    strategy: Strategy | None = None,
    restart: Any = "cold",
    run_dir: Path | None = None,
    rounds: int = 2,
    **kwargs: Any,
) -> Any:
    return dal.run(
        source(),
        model,
        strategy or Entropy(),
        initial=INITIAL,  # type: ignore[arg-type]
        trainer=Trainer(epochs=2, restart=restart),
        settings=dal.Settings(
            budget=20, query_size=4, max_rounds=rounds, device="cpu", threads=1, figures=False
        ),
        run_dir=run_dir,
        **kwargs,
    )


def facts(result: Any) -> list[Any]:
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in result.rows]


@pytest.mark.parametrize(
    "model",
    [
        Plain,
        make_plain,
        lambda: Plain(),
        lambda shape, classes: nn.Sequential(nn.Linear(*shape, classes)),
        lambda *given: nn.Linear(given[0][0], given[1]),
        Sized,
        partial(Sized, width=4),
        partial(MLP, hidden=[4]),
        nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)),
    ],
    ids=["class", "function", "lambda", "two", "any", "named", "partial", "ours", "instance"],
)
@pytest.mark.parametrize("restart", ["warm", "cold"])
def test_any_module_that_returns_logits_runs(model: Any, restart: str) -> None:
    with torch.random.fork_rng():
        first = facts(go(model, restart=restart))
        torch.rand(3)  # weights come from the run's seed, not from the global state
        again = facts(go(model, restart=restart))
    assert [row["labels"] for row in first] == [8, 12, 16]
    assert first == again


def test_an_instance_stays_as_it_is_and_cold_rounds_start_from_its_weights() -> None:
    module = Plain()
    before = copy.deepcopy(module.state_dict())
    learner = go(module).job.learner
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    for round_number in (0, 3):
        fresh = learner._fresh(round_number)
        assert all(torch.equal(v, before[name]) for name, v in fresh.state_dict().items())
    assert not torch.equal(learner.model.out.weight, before["out.weight"])


@pytest.mark.parametrize("restart", ["warm", "cold"])
def test_run_of_an_instance_resumes_exactly_though_given_other_weights(
    tmp_path: Path, restart: str
) -> None:
    module = Plain()
    whole = go(module, restart=restart, rounds=3)
    go(module, restart=restart, rounds=1, run_dir=tmp_path / "run")
    parts = go(Plain(), restart=restart, rounds=3, run_dir=tmp_path / "run")
    assert facts(whole) == facts(parts)


def test_weights_of_frozen_parts_stay() -> None:
    module = Featured()
    module.hidden.requires_grad_(False)
    learner = go(module).job.learner
    assert torch.equal(learner.model.hidden.weight, module.hidden.weight)


def test_strategies_see_the_features_that_an_output_has() -> None:
    result = go(Featured, CoreSet())
    assert len(result.rows) == 3


def test_features_of_logits_alone_are_refused_with_the_remedy() -> None:
    told = (
        r"needs \w+\(.*\) and so features, and Plain returns logits only; let its forward return "
    )
    with pytest.raises(TypeError, match=told + r"dal\.models\.Output\(logits, features\)"):
        go(Plain, CoreSet())


@pytest.mark.parametrize("strategy", [CoreSet(), ExpectedErrorReduction()])
def test_a_head_without_an_output_gives_no_features_either(strategy: Strategy) -> None:
    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Any:
            return self.head(x)

    with pytest.raises(TypeError, match="Headed returns logits only"):
        go(Headed, strategy)


@pytest.mark.parametrize("strategy", [BALD(), ExpectedGradientLength(), Margin()])
def test_dropout_and_gradients_need_no_features(strategy: Strategy) -> None:
    assert len(go(Plain, strategy, committee=Dropout(4)).rows) == 3


def test_ensemble_of_copies_is_refused_unless_their_labels_differ() -> None:
    with pytest.raises(ValueError, match="copies of one Plain start from the same weights"):
        go(Plain(), BALD(), committee=Ensemble(2))
    assert len(go(Plain(), BALD(), committee=Ensemble(2, bootstrap=True)).rows) == 3
    assert len(go(Plain, BALD(), committee=Ensemble(2)).rows) == 3


def test_function_that_builds_nothing_new_is_refused() -> None:
    module = Plain()
    with pytest.raises(ValueError, match="gives the same Plain again; let it build a new one"):
        go(lambda: module)
    with pytest.raises(ValueError, match="gives the same Plain again"):
        go(lambda: module, BALD(), committee=Ensemble(2))


class Returns(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make, self.layer = make, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.make(self.layer(x))


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda z: (z, z), TypeError, "forward of Returns returns a tuple; return logits"),
        (lambda z: {"logits": z}, TypeError, "returns a dict; return logits"),
        (lambda z: z[:, :2], ValueError, r"logits of shape \(2, 2\).*return \(2, 3\)"),
        (lambda z: z[:, 0], ValueError, r"logits of shape \(2,\)"),
        (lambda z: z @ z, ValueError, r"fails on a batch of torch.float32 of shape \(2, 6\): mat1"),
        (lambda z: Output(z, z[0]), ValueError, r"features of shape \(3,\)"),
    ],
)
def test_forward_that_returns_something_else_is_refused(
    make: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told) as caught:
        go(lambda: Returns(make))
    assert "\n" not in str(caught.value)


def test_one_logit_and_probabilities_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="for two classes 0 and z, not z alone"):
        probe(nn.Linear(6, 1), torch.zeros(2, 6))
    probe(nn.Linear(6, 3), torch.randn(2, 6))
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        probe(nn.Sequential(nn.Linear(6, 3), nn.Softmax(1)), torch.randn(2, 6))
    assert "return logits, without a softmax" in caplog.text


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (SVC(), "the model is a SVC, which builds no network; give a class, a function"),
        (lambda width, depth, bias: None, "<lambda> needs bias, depth, width, and a model is"),
        (lambda width: None, "<lambda> needs width"),
    ],
)
def test_what_builds_no_network_is_refused(model: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        go(model)


def test_lazy_instance_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="Sized has lazy layers without weights yet"):
        go(Sized(3))


@pytest.mark.parametrize("build", [make_plain, Plain, Plain()], ids=["function", "class", "module"])
def test_load_takes_the_module_or_what_builds_it(tmp_path: Path, build: Any) -> None:
    class Own(Plain):
        """Not to be found by name."""

    result = go(Own, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"a class or function of a notebook.*pass it as model="):
        dal.load(tmp_path / "run")
    probs = dal.load(tmp_path / "run", model=build).predict_proba(INPUTS)
    model = result.job.learner.model.eval()
    want = model(torch.from_numpy(INPUTS)).softmax(1)
    torch.testing.assert_close(probs, want, rtol=1e-5, atol=1e-6)


def test_load_builds_a_class_without_arguments_by_its_name(tmp_path: Path) -> None:
    go(Plain, run_dir=tmp_path / "run")
    package = Plain.__module__.partition(".")[0]
    loaded = dal.load(tmp_path / "run", allow=[package])
    assert type(loaded.model).__name__ == "Plain"
