"""The mean of a text's word vectors, and a linear layer on it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from dal.models.base import Output
from dal.models.tokens import MASK, TOKENS, mean_over, token_length, token_table
from dal.utils.inputs import InputSpec
from dal.utils.ranges import check_number, check_whole


class EmbeddingBag(nn.Module):
    """The mean of a text's word vectors, a hidden layer or none, and a linear layer (fastText).

    The order of words plays no part. Vectors start small and independent of the labels, so some
    hundreds of labels are needed before it is better than a linear model of terms.

    Args:
        input_shape: Shapes of a text's ``tokens`` and ``mask``, (L,) each.
        num_classes: Number of classes C.
        vocab_size: V, the number of tokens; token 0 is padding, whose vector stays 0.
        width: Numbers of a word vector D, at least 1.
        hidden: Width of a hidden layer with ReLU on the mean; 0 for none.
        dropout: Probability that a number of the mean, and a hidden unit, is dropped; from 0 to
            below 1.

    Raises:
        TypeError: Inputs are no tokens.
        ValueError: A number is out of range, or the vectors do not fit into memory.

    Reference:
        A. Joulin, E. Grave, P. Bojanowski and T. Mikolov. Bag of tricks for efficient text
        classification. EACL 2017.

    Differs from the paper: words alone, without pairs of them; vectors start normally distributed.
    """

    text_encoder: ClassVar[str] = "word_ids"
    graphable = True

    def __init__(
        self,
        input_shape: InputSpec,
        num_classes: int,
        vocab_size: int | None = None,
        width: int = 64,
        hidden: int = 0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_whole("model.width", width, 1)
        check_whole("model.hidden", hidden, 0)
        check_number("model.dropout", dropout, below=1)
        length = token_length("embedding_bag", input_shape, vocab_size)
        self.sample_numel = length * width
        self.embedding = token_table("embedding_bag", vocab_size or 0, width)
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden or width, num_classes)

    def forward(self, x: dict[str, Tensor]) -> Output:
        """Logits (B, C) and features (B, D) of texts.

        Args:
            x: ``tokens``, int64, (B, L), in [0, V); and ``mask``, bool, (B, L), true where there is
                one. A text without any has the mean 0.
        """
        features = self.body(mean_over(x[MASK], self.embedding(x[TOKENS])))
        return Output(self.head(features), features)
