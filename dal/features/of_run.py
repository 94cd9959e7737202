"""`features=run`: the network that an earlier run trained, frozen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import torch

from dal.export import load, model_state
from dal.features.network import Frozen, NetworkEmbedding
from dal.models.base import last_layer

log = logging.getLogger(__name__)


class RunEmbedding(NetworkEmbedding):
    """Features from the network that an earlier run of dal left behind, see `dal.load`.

    Of the data set that it was trained on, `dal.data.make_source` then refuses a division that
    tests on samples of that run's training or validation part: seed and split must be that run's.

    Args:
        path: That run's directory.
        cache_dir: See `NetworkEmbedding`.
        dtype: Likewise.
        standardize: Likewise.
        batch_size: Likewise.
    """

    def __init__(
        self,
        path: str,
        cache_dir: str = "~/.cache/dal/features",
        dtype: Literal["float16", "float32"] = "float16",
        standardize: bool = True,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(cache_dir, dtype, standardize, batch_size)
        self.path = path

    def network(self, device: torch.device) -> Frozen:
        """The network as the run left it, and how that run prepared its inputs.

        Raises:
            TypeError: Its model has no features.
        """
        predictor = load(self.path, device=str(device), allow=self.plugins)
        if last_layer(predictor.model) is None:
            raise TypeError(
                f"the model of {self.path} is no network with a last layer, so it has no features; "
                "give a run of lenet5, resnet18, bayesian_cnn or mlp"
            )
        name = f"{type(predictor.model).__name__} of {Path(self.path).name}"
        if predictor.seen is None:
            log.warning(
                "the model of %s does not say which samples it was trained on, as an earlier "
                "version of dal wrote it: keep the seed and the split of that run, or test samples "
                "may be among them",
                self.path,
            )
        return Frozen(
            predictor.model,
            predictor.prepare,
            name,
            predictor.input_shape,
            predictor.fitted_to,
            {"model": model_state(self.path)},
        )
