import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import yaml
from torch import nn
from torchvision.models import resnet18

from dal.models import (
    MLP,
    BayesianCNN,
    LeNet5,
    LogisticRegression,
    ResNet18,
    SmallCNN,
    forward,
)
from dal.models.base import last_layer
from dal.utils.build import build, find
from dal.utils.inputs import shapes_of

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
LENET_SHAPES = [(c, s, s) for c in (1, 3) for s in (28, 32)]


def fresh(kind: type[nn.Module], *arguments: Any, **settings: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(*arguments, **settings).eval()


def inputs(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("model", "shape", "width"),
    [
        *((fresh(LeNet5, shape, 7), shape, 84) for shape in LENET_SHAPES),
        (fresh(ResNet18, (3, 32, 32), 7), (3, 32, 32), 512),
        (fresh(ResNet18, (1, 28, 28), 7), (1, 28, 28), 512),
        (fresh(ResNet18, (1, 64, 64), 7, stem="imagenet"), (1, 64, 64), 512),
        (fresh(SmallCNN, (1, 28, 28), 7), (1, 28, 28), 128),
        (fresh(SmallCNN, (3, 8, 11), 7), (3, 8, 11), 128),
        (fresh(MLP, (5,), 7, hidden=(4, 6)), (5,), 6),
        (fresh(MLP, (1, 3, 2), 7, hidden=[4]), (1, 3, 2), 4),
        (fresh(LogisticRegression, (5,), 7), (5,), 5),
        (fresh(LogisticRegression, (3, 4, 4), 7), (3, 4, 4), 48),
    ],
)
def test_forward_gives_logits_and_the_inputs_of_the_head(
    model: nn.Module, shape: tuple[int, ...], width: int
) -> None:
    logits, features = forward(model, inputs(shape))
    head = last_layer(model)
    assert head is not None
    assert features is not None
    assert logits.shape == (3, 7)
    assert features.shape == (3, width)
    assert torch.equal(head(features), logits)


def test_forward_of_a_foreign_network_has_no_features() -> None:
    network = nn.Linear(4, 2)
    logits, features = forward(network, inputs((4,)))
    assert torch.equal(logits, network(inputs((4,))))
    assert features is None
    assert last_layer(network) is None


def test_lenet5_has_the_number_of_parameters_it_claims() -> None:
    model = fresh(LeNet5, (1, 28, 28), 10)
    assert sum(p.numel() for p in model.parameters()) == 61_706


RESIZE, OTHER, TABLE = "; set data.size=28 or", "; choose another model$", "; choose .* model=mlp"


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((1, 8, 8), RESIZE),
        ((1, 28, 32), RESIZE),
        ((2, 28, 28), OTHER),
        ((4, 32, 32), OTHER),
        ((64,), TABLE),
    ],
)
@pytest.mark.parametrize("model", [LeNet5, BayesianCNN])
def test_other_shapes_are_refused_with_a_remedy_that_helps(
    model: Callable[..., object], shape: tuple[int, ...], remedy: str
) -> None:
    with pytest.raises(ValueError, match=rf"28 or 32 pixels, not .*{remedy}"):
        model(shape, 10)


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"hidden": []}, "needs a hidden layer"),
        ({"hidden": [4, 0]}, "every width"),
        ({"hidden": [-1]}, "every width"),
        ({"hidden": [4, 10**12]}, r"model\.hidden=\[4, 10{12}\]: .* GiB .*; ask for less"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout": float("nan")}, "dropout=nan"),
    ],
)
def test_mlp_refuses_settings_out_of_range(settings: dict[str, Any], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        MLP((4,), 3, **settings)


def test_mlp_drops_out_only_while_training() -> None:
    model, x = fresh(MLP, (4,), 3, hidden=(64,), dropout=0.5), inputs((4,))
    assert torch.equal(model(x).logits, model(x).logits)
    model.train()
    assert not torch.equal(model(x).logits, model(x).logits)
    plain = fresh(MLP, (4,), 3, hidden=(64,)).train()
    assert torch.equal(plain(x).logits, plain(x).logits)


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = resnet18(weights=None)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return path


def test_resnet18_from_a_file_equals_torchvision(torchvision_file: Path) -> None:
    state = torch.load(torchvision_file, weights_only=True)
    theirs = resnet18(weights=None).eval()
    theirs.load_state_dict(state)
    ours = ResNet18((3, 64, 64), 1000, stem="imagenet", weights=str(torchvision_file)).eval()
    ours.head.load_state_dict({"weight": state["fc.weight"], "bias": state["fc.bias"]})
    x = inputs((3, 64, 64))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x).logits, theirs(x), rtol=0, atol=0)


@pytest.mark.parametrize(("stem", "channels"), [("small", 3), ("small", 1), ("imagenet", 1)])
def test_resnet18_takes_the_layers_that_fit(
    torchvision_file: Path, stem: Any, channels: int
) -> None:
    state = torch.load(torchvision_file, weights_only=True)
    own = ResNet18((channels, 32, 32), 5, stem=stem, weights=str(torchvision_file)).body
    taken = own.state_dict()
    assert torch.equal(taken["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert taken["conv1.weight"].shape != state["conv1.weight"].shape


@pytest.mark.parametrize(
    ("shape", "settings", "error", "fact"),
    [
        ((64,), {}, ValueError, "takes images"),
        ((3, 32, 32), {"stem": "large"}, ValueError, "choose small or imagenet"),
        ((3, 32, 32), {"weights": "IMAGENET9K"}, ValueError, "IMAGENET1K_V1"),
        ((3, 32, 32), {"weights": "nowhere/r.pt"}, FileNotFoundError, "no such file"),
        ((3, 32, 32), {"weights": "r.pth"}, FileNotFoundError, "no such file"),
    ],
)
def test_resnet18_refuses_unknown_settings(
    shape: tuple[int, ...], settings: dict[str, Any], error: type[Exception], fact: str
) -> None:
    with pytest.raises(error, match=fact):
        ResNet18(shape, 5, **settings)


def test_resnet18_says_where_to_put_weights_it_cannot_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    with pytest.raises(OSError, match=rf"resnet18-\w+\.pth from https.* into {folder} by hand"):
        ResNet18((3, 32, 32), 10, weights="IMAGENET1K_V1")


def test_resnet18_refuses_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    with pytest.raises(ValueError, match=r"do not fit a torchvision ResNet-18: .*: \d+, "):
        ResNet18((3, 32, 32), 5, weights=str(path))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_model_config_names_every_parameter_with_its_default(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    parameters = dict(inspect.signature(find(settings["_target_"])).parameters)
    given = {"input_shape", "num_classes", "vocab_size"}
    if path.stem == "transformers":  # its tokenizer is given a size; its config comes of a folder
        given = {"input_shape", "num_classes", "architecture"}
    for of_data in given:
        parameters.pop(of_data, None)
    assert set(settings) - {"_target_"} == set(parameters)
    for name, parameter in parameters.items():
        default = parameter.default
        default = "???" if default is parameter.empty else default
        assert settings[name] == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_model_config_builds_a_network_or_an_estimator(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    if path.stem == "transformers":
        pytest.skip("takes a folder; see test_transformers_network.py")
    if path.stem == "timm":
        pytest.importorskip("timm", reason='timm is not installed: pip install -e ".[timm]"')
    if getattr(find(settings["_target_"]), "text_encoder", None) == "word_ids":
        texts = {"tokens": torch.tensor([[2, 3, 0]]), "mask": torch.tensor([[True, True, False]])}
        model = build(settings, input_shape=shapes_of(texts), num_classes=4, vocab_size=4)
        assert forward(model.eval(), texts).logits.shape == (1, 4)
        return
    model = build(settings, input_shape=(1, 28, 28), num_classes=4)
    if not isinstance(model, nn.Module):
        assert callable(model.fit)
        return
    model.eval()
    assert forward(model, inputs((1, 28, 28))).logits.shape == (3, 4)


def test_small_cnn_takes_what_fits_and_says_what_does_not(tmp_path: Path) -> None:
    known = fresh(SmallCNN, (1, 16, 16), 2)
    torch.save(known.state_dict(), tmp_path / "w.pth")
    weights = str(tmp_path / "w.pth")
    model = SmallCNN((1, 16, 16), 9, weights, trainable="head").eval()
    own = forward(known, inputs((1, 16, 16))).features
    assert own is not None
    assert torch.equal(forward(model, inputs((1, 16, 16))).features, own)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "head.weight",
        "head.bias",
    ]
    for shape, given, message in (
        ((1, 6, 28), None, r"8 x 8 pixels or more, not of 6 x 28; set data\.size=28"),
        ((5,), None, "small_cnn takes images"),
        ((3, 16, 16), weights, r"do not fit small_cnn.*of that size and channels"),
        ((1, 16, 16), "DEFAULT", r"model\.weights=DEFAULT is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            SmallCNN(shape, 2, given)
