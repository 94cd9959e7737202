"""A model: radial bumps, and a linear layer over them."""

from torch import Tensor, nn
from torch.nn import functional as F

from dal.models import Output


class Bumps(nn.Module):
    """One hidden layer whose units answer to a neighborhood each.

    Args:
        input_shape: Of a sample, here (D,); dal gives it.
        num_classes: C; dal gives it.
        width: How many units.
    """

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 32) -> None:
        super().__init__()
        (dimensions,) = input_shape
        self.hidden = nn.Linear(dimensions, width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C), and the input of the last layer, (B, width), for float32 x (B, D)."""
        features = F.softplus(self.hidden(x)).square().neg().exp()
        return Output(self.head(features), features)
