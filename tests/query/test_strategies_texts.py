"""Every strategy in ``conf/strategy`` on texts by each model of texts: chooses, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_strategies_contract import SETTINGS
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.source import Source
from dal.data.splits import make_source
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.ngrams import NGrams
from dal.data.texts.stores import TextStore
from dal.data.texts.word_ids import WordIds
from dal.learners import Dropout, Ensemble, RoundContext, TorchLearner, make_learner
from dal.learners.committees import Committee
from dal.lockstep.passes import stacked_scan
from dal.models import EmbeddingBag, LogisticRegression, TextTransformer
from dal.query import (
    Badge,
    CoreSet,
    Decision,
    Features,
    LookAhead,
    Members,
    Need,
    PoolView,
    Probs,
    ScoreStrategy,
)
from dal.query.base import Strategy
from dal.query.needs import Scores
from dal.runs.parts import Parts, Standing
from dal.training.trainer import Trainer
from dal.utils.build import build

TOPICS = [["cat", "purrs"], ["rain", "falls"], ["band", "plays"]]
SAID = torch.arange(40) % 3
TEXTS = [
    *(" ".join([*TOPICS[topic], f"word{n % 7}"]) for n, topic in enumerate(SAID.tolist())),
    "",
    "unheard",
]
"""The last two have no terms: one is empty, and a word of one text alone is none."""
LABELED = torch.tensor([0, 1, 2, 5, 40])
CANDIDATES = torch.tensor([n for n in range(42) if n not in {0, 1, 2, 5, 40}])
CPU = torch.device("cpu")


def make_texts(multilabel: bool, encoder: TextEncoder | None = None) -> Source:
    targets = torch.cat([SAID, torch.tensor([0, 1])])
    if multilabel:
        targets = torch.nn.functional.one_hot(targets, 3)
        targets[::4, 2] = 1
    names = ("animal", "weather", "music")
    dataset = Dataset("texts", TextStore(TEXTS), targets, names, encoder=encoder or NGrams(1))
    return make_source(dataset, seed=0, kind="none")


def logistic(input_shape: Any, num_classes: int, vocab_size: int) -> LogisticRegression:
    return LogisticRegression(input_shape, num_classes, vocab_size)


def learner_of(source: Source, committee: Committee, needs: frozenset[Need]) -> Any:
    return make_learner(
        logistic, Trainer(), source, source.task, committee, needs=needs, seed=0, device=CPU
    )


def bag(input_shape: Any, num_classes: int, vocab_size: int) -> EmbeddingBag:
    return EmbeddingBag(input_shape, num_classes, vocab_size, width=8)


def transformer(input_shape: Any, num_classes: int, vocab_size: int) -> TextTransformer:
    return TextTransformer(input_shape, num_classes, vocab_size, width=8, layers=1, heads=2)


MODELS: dict[str, tuple[Any, TextEncoder, Committee]] = {
    "logistic_regression": (logistic, NGrams(1), Ensemble(3, bootstrap=True)),
    "embedding_bag": (bag, WordIds(8), Dropout(3)),
    "text_transformer": (transformer, WordIds(12), Dropout(3)),
}


def parts_of(strategy: Strategy, multilabel: bool, name: str = "logistic_regression") -> Parts:
    model, encoder, committee = MODELS[name]
    source = make_texts(multilabel, encoder)
    learner = make_learner(
        model,
        Trainer(epochs=2),
        source,
        source.task,
        committee,
        needs=strategy.needs,
        seed=0,
        device=CPU,
    )
    return Parts(source, learner, strategy, LABELED, committee)


def refusal(strategy: Strategy, multilabel: bool, model: str) -> str:
    """What is said of a strategy that does not go together with a task or a model; else empty."""
    kind = "multilabel" if multilabel else "multiclass"
    if kind not in strategy.tasks:
        return f"targets, and those of .* are {kind}"
    if Decision() in strategy.needs:
        return "Decision"
    looks_ahead = any(isinstance(need, LookAhead) for need in strategy.needs)
    return "looks ahead" if looks_ahead and model == "logistic_regression" else ""


@pytest.mark.parametrize("multilabel", [False, True], ids=["classes", "labels"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", SETTINGS)
def test_strategy_chooses_from_texts_or_is_refused_by_name(
    name: str, model: str, multilabel: bool
) -> None:
    strategy: Strategy = build(SETTINGS[name])
    refused = refusal(strategy, multilabel, model)
    if refused:
        with pytest.raises(TypeError, match=rf"^{type(strategy).__name__}.*{refused}.*$") as error:
            parts_of(strategy, multilabel, model)
        assert "\n" not in str(error.value)
        return
    parts = parts_of(strategy, multilabel, model)
    standing = Standing.at_start(parts)
    context = RoundContext(rejected=torch.tensor([3, 41]))
    parts.learner.fit(standing.pool.train_set(), context)
    view = parts.learner.scan(
        CANDIDATES, parts.scan_needs(strategy), context, standing.pool.train_set()
    )
    if parts.remembered != 0:
        standing.history.append(0, CANDIDATES, view[Probs()])
        view = standing.with_history(view, parts.from_history(strategy))
    query = strategy.select(
        standing.with_labels(view, strategy.needs), 6, torch.Generator().manual_seed(0)
    )
    again = query.indices[:0] if query.again is None else query.again
    assert len(query.indices.unique()) + len(again.unique()) == 6
    assert bool(torch.isin(query.indices, CANDIDATES).all())
    assert bool(torch.isfinite(query.scores).all())


def fitted(multilabel: bool = True) -> TorchLearner:
    learner: TorchLearner = learner_of(make_texts(multilabel), Ensemble(3), frozenset())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return learner


def scan(learner: Any, needs: frozenset[Need]) -> PoolView:
    source = learner.source
    train_set = Parts(source, learner, CoreSet(), LABELED).pool().train_set()
    view: PoolView = learner.scan(CANDIDATES, needs, RoundContext(), train_set)
    return view


def test_features_are_the_rows_of_the_embedding_of_candidates_and_labeled_samples() -> None:
    strategy = CoreSet()
    parts = parts_of(strategy, multilabel=True)
    train_set = Standing.at_start(parts).pool.train_set()
    view = parts.learner.scan(CANDIDATES, parts.scan_needs(strategy), RoundContext(), train_set)
    embedding = parts.source.embedding
    assert torch.equal(view[Features()], embedding[CANDIDATES])
    assert torch.equal(view[Features("labeled")], embedding[LABELED])
    assert embedding[40:].abs().max() == 0
    assert view.multilabel


def test_probabilities_are_those_of_the_network_beside_them() -> None:
    learner = fitted()
    both = learner.scan(CANDIDATES, Badge.needs, RoundContext())
    alone = learner.scan(CANDIDATES, frozenset({Probs()}), RoundContext())
    assert torch.equal(both[Probs()], alone[Probs()])
    assert Features() in both
    assert Features() not in alone


class NearTheFirst(ScoreStrategy):
    """A score of each candidate by itself, of its features and probabilities."""

    needs = frozenset({Features(), Probs()})
    tasks = frozenset({"multiclass", "multilabel"})

    def score(self, view: PoolView) -> Tensor:
        return view[Features()][:, 0] + view[Probs()][:, 0]


def test_scores_by_features_are_made_where_a_pass_cannot_make_them() -> None:
    learner, strategy = fitted(), NearTheFirst()
    assert strategy.fits_blocks
    view = learner.scan(CANDIDATES, frozenset({Scores(strategy)}), RoundContext())
    want = learner.scan(CANDIDATES, strategy.needs, RoundContext())
    assert torch.equal(strategy.checked_scores(view), strategy.score(want))


def test_runs_in_lockstep_get_the_same_features() -> None:
    learners = [fitted(), fitted()]
    indices = [CANDIDATES[:9], CANDIDATES[9:18]]
    for needs in (Badge.needs, frozenset({Features()})):
        found = stacked_scan(learners, indices, needs, lambda: None)
        for learner, own, results in zip(learners, indices, found, strict=True):
            view = learner.scan(own, needs, RoundContext())
            assert set(results) == needs
            for need in needs:
                torch.testing.assert_close(results[need], view[need])


def test_members_of_an_ensemble_stand_beside_the_features() -> None:
    needs: frozenset[Need] = frozenset({Features(), Members()})
    source = make_texts(multilabel=True)
    learner = learner_of(source, Ensemble(3, bootstrap=True), needs)
    view = learner.scan(CANDIDATES, needs, RoundContext())
    assert torch.equal(view[Features()], source.embedding[CANDIDATES])
    assert view[Members()].shape == (3, len(CANDIDATES), 3)


class Bare(torch.nn.Module):
    """Logits alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x)
        return logits


def test_where_neither_network_nor_data_have_features_the_network_is_named() -> None:
    split = make_texts(multilabel=False).train
    rows = torch.randn(len(split), 2, generator=torch.Generator().manual_seed(0))
    dataset = Dataset("rows", rows, split.targets, ("a", "b", "c"))
    source = make_source(dataset, seed=0, kind="none")
    learner = TorchLearner(Bare(), Trainer(), source, source.task, seed=0, device=CPU)
    with pytest.raises(TypeError, match=r"CoreSet needs Features.*Bare returns logits only"):
        learner.check_needs(CoreSet.needs, "CoreSet")
