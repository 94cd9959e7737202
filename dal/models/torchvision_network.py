"""Any classifier of torchvision's by name, and its weights by name or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dal.models.fine_tuning import (
    FineTuned,
    Trainable,
    check_trainable,
    feature_width,
    image_shape,
    take_channels,
)
from dal.models.weights import is_file, load_weights, read_state


class TorchvisionNetwork(FineTuned):
    """A classifier of ``torchvision.models`` with a fresh last layer.

    Images come as `dal.data` prepares them: of a folder by ImageNet's mean and deviation, which
    pretrained networks expect, of other data sets by their own, which for photos differ little.

    Args:
        input_shape: (channels, height, width); the networks of ``vit_`` and ``maxvit_`` take 224
            pixels only, others as few as they can, mostly 32.
        num_classes: Number of classes C; the last layer is always fresh.
        name: As in ``torchvision.models.list_models()``.
        weights: None for a random start; ``DEFAULT`` or another name of torchvision weights, which
            are downloaded once; or a file (.pt, .pth, .safetensors) with a state dict of that
            network, also below a prefix. With other channels than 3 the first convolution is
            changed, see `dal.models.fine_tuning.take_channels`.
        trainable: See `dal.models.fine_tuning.FineTuned`.

    Raises:
        ValueError: There is no such network, it ends in no linear layer, it cannot take such
            images, or the weights are unknown or do not fit.
        FileNotFoundError: A weights file is not there.
        OSError: The weights could not be downloaded.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        name: str = "resnet18",
        weights: str | None = None,
        trainable: Trainable = "all",
    ) -> None:
        shape = image_shape(input_shape, "torchvision")
        check_trainable(trainable, weights)
        body = cut_network(name, "model.name", fresh=weights is None)
        if weights is not None:
            state, _ = find_state(name, weights, "model.weights")
            load_weights(body, state, f"model.weights={weights}", name)
        if shape[0] != 3 and hasattr(body, "transform_input"):
            # It knows the means of red, green and blue only.
            body.transform_input = False  # type: ignore[assignment]
        take_channels(body, shape[0], weights is not None, name)
        width = feature_width(body, shape, name)
        super().__init__(body, width, num_classes, trainable, name)


def cut_network(name: str, setting: str, fresh: bool = True) -> nn.Module:
    """A torchvision classifier without its last linear layer, at random weights.

    Args:
        name: As in ``torchvision.models.list_models()``.
        setting: What the name was given as, such as ``model.name``, for errors.
        fresh: Whether it is to start from these weights, rather than to get others.

    Returns:
        A network that gives the input of that layer.

    Raises:
        ValueError: There is no such network, or it has no linear layer.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(
            f"{setting}={name!r} is no network of torchvision.models; choose one of its "
            "classifiers, such as resnet18, resnet50, vit_b_16, convnext_tiny"
        )
    network: nn.Module = models.get_model(name, weights=None, **_old(name, fresh))
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(
            f"{setting}={name} has no linear layer at its end, before which its features "
            "could be taken; choose another, such as resnet18"
        )
    parent, _, attribute = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network


def _old(name: str, fresh: bool) -> dict[str, Any]:
    """Two old networks have heads in their middle, and weights that want other inputs.

    Those weights take images normalized once more, which is part of the network: it must not depend
    on whether weights are loaded, or a saved model would predict otherwise. They start slowly.
    """
    old = name in ("googlenet", "inception_v3")
    return {"init_weights": fresh, "transform_input": True, "aux_logits": False} if old else {}


def find_state(name: str, weights: str, setting: str) -> tuple[dict[str, Tensor], Any]:
    """Weights of a torchvision network, from a file or by torchvision's name.

    Args:
        name: Of the network.
        weights: A file, or a name, whose weights are downloaded once.
        setting: What they were given as, such as ``model.weights``, for errors.

    Returns:
        The state dict, and torchvision's transforms of weights by name; None for those of a file.

    Raises:
        ValueError: There are no such weights, or the file holds none.
        OSError: The file is not there, or they could not be downloaded.
    """
    if is_file(weights):
        return read_state(weights, setting), None
    from torchvision.models import get_model_weights

    known = get_model_weights(name).__members__
    if weights not in known:
        raise ValueError(
            f"{setting}={weights!r} is neither a file (.pt, .pth) nor one of torchvision's "
            f"names for {name}: {', '.join(known)}"
        )
    chosen = known[weights]
    try:
        state = chosen.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError is one
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"the weights {weights} of {name} could not be downloaded ({error}); put "
            f"{chosen.url.rpartition('/')[2]} from {chosen.url} into {folder} by hand, or set "
            f"{setting} to such a file"
        ) from error
    return dict(state), chosen.transforms()
