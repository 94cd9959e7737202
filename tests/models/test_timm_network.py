"""Networks of timm by name, where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dal.models import TimmNetwork

NAMES = ["mobilenetv3_small_050", "resnet10t", "edgenext_xx_small"]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def timm() -> Any:
    return pytest.importorskip("timm", reason='timm is not installed: pip install -e ".[timm]"')


def theirs(timm: Any, name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network: nn.Module = timm.create_model(name)
    return network.eval()


def saved(timm: Any, name: str, folder: Path) -> str:
    torch.save(theirs(timm, name).state_dict(), folder / f"{name}.pth")
    return str(folder / f"{name}.pth")


@pytest.mark.parametrize("name", NAMES)
def test_weights_from_a_file_are_those_of_timm_but_for_the_last_layer(
    timm: Any, name: str, tmp_path: Path
) -> None:
    network = theirs(timm, name)
    ours = TimmNetwork((3, 32, 32), 1000, name, saved(timm, name, tmp_path))
    ours.head.load_state_dict(network.get_classifier().state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(IMAGES).logits, network(IMAGES))


def test_safetensors_are_read(timm: Any, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    state: dict[str, Tensor] = theirs(timm, "resnet10t").state_dict()
    safetensors.save_file(state, tmp_path / "w.safetensors")
    one = TimmNetwork((3, 32, 32), 5, "resnet10t", str(tmp_path / "w.safetensors"), "last_block")
    for name, value in one.body.state_dict().items():
        assert torch.equal(value, state[name])
    assert one.frozen[-1].startswith("layer3.0.")
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"model\.weights=.*w\.safetensors is damaged"):
        TimmNetwork((3, 32, 32), 5, "resnet10t", str(tmp_path / "w.safetensors"))


def test_gray_images_are_taken(timm: Any, tmp_path: Path) -> None:
    weights, gray = saved(timm, "resnet10t", tmp_path), IMAGES[:, :1]
    one, three = (TimmNetwork((c, 32, 32), 5, "resnet10t", weights).eval() for c in (1, 3))
    with torch.no_grad():
        found, want = one(gray).features, three(gray.expand(-1, 3, -1, -1)).features
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"name": "resnet81"}, r"model\.name='resnet81' is no network of timm"),
        ({"name": "hf-hub:timm/resnet18"}, r"model\.name='hf-hub:.* is no network of timm"),
        ({"name": "vit_tiny_patch16_224"}, r"32 x 32 pixels .* set data\.size=224"),
        ({"weights": "IMAGENET1K_V1"}, r"model\.weights='IMAGENET1K_V1' is no file .* DEFAULT"),
        ({"name": "resnet14t", "weights": "nowhere.pt"}, "there is no such file"),
        ({"trainable": "tail"}, "choose head, last_block or all"),
    ],
)
def test_what_cannot_be_is_refused(timm: Any, settings: dict[str, Any], fact: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=fact):
        TimmNetwork((3, 32, 32), 5, **settings)


def test_closed_network_names_file_and_folder(
    timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")

    def offline(*arguments: object, **options: object) -> None:
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = rf"model\.safetensors from https://\S+/timm/resnet10t\S*, or copy the folder {tmp_path}"
    with pytest.raises(OSError, match=told) as caught:
        TimmNetwork((3, 32, 32), 5, "resnet10t", "DEFAULT")
    assert "\n" not in str(caught.value)


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r'takes the package timm .*: pip install -e "\.\[timm\]"'):
        TimmNetwork((3, 32, 32), 5)
