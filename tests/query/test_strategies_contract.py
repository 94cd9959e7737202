"""What every strategy in ``conf/strategy`` must keep to; a new YAML file is tested unasked."""

from __future__ import annotations

import copy
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from dal.data.source import Source, Split
from dal.learners import Dropout, RoundContext, TorchLearner
from dal.models import MLP, LeNet5
from dal.query import (
    Decision,
    History,
    LookAhead,
    Members,
    Need,
    PoolView,
    Probs,
    Query,
    Random,
    ScoreStrategy,
    Strategy,
)
from dal.query.needs import AnswersSoFar, Labels, of_candidates
from dal.task import task_of
from dal.train_set import TrainSet
from dal.training.trainer import Trainer
from dal.utils.build import build, find

FOLDER = Path(__file__).parents[2] / "conf" / "strategy"
FILES = sorted(FOLDER.glob("*.yaml"))


def read(name: str) -> dict[str, Any]:
    """The settings of an option, its defaults (``/strategy@score: entropy``) put in their place."""
    own = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    settings: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        for place, option in entry.items() if isinstance(entry, dict) else []:
            *path, last = place.partition("@")[2].split(".")
            inner = settings
            for key in path:
                inner = inner.setdefault(key, {})
            inner[last] = read(option)
    for key, value in own.items():
        settings[key] = settings[key] | value if key in settings else value
    return settings


SETTINGS = {path.stem: read(path.stem) for path in FILES}
TOTAL = 60
CANDIDATES = torch.arange(TOTAL)[torch.arange(TOTAL) % 4 != 1]
"""45 candidates; the others are labeled, or rejected as none of the classes."""
LABELED = torch.arange(TOTAL)[torch.arange(TOTAL) % 4 == 1][4:]
REJECTED = torch.arange(TOTAL)[torch.arange(TOTAL) % 4 == 1][:4]


def make_source(shape: tuple[int, ...], classes: int, multilabel: bool) -> Source:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(TOTAL, *shape, generator=rng)
    targets = torch.arange(TOTAL) % classes
    if multilabel:
        targets = torch.stack([targets, torch.arange(TOTAL) // classes % classes], 1)
        targets = torch.nn.functional.one_hot(targets, classes).amax(1)
    split = Split.of(inputs, targets)
    return Source("tiny", split, split, None, tuple(f"class {c}" for c in range(classes)))


def make_learner(kind: str, classes: int) -> TorchLearner:
    shape = (1, 28, 28) if kind == "lenet5" else (6,)

    def model(shape: tuple[int, ...], classes: int) -> nn.Module:
        return LeNet5(shape, classes) if kind == "lenet5" else MLP(shape, classes, [16], 0.5)

    source = make_source(shape, classes, kind == "multilabel")
    return TorchLearner(
        model,
        Trainer(),
        source,
        task_of(source.train.targets, classes),
        Dropout(4),
        seed=1,
        device=torch.device("cpu"),
    )


LEARNERS = {
    f"{kind}-{classes}": make_learner(kind, classes)
    for kind, classes in [("mlp", 2), ("mlp", 3), ("lenet5", 3), ("multilabel", 3)]
}


def small_learner(strategy: Strategy) -> TorchLearner:
    """A small one of a task that the strategy is meant for."""
    return LEARNERS["mlp-3" if "multiclass" in strategy.tasks else "multilabel-3"]


@pytest.fixture(params=list(SETTINGS))
def strategy(request: pytest.FixtureRequest) -> Strategy:
    built: Strategy = build(SETTINGS[request.param])
    return built


@pytest.fixture(params=list(LEARNERS))
def learner(request: pytest.FixtureRequest, strategy: Strategy) -> TorchLearner:
    learner = LEARNERS[request.param]
    if learner.task.kind not in strategy.tasks:
        pytest.skip(f"not meant for {learner.task.kind} targets")
    return learner


def scan(learner: TorchLearner, strategy: Strategy, indices: Tensor) -> PoolView:
    """What the loop shows a strategy; where the learner or history cannot answer, made up."""
    answered = frozenset(need for need in strategy.needs if type(need) in learner.capabilities)
    targets = learner.source.train.targets[LABELED]
    train_set = TrainSet(LABELED, targets, torch.ones(len(LABELED)))
    context = RoundContext(rejected=REJECTED)
    view = learner.scan(indices, answered, context, train_set)
    rng = torch.Generator().manual_seed(7)
    logits = torch.randn(4, TOTAL, view.num_classes, generator=rng)
    probs = torch.stack([learner.task.probs(member) for member in logits])
    for need in strategy.needs - answered:
        if isinstance(need, History):
            older = probs[: need.rounds - 1, indices]
            newest = learner.scan(indices, frozenset({Probs()}), RoundContext())[Probs()]
            value = torch.cat([older, newest.unsqueeze(0)])
        elif isinstance(need, Members):
            value = probs[:, indices]
        elif isinstance(need, Decision):
            value = logits[0, indices, : 1 if view.num_classes == 2 else None]
        elif need == Labels():
            value = targets
        elif need == AnswersSoFar():
            rows = torch.arange(len(LABELED))
            value = torch.stack([rows, LABELED, rows % 3, targets], 1)
        else:
            assert isinstance(need, LookAhead)
            value = logits[0, indices].exp()
        view = view.with_result(need, value)
    return view


def select(
    learner: TorchLearner, strategy: Strategy, indices: Tensor, query_size: int, seed: int = 0
) -> Query:
    view = scan(learner, strategy, indices)
    return strategy.select(view, query_size, torch.Generator().manual_seed(seed))


def test_every_setting_file_is_found() -> None:
    assert {"random", "entropy", "instability", "multilabel_margin"} <= set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_name_every_parameter_of_the_constructor(name: str) -> None:
    target = find(SETTINGS[name]["_target_"])
    parameters = inspect.signature(target).parameters
    assert list(parameters) == [key for key in SETTINGS[name] if key != "_target_"]
    assert issubclass(target, Strategy)  # type: ignore[arg-type]
    assert len(str(target.__doc__)) > 40


@pytest.mark.parametrize("query_size", [1, 7, len(CANDIDATES)])
def test_query_is_distinct_candidates_with_scores(
    learner: TorchLearner, strategy: Strategy, query_size: int
) -> None:
    query = select(learner, strategy, CANDIDATES, query_size)
    assert query.indices.dtype == torch.int64
    again = query.indices[:0] if query.again is None else query.again
    assert query.indices.shape == query.scores.shape == (query_size - len(again),)
    assert len(query.indices.unique()) == len(query.indices)
    assert len(again.unique()) == len(again)
    assert bool(torch.isin(again, LABELED).all())
    assert bool(torch.isin(query.indices, CANDIDATES).all())
    assert bool(torch.isfinite(query.scores).all())


def test_scores_are_those_of_the_candidates_highest_first(
    learner: TorchLearner, strategy: Strategy
) -> None:
    query = select(learner, strategy, CANDIDATES, 7)
    if not isinstance(strategy, ScoreStrategy):
        pytest.skip("scores no candidate alone")
    assert query.pool_scores is not None
    assert query.pool_scores.shape == CANDIDATES.shape
    assert torch.equal(query.scores, query.pool_scores.sort(descending=True).values[:7])
    position = torch.searchsorted(CANDIDATES, query.indices)
    assert torch.equal(query.scores, query.pool_scores[position])
    assert isinstance(query.info["tied"], int)


def test_same_seed_same_query(learner: TorchLearner, strategy: Strategy) -> None:
    first, second = (select(learner, strategy, CANDIDATES, 7, seed=3) for _ in range(2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.scores, second.scores)


def test_query_does_not_depend_on_the_order_of_the_pool(
    learner: TorchLearner, strategy: Strategy
) -> None:
    want = select(learner, strategy, CANDIDATES, 7)
    for seed in range(3):
        order = torch.randperm(len(CANDIDATES), generator=torch.Generator().manual_seed(seed))
        got = select(learner, strategy, CANDIDATES[order], 7)
        assert torch.equal(got.indices, want.indices)
        assert torch.equal(got.scores, want.scores)


def test_ties_do_not_depend_on_the_order_of_the_pool(strategy: Strategy) -> None:
    learner = copy.copy(small_learner(strategy))
    learner.model = copy.deepcopy(learner.model)
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.zero_()
    want = select(learner, strategy, CANDIDATES, 7)
    order = torch.randperm(len(CANDIDATES), generator=torch.Generator().manual_seed(0))
    assert torch.equal(select(learner, strategy, CANDIDATES[order], 7).indices, want.indices)


def test_query_does_not_depend_on_candidates_not_chosen(
    learner: TorchLearner, strategy: Strategy
) -> None:
    independent = isinstance(strategy, ScoreStrategy) and strategy.independent
    if not (independent or isinstance(strategy, Random)):
        pytest.skip("looks at candidates together")
    want = select(learner, strategy, CANDIDATES, 7)
    rest = CANDIDATES[~torch.isin(CANDIDATES, want.indices)]
    got = select(learner, strategy, torch.cat([rest[::3].flip(0), want.indices.sort().values]), 7)
    assert torch.equal(got.indices, want.indices)


def test_model_and_random_state_are_left_alone(learner: TorchLearner, strategy: Strategy) -> None:
    modules = list(learner.model.modules())
    modules[-1].eval()
    modes = [module.training for module in modules]
    weights = copy.deepcopy(learner.model.state_dict())
    torch.manual_seed(11)
    state = torch.get_rng_state()
    select(learner, strategy, CANDIDATES, 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in modules] == modes
    assert all(p.grad is None and p.requires_grad for p in learner.model.parameters())
    after = learner.model.state_dict()
    assert all(torch.equal(after[key], weights[key]) for key in weights)


def test_view_is_not_modified(learner: TorchLearner, strategy: Strategy) -> None:
    view = scan(learner, strategy, CANDIDATES)
    indices = view.indices.clone()
    results = {need: view[need].clone() for need in strategy.needs}
    strategy.select(view, 7, torch.Generator().manual_seed(0))
    assert torch.equal(view.indices, indices)
    assert all(torch.equal(view[need], results[need]) for need in results)


def test_one_item_left_is_taken(learner: TorchLearner, strategy: Strategy) -> None:
    query = select(learner, strategy, torch.tensor([42]), 1)
    assert query.indices.tolist() == [42] or (query.again is not None and len(query.again) == 1)


@pytest.mark.parametrize("query_size", [0, -1, 5])
def test_query_size_out_of_range_is_refused(strategy: Strategy, query_size: int) -> None:
    with pytest.raises(ValueError, match=rf"query_size={query_size} but 4 "):
        select(small_learner(strategy), strategy, CANDIDATES[:4], query_size)


def test_first_sample_that_is_not_finite_is_named(strategy: Strategy) -> None:
    if not strategy.current(len(LABELED)).needs:
        pytest.skip("needs nothing")
    whole = scan(small_learner(strategy), strategy, CANDIDATES)
    for need in filter(of_candidates, strategy.needs):
        value = whole[need].clone()
        value.transpose(0, -2)[30:] = torch.nan
        sample = int(CANDIDATES[30])
        message = rf"{type(strategy).__name__} .* sample {sample}( with nan|;)"
        with pytest.raises(ValueError, match=message):
            strategy.select(whole.with_result(need, value), 1, torch.Generator())


def test_same_score_for_all_is_warned_about(
    strategy: Strategy, caplog: pytest.LogCaptureFixture
) -> None:
    if not isinstance(strategy, ScoreStrategy):
        pytest.skip("scores no candidate alone")
    view = scan(small_learner(strategy), strategy, CANDIDATES)
    for need in strategy.needs:
        value = view[need]
        if of_candidates(need):
            value = value.transpose(0, -2)[:1].expand_as(value.transpose(0, -2)).transpose(0, -2)
        view = view.with_result(need, value)
    query = strategy.select(view, 7, torch.Generator().manual_seed(0))
    assert "the query is random" in caplog.text
    assert query.info["tied"] == len(CANDIDATES)


@pytest.mark.parametrize("learner", LEARNERS.values())
def test_views_tell_whether_a_sample_has_several_labels(learner: TorchLearner) -> None:
    view = learner.scan(CANDIDATES, frozenset({Probs()}), RoundContext())
    for one in (view, view.part(torch.tensor([3, 1])), view.with_result(Labels(), CANDIDATES)):
        assert one.multilabel == (learner.task.kind == "multilabel")


def test_needs_must_be_listed(strategy: Strategy) -> None:
    if not strategy.needs:
        pytest.skip("needs nothing")
    view = PoolView(CANDIDATES, {}, num_total=TOTAL, num_classes=3)
    with pytest.raises(KeyError, match="needs"):
        strategy.select(view, 1, torch.Generator())


def test_state_survives_a_round(learner: TorchLearner, strategy: Strategy) -> None:
    select(learner, strategy, CANDIDATES, 3)
    twin = copy.deepcopy(strategy)
    twin.load_state_dict(strategy.state_dict())
    want = select(learner, strategy, CANDIDATES, 7)
    assert torch.equal(select(learner, twin, CANDIDATES, 7).indices, want.indices)
    with pytest.raises((ValueError, KeyError), match="other"):
        strategy.load_state_dict({"other": 1})


def test_global_seeds_do_not_decide(strategy: Strategy) -> None:
    learner = small_learner(strategy)
    queries: list[Tensor] = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            queries.append(select(learner, strategy, CANDIDATES, 7).indices)
    assert torch.equal(*queries)


def test_table_in_the_docs_has_every_strategy_with_its_needs() -> None:
    text = (FOLDER.parents[1] / "docs" / "strategies.md").read_text(encoding="utf-8")
    lines = text.partition("## Committees")[0].splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    table = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}
    assert all(len(cells) == 6 and all(cells) for cells in table.values())
    needs = {
        name: ", ".join(sorted(in_words(need) for need in build(settings).needs)) or "none"
        for name, settings in SETTINGS.items()
    }
    assert {name: cells[1] for name, cells in table.items()} == needs


def in_words(need: Need) -> str:
    """A need's name, with the settings that are not its defaults."""
    values = [getattr(need, f.name) for f in fields(need) if getattr(need, f.name) != f.default]
    return type(need).__name__ + (f"({', '.join(map(str, values))})" if values else "")
