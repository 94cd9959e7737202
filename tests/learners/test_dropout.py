"""Dropout samples: what the members are, and what drawing them must leave alone."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor, nn

from dal.data.source import Source, Split
from dal.data.store import ArrayStore
from dal.inference.dropout_masks import DropoutMasks
from dal.learners import Dropout, RoundContext, Rounds, TorchLearner
from dal.learners.committees import check_members
from dal.models import MLP, BayesianCNN, LeNet5
from dal.models.base import Output
from dal.query import Features, GradNorms, Members, Probs
from dal.task import Multiclass
from dal.training.trainer import Trainer

COUNT = 50
EVERYTHING = torch.arange(COUNT)


class Noisy(nn.Module):
    """Both kinds of dropout around a batch normalization with statistics of its own."""

    def __init__(self, shape: tuple[int, ...] = (2, 4, 4), classes: int = 3) -> None:
        super().__init__()
        self.channels = nn.Dropout2d(0.3)
        self.norm = nn.BatchNorm2d(shape[0])
        self.norm.running_mean = torch.tensor([0.3, -0.2])
        self.norm.running_var = torch.tensor([2.0, 0.7])
        self.drop = nn.Dropout(0.6)
        self.body = nn.Linear(shape[0] * shape[1] * shape[2], 24)
        self.head = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Output:
        x = self.norm(self.channels(x))
        features = self.drop(self.body(x.flatten(1)).tanh())
        return Output(self.head(features), features)


def make(
    model: Any = lambda shape, classes: Noisy(shape, classes),
    shape: tuple[int, ...] = (2, 4, 4),
    size: int = 6,
    seed: int = 3,
    **options: Any,
) -> TorchLearner:
    rng = torch.Generator().manual_seed(0)
    split = Split.of(torch.randn(COUNT, *shape, generator=rng), torch.arange(COUNT) % 3)
    source = Source("tiny", split, split, None, ("a", "b", "c"))
    return TorchLearner(
        model,
        Trainer(),
        source,
        Multiclass(3),
        Dropout(size),
        seed=seed,
        device=torch.device("cpu"),
        **options,
    )


def members(learner: TorchLearner, indices: Tensor = EVERYTHING, number: int = 0) -> Tensor:
    return learner.scan(indices, frozenset({Members()}), RoundContext(number))[Members()]


def test_members_equal_forwards_with_masks_written_out() -> None:
    """The network's own masks, put in by hand."""
    learner = make()
    network = learner.model.eval()
    got = members(learner)
    assert got.shape == (6, COUNT, 3)
    assert got.dtype == torch.float32
    masks = DropoutMasks(network, 6, seed=3, round_number=0)
    x = learner.source.train.take(EVERYTHING)
    for k in range(6):
        with masks.member(k):
            network(x[:2])
        drawn = {key[1]: mask for key, mask in masks._masks.items() if key[0] == k}
        assert drawn["channels"].shape == (1, 2, 1, 1)
        assert drawn["drop"].shape == (1, 24)
        assert set(drawn["channels"].unique().tolist()) <= {0.0, float(torch.tensor(1) / 0.7)}
        assert set(drawn["drop"].unique().tolist()) <= {0.0, float(torch.tensor(1) / 0.4)}
        hidden = network.norm(x * drawn["channels"]).flatten(1)
        want = network.head(network.body(hidden).tanh() * drawn["drop"]).softmax(1)
        torch.testing.assert_close(got[k], want, rtol=1e-4, atol=1e-6)


def test_a_member_has_one_mask_for_the_whole_pool() -> None:
    """Equal inputs get equal predictions from a member, in whatever batch they come."""
    learner = make(batch_size=8)
    inputs = learner.source.train.inputs
    inputs[30:40] = inputs[3]
    learner.source.train.store = ArrayStore(inputs)
    got = members(learner)
    torch.testing.assert_close(got[:, 30:40], got[:, 3:4].expand(-1, 10, -1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_members_do_not_depend_on_the_batches(batch_size: int) -> None:
    want = members(make(batch_size=16))
    torch.testing.assert_close(members(make(batch_size=batch_size)), want, rtol=1e-5, atol=1e-6)
    part = members(make(batch_size=batch_size), torch.tensor([41, 7, 19]))
    torch.testing.assert_close(part, want[:, [41, 7, 19]], rtol=1e-5, atol=1e-6)


def test_members_differ_by_member_round_and_seed_alone() -> None:
    want = members(make())
    assert torch.equal(members(make()), want)
    assert len({tuple(member.flatten().tolist()) for member in want}) == 6
    assert torch.equal(members(make(size=4)), want[:4])
    assert not torch.allclose(members(make(), number=1), want)
    torch.manual_seed(99)
    assert torch.equal(members(make()), want)
    other = make(seed=4)
    other.model.load_state_dict(make().model.state_dict())
    assert not torch.allclose(members(other), want)


def test_masks_are_independent_from_layer_to_layer_and_drop_at_their_rate() -> None:
    network = nn.Sequential(nn.Dropout(0.2), nn.Dropout(0.2))
    masks = DropoutMasks(network.eval(), 40, seed=0, round_number=0)
    ones = torch.ones(1, 100)
    for k in range(40):
        with masks.member(k):
            network(ones)
    kept = torch.stack([mask > 0 for mask in masks._masks.values()]).view(40, 2, 100)
    both = kept[:, 0].long() * 2 + kept[:, 1].long()
    observed = both.flatten().bincount(minlength=4).double()
    expected = 4000 * torch.tensor([0.04, 0.16, 0.16, 0.64], dtype=torch.float64)
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, 3) > 0.001


def test_a_layer_used_twice_has_two_masks() -> None:
    layer = nn.Dropout(0.5).eval()
    masks = DropoutMasks(layer, 2, seed=0, round_number=0)
    with masks.member(0):
        first, second = layer(torch.ones(3, 64)), layer(torch.ones(3, 64))
    assert not torch.equal(first, second)
    with masks.member(0):
        assert torch.equal(layer(torch.ones(5, 64))[:3], first)


def test_the_mean_member_approaches_the_network_where_it_is_linear() -> None:
    """Masks are scaled by 1 / (1 - p): without it the mean would shrink."""
    layer = nn.Dropout(0.5).eval()
    masks = DropoutMasks(layer, 400, seed=0, round_number=0)
    outputs = []
    for k in range(400):
        with masks.member(k):
            outputs.append(layer(torch.ones(1, 50)))
    assert float(torch.cat(outputs).mean()) == pytest.approx(1, abs=0.03)


def test_probabilities_are_those_of_the_network_without_dropout() -> None:
    learner = make()
    needs = frozenset({Probs(), Features(), GradNorms("last"), Members()})
    view = learner.scan(EVERYTHING, needs, RoundContext())
    plain = learner.scan(EVERYTHING, needs - {Members()}, RoundContext())
    for need in needs - {Members()}:
        assert torch.equal(view[need], plain[need])
    assert torch.equal(view[Members()], members(learner))
    learner.model.eval()
    want = learner.model(learner.source.train.take(EVERYTHING)).logits.softmax(1)
    torch.testing.assert_close(view[Probs()], want)


@pytest.mark.parametrize("training", [True, False])
def test_drawing_members_leaves_no_trace(training: bool) -> None:
    learner = make()
    network = learner.model.train(training)
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    members(learner)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training is training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_go_when_the_forward_fails() -> None:
    learner = make()

    def fail() -> None:
        raise KeyboardInterrupt

    learner.model.body.register_forward_pre_hook(lambda *_: fail())
    with pytest.raises(KeyboardInterrupt):
        members(learner)
    assert not any(module._forward_hooks for module in learner.model.modules())


def test_out_of_memory_halves_the_batch_and_keeps_the_members() -> None:
    want = members(make(batch_size=32))

    def limit(network: nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    learner = make(batch_size=32)
    learner.model.register_forward_pre_hook(limit)
    torch.testing.assert_close(members(learner), want, rtol=1e-5, atol=1e-6)
    assert learner.batch_size == 8


@pytest.mark.parametrize(
    ("network", "fact"),
    [
        (lambda s, c: LeNet5((1, 28, 28), c), "LeNet5 has no dropout layer with 0 < p < 1"),
        (lambda s, c: MLP(s, c), "MLP has no dropout layer"),
        (lambda s, c: BayesianCNN((1, 28, 28), c, dropout=0.0), "BayesianCNN has no dropout"),
        (
            lambda s, c: nn.Sequential(
                nn.AlphaDropout(0.1), nn.Dropout(0.1), nn.Flatten(), nn.Linear(math.prod(s), c)
            ),
            r"has alpha dropout \(0\)",
        ),
    ],
)
def test_networks_without_dropout_are_refused(network: Any, fact: str) -> None:
    learner = make(network, (1, 28, 28))
    assert Members not in learner.capabilities
    message = rf"BALD compares members of a committee, and .*{fact}.* model=bayesian_cnn.*committee"
    with pytest.raises(TypeError, match=message):
        learner.check_needs(frozenset({Members()}), "BALD")
    learner.check_needs(frozenset({Probs()}), "Entropy")


def test_a_network_fitted_alone_is_refused_where_members_are_past_rounds() -> None:
    learner = make()
    learner.check_needs(frozenset({Members()}), "BALD")
    alone = TorchLearner(
        learner.make_model,
        Trainer(),
        learner.source,
        Multiclass(3),
        Rounds(3),
        seed=0,
        device=torch.device("cpu"),
    )
    with pytest.raises(TypeError, match="Noisy is fitted alone"):
        alone.check_needs(frozenset({Members()}), "BALD")


class Bypassed(Noisy):
    """Has a dropout layer and does not use it."""

    def forward(self, x: Tensor) -> Output:
        features = self.body(self.norm(x).flatten(1)).tanh()
        return Output(self.head(features), features)


def test_identical_members_are_refused() -> None:
    learner = make(lambda shape, classes: Bypassed(shape, classes))
    with pytest.raises(ValueError, match="all 6 members of the committee predict the same for all"):
        members(learner)


def test_equal_members_are_accepted_where_they_say_nothing_about_their_making() -> None:
    flat = torch.full((3, 5, 2), 0.5)
    check_members(flat, "")
    check_members(torch.eye(2)[torch.tensor([[0, 1, 1]])].expand(4, 3, 2), "")
    check_members(torch.rand(1, 1, 3).expand(2, 1, 3), "")
    rows = torch.rand(1, 5, 2).expand(3, 5, 2).clone()
    with pytest.raises(ValueError, match="predict the same"):
        check_members(rows, "remedy")
    rows[2, 4, 1] += 1e-6
    check_members(rows, "")
    with pytest.raises(ValueError, match="committee of one"):
        check_members(rows[:1], "")


def test_bayesian_cnn_gives_members_that_disagree() -> None:
    learner = make(BayesianCNN, (1, 28, 28), size=4)
    got = members(learner, torch.arange(10))
    assert float(got.std(0).max()) > 1e-3


@pytest.mark.parametrize("dropout", [0.5, 0.97])
def test_bayesian_cnn_computes_what_is_kept_alone(dropout: float) -> None:
    torch.manual_seed(0)
    model = BayesianCNN((1, 28, 28), 10, dropout).eval().double()
    inputs = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    masks = DropoutMasks(model, 8, seed=1, round_number=2)
    sets = [masks.of(k, model.mask_shapes, inputs.device) for k in range(8)]
    got = model.dropout_samples(inputs, sets)
    for number in range(8):
        with masks.member(number):
            torch.testing.assert_close(got[number], model(inputs).logits)
    assert {tuple(key[3]) for key in masks._masks} == set(model.mask_shapes.values())
    empty = [{name: torch.zeros_like(mask) for name, mask in sets[0].items()}]
    torch.testing.assert_close(
        model.dropout_samples(inputs, empty)[0], model.head.bias.expand(3, 10)
    )


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("dropout", [0.2, 0.5, 0.97])
def test_bayesian_cnn_computes_its_members_faster_to_the_same_result(
    dropout: float, shape: tuple[int, ...]
) -> None:
    """Only what the masks keep, against whole forwards with the masks applied by hooks."""
    learner = make(partial(BayesianCNN, dropout=dropout), shape, batch_size=4)
    some = torch.arange(6)
    got = members(learner, some, number=2)
    network = learner.model.eval()
    masks = DropoutMasks(network, 6, seed=3, round_number=2)
    x = learner.source.train.take(some)
    with torch.inference_mode():
        for number in range(6):
            with masks.member(number):
                want = network(x).logits.softmax(1)
            torch.testing.assert_close(got[number], want, rtol=1e-4, atol=1e-6)
