"""Combinations of criteria against hand calculation, SciPy and NumPy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.stats import chisquare, rankdata
from torch import Tensor

from dal.cli.config import compose
from dal.query import (
    Badge,
    Density,
    Entropy,
    ExpectedGradientLength,
    Features,
    GradNorms,
    History,
    Instability,
    LeastConfidence,
    Margin,
    MultilabelMargin,
    Parallel,
    PoolView,
    Probabilistic,
    Probs,
    Random,
    ScoreStrategy,
    Serial,
    Strategy,
)
from dal.query.combination import min_max, rank_scores
from dal.utils.build import build

CONF = Path(__file__).parents[2] / "conf"

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


def view_of(probs: Tensor, features: Tensor | None = None) -> PoolView:
    features = probs if features is None else features
    return PoolView(
        torch.arange(len(probs)),
        {Probs(): probs, Features(): features},
        num_total=len(probs),
        num_classes=probs.shape[1],
    )


def random_view(count: int = 30) -> PoolView:
    rng = torch.Generator().manual_seed(0)
    return view_of(
        torch.randn(count, 3, generator=rng).softmax(1), torch.randn(count, 4, generator=rng)
    )


class Given(ScoreStrategy):
    """Scores handed in, and a state."""

    lower_bound = -torch.inf

    def __init__(self, scores: list[float]) -> None:
        self.scores = torch.tensor(scores)
        self.rounds = 0

    def score(self, view: PoolView) -> Tensor:
        return self.scores[view.indices]

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rounds = state["rounds"]


@given(SCORES)
def test_rank_scores_equal_scipy(scores: list[int]) -> None:
    got = rank_scores(torch.tensor(scores, dtype=torch.float32))
    count = len(scores)
    want = (rankdata(scores) - 1) / (count - 1) if count > 1 else [0.5]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-15)


@given(SCORES)
def test_min_max_lies_between_0_and_1(scores: list[int]) -> None:
    got = min_max(torch.tensor(scores, dtype=torch.float32))
    span = max(scores) - min(scores)
    want = [(s - min(scores)) / span if span else 0 for s in scores]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)


@pytest.mark.parametrize(
    ("combine", "want"),
    [
        # weights 3/4 and 1/4
        ("scores", [0.75 * 0 + 0.25 * 1, 0.75 * 0.1 + 0, 0.75 * 0.1 + 0.25 * 0.5, 0.75 * 1 + 0]),
        (
            "ranks",
            [
                0.75 * 0 + 0.25 * 1,
                0.75 * 0.5 + 0.25 * 0.5 / 3,
                0.75 * 0.5 + 0.25 * 2 / 3,
                0.75 * 1 + 0.25 * 0.5 / 3,
            ],
        ),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_parallel_equals_hand_calculation(combine: Any, want: list[float], factor: float) -> None:
    criteria = {"a": Given([-10.0, -9.0, -9.0, 0.0]), "b": Given([1.0, -1.0, 0.0, -1.0])}
    strategy = Parallel(criteria, {"b": factor, "a": 3 * factor}, combine)
    view = random_view(4)
    np.testing.assert_allclose(strategy.score(view).numpy(), want, rtol=1e-7)
    query = strategy.select(view, 4, torch.Generator().manual_seed(0))
    assert query.indices.tolist() == np.argsort(want)[::-1].tolist()


@pytest.mark.parametrize("combine", ["scores", "ranks"])
@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_parallel_does_not_depend_on_the_scale_of_a_score(
    combine: Any, scale: float, shift: float
) -> None:
    scores = torch.arange(30.0).remainder(7.0)
    view, weights = random_view(), {"a": 1.0, "b": 2.0}
    one = Parallel({"a": Entropy(), "b": Given(scores.tolist())}, weights, combine)
    two = Parallel(
        {"a": Entropy(), "b": Given((scores * scale + shift).tolist())}, weights, combine
    )
    torch.testing.assert_close(one.score(view), two.score(view), atol=1e-4, rtol=0)


def test_parallel_of_a_margin_and_nothing_else_ranks_like_it() -> None:
    view = random_view()
    want = Margin().select(view, 9, torch.Generator().manual_seed(0)).indices
    criteria = {"margin": Margin(), "ignored": Density()}
    strategy = Parallel(criteria, {"margin": 1.0, "ignored": 0.0})
    assert torch.equal(strategy.select(view, 9, torch.Generator().manual_seed(0)).indices, want)


def test_parallel_refuses_strategies_without_scores_and_unknown_rules() -> None:
    with pytest.raises(TypeError, match=r"Random \(b\) gives none"):
        Parallel({"a": Entropy(), "b": Random()}, {"a": 1, "b": 1})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"strategy\.combine='product'"):
        Parallel({"a": Entropy()}, {"a": 1}, "product")  # type: ignore[arg-type]


def test_parallel_is_random_while_a_criterion_has_nothing_to_score_by() -> None:
    view = random_view()
    view = view.with_result(History(2), view[Probs()].unsqueeze(0))
    strategy = Parallel({"a": Entropy(), "b": Instability(2)}, {"a": 1, "b": 1})
    assert strategy.select(view, 2, torch.Generator().manual_seed(0)).info == {"random": True}


def test_probabilistic_draws_by_weight_and_records_the_criterion() -> None:
    view, runs = random_view(), 1500
    criteria: dict[str, Strategy] = {"b": Entropy(), "a": LeastConfidence(), "never": Random()}
    strategy = Probabilistic(criteria, {"a": 2.0, "b": 6.0, "never": 0.0})
    want = {
        name: criteria[name].select(view, 3, torch.Generator().manual_seed(0)).indices.tolist()
        for name in ("a", "b")
    }
    counts: Counter[str] = Counter()
    for seed in range(runs):
        query = strategy.select(view, 3, torch.Generator().manual_seed(seed))
        name = query.info["criterion"]
        counts[name] += 1
        assert query.indices.tolist() == want[name]
    assert set(counts) == {"a", "b"}
    assert chisquare([counts["a"], counts["b"]], [runs / 4, runs * 3 / 4]).pvalue > 0.01


def test_probabilistic_leaves_an_early_round_to_the_criterion_drawn() -> None:
    view = random_view()
    view = view.with_result(History(2), view[Probs()].unsqueeze(0))
    strategy = Probabilistic({"a": Entropy(), "b": Instability(2)}, {"a": 1, "b": 1})
    infos = [strategy.select(view, 2, torch.Generator().manual_seed(s)).info for s in range(20)]
    assert {(info["criterion"], "random" in info) for info in infos} == {("a", False), ("b", True)}


@pytest.mark.parametrize("kind", [Probabilistic, Parallel])
def test_needs_are_the_union_and_tasks_the_intersection(kind: Any) -> None:
    weights = {"a": 1.0, "b": 1.0, "c": 1.0}
    strategy = kind({"a": Entropy(), "b": ExpectedGradientLength(), "c": Density()}, weights)
    assert strategy.needs == {Probs(), GradNorms("all", "all"), Features()}
    assert strategy.tasks == {"multiclass"}
    with pytest.raises(ValueError, match=r"no kind of task suits all.*multilabel"):
        kind({"a": Entropy(), "b": MultilabelMargin()}, {"a": 1.0, "b": 1.0})


@pytest.mark.parametrize("kind", [Probabilistic, Parallel])
@pytest.mark.parametrize(
    ("names", "weights", "fact"),
    [
        ("ab", {"a": 1.0}, "give every criterion a weight"),
        ("a", {"a": 1.0, "b": 1.0}, "give every criterion a weight"),
        ("", {}, "give every criterion a weight"),
        ("ab", {"a": 1.0, "b": -1.0}, "must be >= 0"),
        ("ab", {"a": 0.0, "b": 0.0}, "not all 0"),
        ("a", {"a": float("nan")}, "not all 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    kind: Any, names: str, weights: dict[str, float], fact: str
) -> None:
    with pytest.raises(ValueError, match=fact):
        kind({name: Entropy() for name in names}, weights)


@pytest.mark.parametrize("kind", [Probabilistic, Parallel])
def test_states_are_kept_by_name(kind: Any) -> None:
    make = [kind({"a": Given([0.0]), "b": Entropy()}, {"a": 1, "b": 1}) for _ in range(2)]
    make[0].criteria["a"].rounds = 3
    assert make[0].state_dict() == {"a": {"rounds": 3}}
    make[1].load_state_dict(make[0].state_dict())
    assert make[1].criteria["a"].rounds == 3


def test_combinations_are_built_from_nested_settings() -> None:
    entropy = {"_target_": "dal.query.Entropy"}
    inner = {"_target_": "dal.query.Serial", "score": entropy, "factor": 2}
    outer = {
        "_target_": "dal.query.Probabilistic",
        "criteria": {"one": inner, "two": entropy},
        "weights": {"one": 1, "two": 1},
    }
    strategy = build(outer)
    assert isinstance(strategy.criteria["one"], Serial)
    assert strategy.select(random_view(), 4, torch.Generator().manual_seed(0)).indices.shape == (4,)


@pytest.mark.parametrize(
    ("overrides", "place", "target"),
    [
        (["strategy=serial", "strategy@strategy.score=margin"], "score", "Margin"),
        (
            ["strategy=parallel", "strategy@strategy.criteria.second=margin"],
            "criteria.second",
            "Margin",
        ),
        (
            ["strategy=probabilistic", "+strategy@strategy.criteria.third=random"],
            "criteria.third",
            "Random",
        ),
        (
            ["strategy=serial", "strategy@strategy.score=density_weighted"],
            "score.score",
            "Entropy",
        ),
    ],
)
def test_parts_can_be_swapped_on_the_command_line(
    overrides: list[str], place: str, target: str
) -> None:
    config = compose(CONF, overrides)
    assert OmegaConf.select(config, f"strategy.{place}._target_") == f"dal.query.{target}"


def test_serial_queries_the_center_of_each_blob_of_informative_candidates() -> None:
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0], [100, 0], [0, 100], [100, 100]])
    blobs = np.concatenate([center + rng.normal(size=(5, 2)) for center in centers])
    others = rng.normal(size=(30, 2)) * 100
    features = torch.tensor(np.concatenate([blobs, others]), dtype=torch.float32)
    scores = torch.cat(
        [1 + torch.rand(20, generator=torch.Generator().manual_seed(0)), torch.zeros(30)]
    )
    view = view_of(torch.full((50, 2), 0.5), features)
    rows = features.double().numpy()
    want = set()
    for blob in range(4):
        part = np.arange(5 * blob, 5 * blob + 5)
        to_mean = ((rows[part] - rows[part].mean(0)) ** 2).sum(1)
        want.add(int(part[to_mean.argmin()]))
    strategy = Serial(Given(scores.tolist()), 5)
    for seed in range(5):
        query = strategy.select(view, 4, torch.Generator().manual_seed(seed))
        assert set(query.indices.tolist()) == want
        assert torch.equal(query.scores, scores[query.indices].sort(descending=True).values)
        assert query.info == {"kept": 20, "clusters": 4}


def test_serial_with_factor_1_takes_the_highest_scores() -> None:
    view = random_view()
    want = Entropy().select(view, 6, torch.Generator().manual_seed(0))
    got = Serial(Entropy(), 1).select(view, 6, torch.Generator().manual_seed(0))
    assert torch.equal(got.indices, want.indices)


def test_serial_gives_turns_of_empty_clusters_to_the_highest_scores() -> None:
    features = torch.cat([torch.zeros(6, 2), torch.ones(2, 2), torch.full((4, 2), 9.0)])
    scores = torch.arange(12.0, 0.0, -1.0)
    view = view_of(torch.full((12, 2), 0.5), features)
    query = Serial(Given(scores.tolist()), 2).select(view, 4, torch.Generator().manual_seed(0))
    chosen = query.indices.tolist()  # among the first 8: one of each place, then the highest
    assert len(set(chosen)) == 4
    assert max(chosen) in (6, 7)
    assert {0, 1} <= set(chosen)
    assert query.info["clusters"] == 2


def test_serial_keeps_only_the_most_informative() -> None:
    view = random_view()
    best = set(Entropy().select(view, 12, torch.Generator().manual_seed(0)).indices.tolist())
    query = Serial(Entropy(), 3).select(view, 4, torch.Generator().manual_seed(1))
    assert set(query.indices.tolist()) <= best


def test_serial_refuses_what_it_cannot_filter_by() -> None:
    with pytest.raises(TypeError, match="Badge scores no single candidates"):
        Serial(Badge())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"strategy\.factor=0\.5"):
        Serial(Entropy(), 0.5)


def test_serial_passes_state_and_readiness_through() -> None:
    strategy = Serial(Given([0.0]))
    strategy.load_state_dict({"rounds": 4})
    assert strategy.state_dict() == {"rounds": 4}
    view = random_view()
    view = view.with_result(History(2), view[Probs()].unsqueeze(0))
    query = Serial(Instability(2)).select(view, 2, torch.Generator().manual_seed(0))
    assert query.info == {"random": True}


def test_serial_keeps_all_where_the_factor_is_huge() -> None:
    query = Serial(Entropy(), 1e308).select(random_view(), 4, torch.Generator().manual_seed(0))
    assert query.info["kept"] == len(random_view())


@pytest.mark.parametrize("kind", [Parallel, Probabilistic])
def test_criteria_that_are_no_strategies_are_refused(kind: type[Parallel]) -> None:
    with pytest.raises(TypeError, match=r"first='entropy' is no strategy; set it by strategy@"):
        kind({"first": "entropy"}, {"first": 1.0})  # type: ignore[dict-item]
