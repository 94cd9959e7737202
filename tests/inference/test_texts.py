"""Promises about texts of many lengths in one pass: a text's bits are its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import token_texts
import torch
from torch import Tensor

from dal.data.source import Source, Split
from dal.data.texts.stores import RaggedStore
from dal.learners import Dropout, RoundContext, TorchLearner
from dal.models import EmbeddingBag, TextTransformer
from dal.query import Features, GradNorms, Members, Probs
from dal.query.needs import Need
from dal.training.trainer import Trainer

NEEDS: frozenset[Need] = frozenset({Features(), Members(), Probs()})
POOL = torch.arange(60)
CPU = torch.device("cpu")


@pytest.fixture(params=[EmbeddingBag, TextTransformer], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def make_learner(kind: Any, source: Source) -> TorchLearner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(source.input_shape, 3, token_texts.WORDS, width=16, dropout=0.5)
        torch.nn.init.normal_(network.embedding.weight[1:])
    committee = Dropout(3)
    return TorchLearner(
        network, Trainer(), source, source.task, committee, seed=0, device=CPU, batch_size=8
    )


def scan(learner: TorchLearner, indices: Tensor, needs: frozenset[Need] = NEEDS) -> dict[Need, Any]:
    view = learner.scan(indices, needs, RoundContext())
    return {need: view[need] for need in needs}


def widened(source: Source, width: int) -> Source:
    """The same texts, padded to another length."""
    old = source.train.store
    assert isinstance(old, RaggedStore)
    values = {name: tensor[:-1] for name, tensor in old.values.items()}
    store = RaggedStore(values, old.lengths, width, masked=True)
    split = Split.of(store, source.train.targets)
    return replace(source, train=split, test=split)


def assert_rows(found: dict[Need, Any], all_rows: dict[Need, Any], indices: Tensor) -> None:
    for need, value in found.items():
        axis = 1 if need == Members() else 0
        assert torch.equal(value, all_rows[need].index_select(axis, indices)), need


@pytest.mark.parametrize("multilabel", [False, True])
def test_bits_of_a_text_do_not_depend_on_the_other_candidates(kind: Any, multilabel: bool) -> None:
    learner = make_learner(kind, token_texts.source(multilabel=multilabel))
    whole = scan(learner, POOL)
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    for indices in (shuffled, shuffled[:23], POOL[::3], POOL[:1], POOL[59:]):
        assert_rows(scan(learner, indices), whole, indices)


def test_gradient_lengths_of_a_text_do_not_depend_on_the_other_candidates(kind: Any) -> None:
    learner = make_learner(kind, token_texts.source())
    needs: frozenset[Need] = frozenset({GradNorms(), Probs()})
    whole = scan(learner, POOL, needs)
    for indices in (POOL.flip(0), POOL[5::7]):
        assert_rows(scan(learner, indices, needs), whole, indices)


def test_tests_give_a_text_the_same_bits_as_the_pass(kind: Any) -> None:
    learner = make_learner(kind, token_texts.source())
    logits = learner.predict(learner.source.train, RoundContext())
    assert torch.equal(learner.task.probs(logits), scan(learner, POOL)[Probs()])


def test_bits_of_a_text_do_not_depend_on_padding_beyond_its_bucket(kind: Any) -> None:
    short = token_texts.source()
    long = widened(short, 96)
    lengths = {int(n) for n in long.train.buckets(POOL)}  # type: ignore[union-attr]
    assert len(lengths) > 3
    assert max(lengths) < 96
    learner, other = make_learner(kind, widened(short, 48)), make_learner(kind, long)
    parameters = dict(learner.model.named_parameters())
    with torch.no_grad():
        for name, parameter in other.model.named_parameters():
            own = parameters[name]
            parameter[: len(own)] = own  # the transformer has vectors of more places
    needs: frozenset[Need] = frozenset({Features(), Probs()})
    assert_rows(scan(other, POOL, needs), scan(learner, POOL, needs), POOL)


def test_members_drop_the_same_at_every_length(kind: Any) -> None:
    """A member's logits are those of the whole text at full length, whatever a batch is cut to."""
    learner = make_learner(kind, token_texts.source())
    uncut = make_learner(kind, token_texts.source())
    read = token_texts.store(60).read(POOL)
    uncut.source = replace(uncut.source, train=Split.of(read, learner.source.train.targets))
    assert uncut.source.train.buckets(POOL) is None
    needs: frozenset[Need] = frozenset({Members()})
    torch.testing.assert_close(
        scan(learner, POOL, needs)[Members()], scan(uncut, POOL, needs)[Members()]
    )
