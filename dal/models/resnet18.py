"""ResNet-18, torchvision's, with a stem for small images."""

from __future__ import annotations

from typing import Literal

from torch import nn

from dal.models.fine_tuning import FineTuned, Trainable, check_trainable, image_shape
from dal.models.torchvision_network import find_state
from dal.models.weights import load_weights


class ResNet18(FineTuned):
    """torchvision's ResNet-18 with the features before its last layer.

    Args:
        input_shape: (channels, height, width).
        num_classes: Number of classes C; the last layer is always fresh.
        stem: ``small`` starts with a 3x3 convolution of stride 1 and no pooling (for images of
            about 32 pixels); ``imagenet`` is torchvision's 7x7, stride 2, and pooling.
        weights: None for a random start; the name of torchvision weights (``IMAGENET1K_V1``), or
            a file with a torchvision ResNet-18 state dict, to fine-tune them. Layers whose shape
            differs (the last one, and the first with the small stem or other channels) start fresh.
        trainable: See `dal.models.fine_tuning.FineTuned`.

    Raises:
        ValueError: The weights are unknown, or do not fit a ResNet-18; or a first layer that starts
            fresh is to be frozen.
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
        trainable: Trainable = "all",
    ) -> None:
        from torchvision.models import resnet18

        channels = image_shape(input_shape, "resnet18")[0]
        check_trainable(trainable, weights)
        if stem not in ("small", "imagenet"):
            raise ValueError(f"model.stem={stem!r} is unknown; choose small or imagenet")
        network = resnet18(weights=None)
        width = network.fc.in_features
        network.fc = nn.Identity()
        if stem == "small":
            network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
            network.maxpool = nn.Identity()
        elif channels != 3:
            network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        if weights is not None:
            state, _ = find_state("resnet18", weights, "model.weights")
            remedy = "set model.weights to a file of that network"
            what = "a torchvision ResNet-18"
            given = f"model.weights={weights}"
            left = load_weights(network, state, given, what, remedy, ("conv1.",))
            if left and trainable != "all":
                raise ValueError(
                    f"model.trainable={trainable} would freeze the first layer, which {given} "
                    "do not have and is random; set model.stem=imagenet and give 3 channels, or "
                    "choose model=torchvision model.name=resnet18"
                )
        super().__init__(network, width, num_classes, trainable, "resnet18")
