"""What networks on the tokens of texts share."""

from __future__ import annotations

from torch import Tensor, nn

from dal.utils.inputs import InputSpec
from dal.utils.memory import check_memory

TOKENS, MASK = "tokens", "mask"
"""Names of the tensors of a text: the numbers of its tokens, and which places hold one."""
PADDING = 0
"""The number in places that hold no token."""


def token_length(name: str, spec: InputSpec, vocab_size: int | None) -> int:
    """L, the places of a text that is not cut.

    Args:
        name: Option of the model.
        spec: Shapes of a sample's tensors.
        vocab_size: V, or None where inputs are no tokens.

    Raises:
        TypeError: A sample is something else than tokens.
    """
    if isinstance(spec, dict) and set(spec) == {TOKENS, MASK} and vocab_size is not None:
        return spec[TOKENS][0]
    raise TypeError(
        f"{name} takes the tokens of texts, and samples have {spec}; choose data=text or another "
        "data set of texts with data/encoder=model, or another model"
    )


def token_table(name: str, vocab_size: int, width: int) -> nn.Embedding:
    """A table of vectors by token, (V, D), that of padding 0 for good.

    Raises:
        ValueError: It does not fit into memory.
    """
    # weights, gradients, and two averages of the optimizer
    check_memory(16 * vocab_size * width, f"{name} of {vocab_size} tokens and model.width={width}")
    return nn.Embedding(vocab_size, width, padding_idx=PADDING)


def mean_over(mask_BL: Tensor, values_BLD: Tensor) -> Tensor:
    """Mean over the places where the mask holds: float, (B, D); 0 where it holds nowhere.

    Args:
        mask_BL: bool, (B, L).
        values_BLD: float, (B, L, D), finite everywhere.
    """
    sums = (values_BLD * mask_BL.unsqueeze(-1)).sum(1)
    return sums / mask_BL.sum(1, keepdim=True).clamp_min(1)
