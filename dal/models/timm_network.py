"""Any network of timm's by name, and its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dal.models.fine_tuning import (
    FineTuned,
    Trainable,
    check_trainable,
    feature_width,
    image_shape,
    take_channels,
)
from dal.models.weights import is_file, load_weights, read_state


class TimmNetwork(FineTuned):
    """A network of the package timm with a fresh last layer.

    Images come as `dal.data` prepares them; see ``TorchvisionNetwork``.

    Args:
        input_shape: (channels, height, width).
        num_classes: Number of classes C; the last layer is always fresh.
        name: As in ``timm.list_models()``, or of one kind of its weights, as in
            ``timm.list_pretrained()``.
        weights: None for a random start; ``DEFAULT`` for those of that name, which are downloaded
            once; or a file (.pt, .pth, .safetensors) with a state dict of that network, also below
            a prefix. Channels other than 3: as for ``TorchvisionNetwork``.
        trainable: See `dal.models.fine_tuning.FineTuned`.

    Raises:
        ValueError: timm is not installed, there is no such network, it cannot take such images, or
            the weights are unknown or do not fit.
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
        shape = image_shape(input_shape, "timm")
        check_trainable(trainable, weights)
        timm = _timm()
        # Names with a colon are repositories and folders, which bring code and settings of theirs.
        if ":" in name or not timm.is_model(name):
            raise ValueError(
                f"model.name={name!r} is no network of timm; choose one of timm.list_models(), "
                "such as resnet18, convnext_tiny, vit_small_patch16_224"
            )
        if weights is None or is_file(weights):
            body = timm.create_model(name, pretrained=False, num_classes=0)
        else:
            body = _downloaded(timm, name, weights)
        if weights is not None and is_file(weights):
            load_weights(
                body, read_state(weights, "model.weights"), f"model.weights={weights}", name
            )
        take_channels(body, shape[0], weights is not None, name)
        size = int(body.pretrained_cfg.get("input_size", (3, 224, 224))[-1])
        width = feature_width(body, shape, name, size)
        super().__init__(body, width, num_classes, trainable, name)


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError(
            f'model=timm takes the package timm ({error}); install it: pip install -e ".[timm]"'
        ) from error
    return timm


def _downloaded(timm: Any, name: str, weights: str) -> nn.Module:
    """A network with timm's own weights."""
    about = timm.models.get_pretrained_cfg(name)
    if weights != "DEFAULT":
        raise ValueError(
            f"model.weights={weights!r} is no file (.pt, .pth, .safetensors), and timm's are "
            "DEFAULT; others have networks of their own names, such as resnet18.a1_in1k"
        )
    if about is None or not about.has_weights:
        raise ValueError(
            f"timm has no weights for {name}; set model.weights to a file, or choose one of "
            "timm.list_pretrained()"
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # of many kinds, by where the weights are and what fails
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(
            f"the weights of {name} could not be downloaded ({reason}); {_by_hand(about)}"
        ) from error
    return network


def _by_hand(about: Any) -> str:
    """What to do where weights cannot be downloaded, with their file and the folder for it."""
    if not about.hf_hub_id:
        file, page, folder = about.url.rpartition("/")[2], about.url, torch.hub.get_dir()
        return f"put {file} from {page} into {folder}/checkpoints, or set model.weights to the file"
    from huggingface_hub import constants

    file = about.hf_hub_filename or "model.safetensors"
    folder = f"{constants.HF_HUB_CACHE}/models--{about.hf_hub_id.replace('/', '--')}"
    return (
        f"set model.weights to the file {file} from https://huggingface.co/{about.hf_hub_id}, or "
        f"copy the folder {folder} from a machine that has them"
    )
