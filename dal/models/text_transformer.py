"""A small transformer on the words of a text, trained from scratch."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output
from dal.models.tokens import MASK, TOKENS, mean_over, token_length, token_table
from dal.utils.inputs import InputSpec
from dal.utils.ranges import check_number, check_whole


class TextTransformer(nn.Module):
    """A small transformer encoder from scratch; its features are the mean of the words' outputs.

    Every word attends to all words of its text and to none beyond its end, and the mean is over the
    words alone, so that it makes no difference but that of rounding how long texts are padded.

    Args:
        input_shape: Shapes of a text's ``tokens`` and ``mask``, (L,) each.
        num_classes: Number of classes C.
        vocab_size: V, the number of tokens; token 0 is padding, whose vector stays 0.
        width: Numbers by which a word is represented D, a multiple of ``heads``.
        layers: Blocks of attention and a layer on each word, at least 1.
        heads: Attention's heads.
        dropout: Probability that a number is dropped, of what enters the first block, what each
            part of a block adds, and of the mean; from 0 to below 1. Attention itself has none.

    Raises:
        TypeError: Inputs are no tokens.
        ValueError: A number is out of range, or the vectors do not fit into memory.

    Reference:
        A. Vaswani et al. Attention is all you need. NeurIPS 2017; blocks that normalize first as in
        R. Xiong et al. On layer normalization in the transformer architecture. ICML 2020.
    """

    text_encoder: ClassVar[str] = "word_ids"
    graphable = True

    def __init__(
        self,
        input_shape: InputSpec,
        num_classes: int,
        vocab_size: int | None = None,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("layers", layers), ("heads", heads)):
            check_whole(f"model.{name}", value, 1)
        check_number("model.dropout", dropout, below=1)
        if width % heads:
            raise ValueError(f"model.width={width} is no multiple of model.heads={heads}")
        length = token_length("text_transformer", input_shape, vocab_size)
        self.sample_numel = length * width
        self.embedding = token_table("text_transformer", vocab_size or 0, width)
        self.positions = nn.Embedding(length, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.drop_mean = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        for table in (self.embedding, self.positions):
            nn.init.normal_(table.weight, std=START)
        with torch.no_grad():
            self.embedding.weight[0] = 0

    def forward(self, x: dict[str, Tensor]) -> Output:
        """Logits (B, C) and features (B, D) of texts.

        Args:
            x: ``tokens``, int64, (B, L) or fewer places, in [0, V); and ``mask``, bool, (B, L),
                true where there is one. A text without any has features of 0.
        """
        tokens, mask = x[TOKENS], x[MASK]
        # With a row for each text, as the rule for gradient lengths has it.
        places = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        h = self.drop(self.embedding(tokens) + self.positions(places))
        # Attention to nothing at all has no weights; the first place of no text is looked at.
        keys = (mask | (places == 0)).unsqueeze(1).unsqueeze(1)
        for block in self.blocks:
            h = block(h, keys)
        features = self.drop_mean(mean_over(mask, self.norm(h)))
        return Output(self.head(features), features)


class Attention(nn.Module):
    """Scaled dot product attention; a layer, so that something may stand in for it in a stack."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor) -> Tensor:
        """Values mixed by how alike queries and keys are.

        Args:
            q: float, (B, heads, L, D).
            k: float, as ``q``.
            v: float, as ``q``.
            keys: bool, (B, 1, 1, L), which places are looked at, at least one.
        """
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keys)


class _Block(nn.Module):
    """Attention, and a layer on each word by itself, each added to what comes in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention = Attention()
        self.out = nn.Linear(width, width)
        self.drop1 = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.drop2 = nn.Dropout(dropout)

    def forward(self, h: Tensor, keys: Tensor) -> Tensor:
        """float, (B, L, D), of words of which those are looked at where the keys hold.

        Args:
            h: float, (B, L, D).
            keys: bool, (B, 1, 1, L).
        """
        shape = *h.shape[:2], 3, self.heads, -1
        q, k, v = self.qkv(self.norm1(h)).view(shape).permute(2, 0, 3, 1, 4)
        mixed = self.attention(q, k, v, keys)
        h = h + self.drop1(self.out(mixed.transpose(1, 2).flatten(2)))
        widened: Tensor = self.narrow(F.gelu(self.wide(self.norm2(h))))
        out: Tensor = h + self.drop2(widened)
        return out


START = 0.02
"""Standard deviation of the vectors at the start."""
