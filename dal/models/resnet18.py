"""ResNet-18, torchvision's, with a stem for small images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from dal.models.base import Output
from dal.models.weights import is_file, read_state
from dal.utils.inputs import one_shape


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with the features before its last layer.

    Args:
        input_shape: (channels, height, width).
        num_classes: Number of classes C; the last layer is always fresh.
        stem: ``small`` starts with a 3x3 convolution of stride 1 and no pooling (for images of
            about 32 pixels); ``imagenet`` is torchvision's 7x7, stride 2, and pooling.
        weights: None for a random start; the name of torchvision weights (``IMAGENET1K_V1``), or
            a file with a torchvision ResNet-18 state dict, to fine-tune them. Layers whose shape
            differs (the last one, and the first with the small stem or other channels) start fresh.

    Raises:
        ValueError: The weights are unknown, or do not fit a ResNet-18.
        FileNotFoundError: A weights file is not there.
        OSError: The weights of that name could not be downloaded.

    Reference:
        K. He, X. Zhang, S. Ren and J. Sun. Deep residual learning for image recognition.
        CVPR 2016, table 1 (18-layer) and section 4.2 for the small stem.
    """

    graphable = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        stem: Literal["small", "imagenet"] = "small",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        from torchvision.models import resnet18

        if len(one_shape(input_shape, "resnet18")) != 3:
            raise ValueError(f"resnet18 takes images (channels, H, W), not inputs of {input_shape}")
        if stem not in ("small", "imagenet"):
            raise ValueError(f"model.stem={stem!r} is unknown; choose small or imagenet")
        network = resnet18(weights=None)
        channels = input_shape[0]
        if stem == "small":
            network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
            network.maxpool = nn.Identity()
        elif channels != 3:
            network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        if weights is not None:
            _load_matching(network, _read_weights(weights))
        features = network.fc.in_features
        network.fc = nn.Identity()
        self.body = network
        self.head = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, 512) of images (B, channels, H, W)."""
        features = self.body(x)
        return Output(self.head(features), features)


def _read_weights(weights: str) -> dict[str, Tensor]:
    """A ResNet-18 state dict by torchvision name or from a file."""
    if is_file(weights):
        return read_state(weights, "model.weights")
    from torchvision.models import ResNet18_Weights

    if weights not in ResNet18_Weights.__members__:
        raise ValueError(
            f"model.weights={weights!r} is neither a file (.pt, .pth) nor one of torchvision's "
            f"names: {', '.join(ResNet18_Weights.__members__)}"
        )
    chosen = ResNet18_Weights[weights]
    try:
        return dict(chosen.get_state_dict(progress=True, check_hash=True))
    except OSError as error:  # URLError is one
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"the weights {weights} could not be downloaded ({error}); put "
            f"{chosen.url.rpartition('/')[2]} from {chosen.url} into {folder} by hand, or set "
            "model.weights to such a file"
        ) from error


def _load_matching(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load every entry whose name and shape fit; only the ends of the network may differ."""
    own = network.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    missing = [k for k in own if k not in fitting and not k.startswith(("conv1.", "fc."))]
    if missing:
        raise ValueError(
            "the weights do not fit a torchvision ResNet-18: entries missing or of another shape: "
            f"{len(missing)}, {missing[0]} first; set model.weights to a file of that network"
        )
    network.load_state_dict(fitting, strict=False)
