"""LeNet-5, the network of the instability paper's MNIST experiments."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output, check_small_images
from dal.models.pooling import max_pool_2x2


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max pooling: two convolutions, three linear layers.

    Images of 28 pixels are padded to the 32 of the paper by the first convolution.
    61,706 parameters for 28 px, one channel, ten classes.

    Args:
        input_shape: (channels, height, width), 1 or 3 channels, 28 or 32 pixels square.
        num_classes: Number of classes C.

    Raises:
        ValueError: For any other input shape.

    Reference:
        Y. LeCun, L. Bottou, Y. Bengio and P. Haffner. Gradient-based learning applied to document
        recognition. Proceedings of the IEEE 86(11), 1998, figure 2.

    Differs from the paper: ReLU instead of tanh, max pooling instead of trainable averages, full
    connections between the two convolutions, a linear output layer.
    """

    graphable = True

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        check_small_images("lenet5", input_shape)
        padding = 2 if input_shape[1] == 28 else 0
        self.conv1 = nn.Conv2d(input_shape[0], 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.head = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, 84) of images (B, channels, H, W)."""
        # Pooling first: relu(max(x)) equals max(relu(x)), on a quarter of the values.
        x = F.relu(max_pool_2x2(self.conv1(x)))
        x = F.relu(max_pool_2x2(self.conv2(x)))
        x = F.relu(self.fc1(x.flatten(1)))
        features = F.relu(self.fc2(x))
        return Output(self.head(features), features)
