"""The network of the BatchBALD paper's MNIST experiments: two convolutions with dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output, check_small_images
from dal.models.pooling import max_pool_2x2


class BayesianCNN(nn.Module):
    """Two 5x5 convolutions of 32 and 64 channels and a layer of 128, dropout after each.

    Its dropout samples are the members for BALD and BatchBALD. Convolutions drop whole channels,
    as in the authors' code. 184,586 parameters for 28 px, one channel, ten classes.

    Args:
        input_shape: (channels, height, width), 1 or 3 channels, 28 or 32 pixels square.
        num_classes: Number of classes C.
        dropout: Probability that a channel or unit is dropped, from 0 to below 1.

    Raises:
        ValueError: For any other input shape or probability.

    Reference:
        A. Kirsch, J. van Amersfoort and Y. Gal. BatchBALD: efficient and diverse batch acquisition
        for deep Bayesian active learning. NeurIPS 2019, section 4.2.

    Differs from the paper: channels are dropped after pooling and ReLU, on a quarter of the values.
    The outcome is the same, since a channel is dropped or scaled as a whole.
    """

    graphable = True

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_small_images("bayesian_cnn", input_shape)
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout={dropout}; give a number from 0 to below 1")
        side = ((input_shape[1] - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(input_shape[0], 32, 5)
        self.drop1 = nn.Dropout2d(dropout)
        self.conv2 = nn.Conv2d(32, 64, 5)
        self.drop2 = nn.Dropout2d(dropout)
        self.fc1 = nn.Linear(64 * side**2, 128)
        self.drop3 = nn.Dropout(dropout)
        self.head = nn.Linear(128, num_classes)
        self.mask_shapes = {"drop1": (32, 1, 1), "drop2": (64, 1, 1), "drop3": (128,)}

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, 128) of images (B, channels, H, W)."""
        x = self.drop1(F.relu(max_pool_2x2(self.conv1(x))))
        x = self.drop2(F.relu(max_pool_2x2(self.conv2(x))))
        features = self.drop3(F.relu(self.fc1(x.flatten(1))))
        return Output(self.head(features), features)

    def dropout_samples(self, x: Tensor, masks: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Logits of a batch under each of K sets of masks.

        A mask is the same for the whole batch, so what it drops need not be computed at all: the
        first convolution is shared, and with half of the channels dropped the second costs a
        quarter.

        Args:
            x: float, (B, channels, H, W).
            masks: K mappings from ``drop1``, ``drop2``, ``drop3`` to masks of 0 and 1 / (1 - p), of
                the shapes in ``mask_shapes`` with a leading 1.

        Returns:
            float, (K, B, C): those of `forward` with these masks, up to rounding.
        """
        x = F.relu(max_pool_2x2(self.conv1(x)))
        return torch.stack([self._sample(x, mask) for mask in masks])

    def _sample(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """Logits from the first layer's features, by the channels and units that are kept."""
        (kept1, mask1), (kept2, mask2), (kept3, mask3) = (
            _kept(masks[name].flatten()) for name in self.mask_shapes
        )
        weight2 = self.conv2.weight[kept2][:, kept1] * mask1.view(-1, 1, 1)
        x = F.conv2d(x[:, kept1], weight2, self.conv2.bias[kept2])  # type: ignore[index]
        x = F.relu(max_pool_2x2(x))
        weight3 = self.fc1.weight.view(128, 64, -1)[kept3][:, kept2] * mask2.unsqueeze(1)
        x = F.relu(F.linear(x.flatten(1), weight3.flatten(1), self.fc1.bias[kept3]))
        return F.linear(x, self.head.weight[:, kept3] * mask3, self.head.bias)


def _kept(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where a mask is not 0, and its values there; one place with a 0 where it is 0 throughout."""
    positions = mask.nonzero()[:, 0]
    if len(positions) == 0:
        positions = positions.new_zeros(1)
    return positions, mask[positions]
