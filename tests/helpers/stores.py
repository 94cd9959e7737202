"""What stores hold, as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.data.store import Store, store_of
from dal.utils.inputs import Inputs, one_tensor


def content(inputs: Inputs | Store | None) -> Tensor:
    """All samples of arrays or of a store."""
    assert inputs is not None
    store = store_of(inputs)
    return one_tensor(store.read(torch.arange(len(store))), "a test")
