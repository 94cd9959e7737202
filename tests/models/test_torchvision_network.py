"""Networks of torchvision by name: their weights, channels and sizes, in a run and after it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import dal
from dal.data import Dataset, initial_labels, make_source
from dal.models import ResNet18, TorchvisionNetwork
from dal.query import Badge, CoreSet, ExpectedErrorReduction, ExpectedGradientLength, Strategy
from dal.training.optim import sgd
from dal.training.trainer import Trainer

OLD = {"googlenet": {"init_weights": False, "transform_input": True}}


def theirs(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network: nn.Module = models.get_model(name, weights=None, **OLD.get(name, {}))
    return network.eval()


def saved(name: str, folder: Path) -> str:
    torch.save(theirs(name).state_dict(), folder / f"{name}.pth")
    return str(folder / f"{name}.pth")


def images(channels: int = 3, count: int = 2, size: int = 32) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "googlenet", "mnasnet0_5"]
)
def test_weights_from_a_file_are_those_of_torchvision_but_for_the_last_layer(
    name: str, tmp_path: Path
) -> None:
    network, weights = theirs(name), saved(name, tmp_path)
    ours = TorchvisionNetwork((3, 32, 32), 1000, name, weights)
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    assert not torch.equal(ours.head.weight, last.weight)
    ours.head.load_state_dict(last.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images()).logits, network(images()))
        logits, features = ours.train()(images())
    assert logits.shape == (2, 1000)
    assert features.shape == (2, last.in_features)


def test_gray_images_are_seen_as_if_repeated_in_three_channels(tmp_path: Path) -> None:
    weights, gray = saved("mobilenet_v3_small", tmp_path), images(1)
    one, three = (
        TorchvisionNetwork((c, 32, 32), 5, "mobilenet_v3_small", weights).eval() for c in (1, 3)
    )
    with torch.no_grad():
        found, want = one(gray).features, three(gray.expand(-1, 3, -1, -1)).features
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert TorchvisionNetwork((1, 28, 28), 5)(images(1, 2, 28)).logits.shape == (2, 5)
    # Means of red, green and blue have no meaning here.
    assert (
        TorchvisionNetwork((1, 32, 32), 5, "googlenet", saved("googlenet", tmp_path))
        .eval()(gray)
        .features.isfinite()
        .all()
    )


@pytest.mark.parametrize(
    ("shape", "settings", "error", "fact"),
    [
        ((4,), {}, ValueError, r"takes images .* not inputs of \(4,\); .* model=mlp"),
        ((3, 32, 32), {"name": "resnet81"}, ValueError, r"model\.name='resnet81' is no network"),
        ((3, 32, 32), {"name": "squeezenet1_0"}, ValueError, r"model\.name=.* no linear layer"),
        ((3, 32, 32), {"name": "alexnet"}, ValueError, "32 x 32 pixels .* set data.size=224"),
        ((3, 32, 32), {"name": "vit_b_32"}, ValueError, "32 x 32 pixels .* set data.size=224"),
        ((3, 32, 32), {"weights": "IMAGENET"}, ValueError, "names for resnet18: IMAGENET1K_V1"),
        ((3, 32, 32), {"weights": "a/r.pt"}, FileNotFoundError, r"model\.weights=a/r\.pt: there"),
        ((3, 32, 32), {"trainable": "tail"}, ValueError, "choose head, last_block or all"),
        ((3, 32, 32), {"trainable": "head"}, ValueError, r"model\.weights=null leaves random"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    shape: tuple[int, ...], settings: dict[str, Any], error: type[Exception], fact: str
) -> None:
    with pytest.raises(error, match=fact) as caught:
        TorchvisionNetwork(shape, 5, **settings)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = saved("mnasnet0_5", tmp_path)
    with pytest.raises(ValueError, match=rf"model\.weights={path} do not fit resnet18: .* set mod"):
        TorchvisionNetwork((3, 32, 32), 5, "resnet18", path)


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_closed_network_names_file_and_folder(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    told = rf"mobilenet_v3_small-\w+\.pth from https.* into {folder} by hand, or set model\.weights"
    with pytest.raises(OSError, match=told):
        TorchvisionNetwork((3, 32, 32), 10, "mobilenet_v3_small", weights)


def test_resnet18_freezes_no_layer_that_is_random(tmp_path: Path) -> None:
    weights, trainable = saved("resnet18", tmp_path), "last_block"
    with pytest.raises(ValueError, match=r"do not have and is random; set model\.stem=imagenet"):
        ResNet18((3, 32, 32), 5, weights=weights, trainable=trainable)
    model = ResNet18((3, 32, 32), 5, "imagenet", weights, trainable)
    other = TorchvisionNetwork((3, 32, 32), 5, "resnet18", weights, trainable)
    assert model.frozen == other.frozen
    assert [p.requires_grad for p in model.parameters()] == [
        p.requires_grad for p in other.parameters()
    ]
    small = {k.removeprefix("body."): v for k, v in ResNet18((3, 32, 32), 5).state_dict().items()}
    torch.save(small, tmp_path / "small.pt")
    assert ResNet18((3, 32, 32), 5, "small", str(tmp_path / "small.pt"), trainable).frozen


def pictures() -> Dataset:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=rng)
    return Dataset("pictures", inputs, torch.arange(40) % 2, ("a", "b"))


@pytest.mark.parametrize(
    ("strategy", "trainable", "name"),
    [
        (Badge(), "head", "shufflenet_v2_x0_5"),
        (ExpectedErrorReduction(), "head", "shufflenet_v2_x0_5"),
        (ExpectedGradientLength(), "last_block", "shufflenet_v2_x0_5"),
        (CoreSet(), "all", "mnasnet0_5"),
    ],
)
def test_models_of_runs_predict_without_the_file_they_started_from(
    strategy: Strategy, trainable: str, name: str, tmp_path: Path
) -> None:
    source = make_source(pictures(), seed=0)
    weights = saved(name, tmp_path)
    run = dal.run(
        source,
        partial(TorchvisionNetwork, name=name, weights=weights, trainable=trainable),
        strategy,
        initial=initial_labels(source.train.targets, seed=0, per_class=2),
        trainer=Trainer(
            epochs=2, optimizer=sgd(lr=1e-4)
        ),  # random weights; on some CPUs 0.01 diverges
        settings=dal.Settings(budget=2, query_size=2, device="cpu", figures=False),
        run_dir=tmp_path / "run",
    )
    Path(weights).unlink()
    found = dal.load(tmp_path / "run")
    learned, rows = run.job.learner.model.eval(), torch.arange(len(source.test))
    with torch.no_grad():
        want = learned(source.test.take(rows)).logits.softmax(1)
    torch.testing.assert_close(found.predict_proba(source.test.raw(rows)), want)
