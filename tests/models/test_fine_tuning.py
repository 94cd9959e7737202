"""Networks of which a part is trained: what is frozen stays, and plays no part elsewhere."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dal.inference.gradients import gradient_norms
from dal.lockstep.fit import advance
from dal.models.fine_tuning import FineTuned, blocks_of, last_block, take_channels
from dal.task import Multiclass
from dal.training.context import FitContext, Samples
from dal.training.fit import Fit
from dal.training.optim import sgd
from dal.training.trainer import Trainer

IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(24) % 3
PARTS = ["head", "last_block", "all"]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.inner = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(self.norm(self.conv(x)).relu())


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.3))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.BatchNorm2d(6)
        self.end = nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.stem(x * self.scale)))
        result: Tensor = self.end(x.mean((2, 3)))
        return result


def network(trainable: Any, seed: int = 0) -> FineTuned:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FineTuned(Body(), 6, 3, trainable, "a body")
    return model.to(memory_format=torch.channels_last)  # as learners lay them out


TRAINED = {
    "head": ("head.",),
    "last_block": ("body.blocks.1.", "body.norm.", "body.end.", "head."),
    "all": ("body.", "head."),
}


def begun(model: nn.Module, seed: int = 0) -> Fit:
    samples = Samples(lambda batch: IMAGES[batch], TARGETS)
    optimizer = sgd(0.05, momentum=0.9, weight_decay=0.1)
    trainer = Trainer(3, 8, optimizer, early_stopping=None, layer_lr_decay=0.5)
    return trainer.begin(model, samples, Multiclass(3), FitContext(seed=seed))


@pytest.mark.parametrize("trainable", PARTS)
def test_frozen_numbers_stay_and_the_others_move(trainable: str) -> None:
    model = network(trainable)
    before = copy.deepcopy(model.state_dict())
    begun(model).run()
    for name, value in model.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert moved == name.startswith(TRAINED[trainable]), name


@pytest.mark.parametrize("trainable", ["head", "last_block"])
def test_frozen_modules_stay_in_evaluation_mode(trainable: str) -> None:
    model = network(trainable)
    for turn in (model, copy.deepcopy(model), model.eval().train()):
        training = {name for name, module in turn.named_modules() if module.training}
        expected = {"", "head", "body", "body.end", "body.end.1", "body.end.2"}
        if trainable == "last_block":
            block = ("", ".conv", ".norm", ".inner", ".inner.0", ".inner.1")
            expected |= {f"body.blocks.1{n}" for n in block}
            expected |= {"body.blocks", "body.norm", "body.end.0"}
        assert training - {"body"} == expected - {"body"}
    assert not any(module.training for module in model.eval().modules())


def test_dropout_is_on_right_before_the_head_alone() -> None:
    model = network("head")
    before = model.body.end[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    seen: list[Tensor] = []
    first, second = model(IMAGES).features, model(IMAGES).features
    before.remove()
    assert torch.equal(*seen)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("trainable", PARTS)
def test_gradient_lengths_are_those_of_what_is_trained(trainable: str) -> None:
    model, few = network(trainable).double().eval(), IMAGES[:4].double()
    # No formula knows the body's scale, which does not matter where it is frozen.
    slow = pytest.warns(UserWarning, match=r"body \(Body\) is not a layer it has a formula for")
    with slow if trainable == "all" else nullcontext():
        _, found = gradient_norms(model, few)
    moving = [p for p in model.parameters() if p.requires_grad]
    assert len(moving) == {"head": 2, "last_block": 10, "all": 21}[trainable]
    for image, lengths in zip(few, found, strict=True):
        logits = model(image.unsqueeze(0)).logits
        for label in range(3):
            loss = nn.functional.cross_entropy(logits, torch.tensor([label]))
            of_each = torch.autograd.grad(loss, moving, retain_graph=True)
            want = sum(g.square().sum() for g in of_each) ** 0.5
            torch.testing.assert_close(lengths[label], want)


@pytest.mark.parametrize("trainable", ["head", "last_block"])
def test_stacked_fits_are_those_of_each_network_alone(trainable: str) -> None:
    seeds = (0, 1, 2)
    fits = [begun(network(trainable, seed), seed) for seed in seeds]
    starts = [copy.deepcopy(fit.model.state_dict()) for fit in fits]
    assert advance(fits, lambda number, function: function() is None)
    for seed, fit, start in zip(seeds, fits, starts, strict=True):
        alone = begun(network(trainable, seed), seed)
        alone.run()
        for name, value in fit.model.state_dict().items():
            torch.testing.assert_close(value, alone.model.state_dict()[name], rtol=1e-4, atol=1e-5)
            if not name.startswith(TRAINED[trainable]):
                assert torch.equal(value, start[name]), name


def test_blocks_are_the_outermost_that_repeat_and_hold_the_most() -> None:
    """Not the plain sequences around and within them, which are there more often."""
    assert blocks_of(Body()) == ["blocks.0", "blocks.1"]
    assert last_block(Body(), "a body") == "blocks.1"
    assert last_block(nn.Sequential(Body(), Block(), Body(), nn.Linear(2, 2)), "two") == "2"
    with pytest.raises(ValueError, match=r"^vgg repeats no block, .* set model\.trainable=head"):
        last_block(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1))), "vgg")


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_loaded_weights_see_images_of_equal_channels_as_gray_ones(channels: int) -> None:
    of_three, other = Body().eval(), Body().eval()
    other.load_state_dict(of_three.state_dict())
    take_channels(other, channels, True, "a body")
    gray = IMAGES[:, :1]
    want = of_three(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(other(gray.expand(-1, channels, -1, -1)), want)


def test_first_layers_that_are_no_convolution_are_refused() -> None:
    take_channels(nn.Linear(3, 2), 3, True, "a table")
    with pytest.raises(ValueError, match="begins with no convolution over 3 channels"):
        take_channels(nn.Linear(3, 2), 1, True, "a table")
