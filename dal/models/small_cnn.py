"""A small convolutional network, which learns without labels on a CPU too."""

from __future__ import annotations

from torch import nn

from dal.models.fine_tuning import FineTuned, Trainable, check_trainable, image_shape
from dal.models.weights import is_file, load_weights, read_state

CHANNELS = (16, 32, 64)
FEATURES = 128
LEAST_PIXELS = 8


class SmallCNN(FineTuned):
    """Three convolutions of 16, 32 and 64 channels, each pooled, and a linear layer.

    With batch normalization throughout. For images of about 28 to 32 pixels; 98,682 parameters at
    28 pixels, one channel, ten classes.

    Args:
        input_shape: (channels, height, width), 8 pixels or more.
        num_classes: Number of classes C; the last layer is always fresh.
        weights: None for a random start; a file with a state dict of this network, such as
            `dal.features.SelfSupervised` leaves.
        trainable: See `dal.models.fine_tuning.FineTuned`; it repeats no block.

    Raises:
        ValueError: The images are too small, or the weights do not fit.
        FileNotFoundError: The weights file is not there.
    """

    graphable = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        weights: str | None = None,
        trainable: Trainable = "all",
    ) -> None:
        channels, height, width = image_shape(input_shape, "small_cnn")
        check_trainable(trainable, weights)
        if min(height, width) < LEAST_PIXELS:
            raise ValueError(
                f"small_cnn takes images of {LEAST_PIXELS} x {LEAST_PIXELS} pixels or more, not of "
                f"{height} x {width}; set data.size=28"
            )
        layers: list[nn.Module] = []
        for number in CHANNELS:
            convolution = nn.Conv2d(channels, number, 3, padding=1, bias=False)
            layers += [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(number), nn.ReLU()]
            channels = number
        linear = nn.Linear(channels * (height // 8) * (width // 8), FEATURES, bias=False)
        body = nn.Sequential(*layers, nn.Flatten(), linear, nn.BatchNorm1d(FEATURES), nn.ReLU())
        if weights is not None:
            _load(body, weights)
        super().__init__(body, FEATURES, num_classes, trainable, "small_cnn")


def _load(body: nn.Module, weights: str) -> None:
    given = f"model.weights={weights}"
    if not is_file(weights):
        raise ValueError(f"{given} is no file (.pt, .pth), and small_cnn has no weights by name")
    remedy = "set model.weights to a file of that network, for images of that size and channels"
    load_weights(body, read_state(weights, "model.weights"), given, "small_cnn", remedy)
