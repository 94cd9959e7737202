"""Networks made elsewhere with a fresh last layer, trained as a whole or in part."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from dal.models.base import Output
from dal.utils.inputs import InputSpec, one_shape
from dal.utils.memory import out_of_memory

Trainable = Literal["head", "last_block", "all"]


class FineTuned(nn.Module):
    """A body that gives features, and a fresh linear layer, the head, on top of it.

    Frozen are the body's modules before the first that is trained, in the order in which they are
    registered: their parameters ask for no gradient, and they stay in evaluation mode while the
    rest trains. So the statistics of frozen BatchNorm layers do not move, and frozen dropout layers
    drop nothing. With ``head`` the first that is trained is what follows the last module with
    numbers of its own, so dropout right before the head is on as ever.

    Args:
        body: Gives features (B, ...), which are flattened to (B, D).
        width: D.
        num_classes: Number of classes C.
        trainable: ``head`` trains the last layer only; ``last_block`` also the last repeated block
            of the body (see `last_block`) and all that comes after it; ``all`` everything.
        name: The network in words, for errors.

    Attributes:
        frozen: Names of the frozen modules, within the body.

    Raises:
        ValueError: ``last_block`` of a body that repeats no block.
    """

    def __init__(
        self, body: nn.Module, width: int, num_classes: int, trainable: Trainable, name: str
    ) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, num_classes)
        self.frozen = _freeze(body, trainable, name)
        self.train()

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, D) of images (B, channels, H, W)."""
        features = self.body(x).flatten(1)
        return Output(self.head(features), features)

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for what is frozen; or evaluation mode."""
        super().train(mode)
        for name in self.frozen:  # by name: a copy may have other modules in these places
            self.body.get_submodule(name).training = False
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As any module; what was saved as plain values is of this version of the network.

        Some networks ask which version their entries are of, and refuse those that do not say.
        """
        own: Any = self.state_dict()
        state: Any = OrderedDict(state_dict)
        state._metadata = getattr(state_dict, "_metadata", own._metadata)
        return super().load_state_dict(state, strict, assign)


def check_trainable(trainable: Trainable, weights: str | None) -> None:
    """Refuse what is no part of a network, and layers that would be random for ever.

    Raises:
        ValueError: Naming settings and remedy.
    """
    if trainable not in get_args(Trainable):
        raise ValueError(f"model.trainable={trainable!r}; choose head, last_block or all")
    if trainable != "all" and weights is None:
        raise ValueError(
            f"model.trainable={trainable} freezes layers, which model.weights=null leaves random; "
            "set model.weights to DEFAULT or a file, or model.trainable=all"
        )


def _freeze(body: nn.Module, trainable: Trainable, name: str) -> tuple[str, ...]:
    """Take the gradient from all that comes before what is trained; gives the names of that."""
    modules = dict(body.named_modules())
    order = list(modules)
    if trainable == "all":
        return ()
    if trainable == "last_block":
        start = order.index(last_block(body, name))
    else:
        own = [module._parameters or module._buffers for module in modules.values()]
        start = max((number + 1 for number, numbers in enumerate(own) if numbers), default=0)
    for module in order[:start]:
        for parameter in modules[module].parameters(recurse=False):
            parameter.requires_grad_(False)
    # What holds both frozen and trained modules is in training with the latter.
    trained = [f"{module}." for module in order[start:]]
    return tuple(
        module
        for module in order[:start]
        if not any(other.startswith(f"{module}." if module else "") for other in trained)
    )


def last_block(body: nn.Module, name: str) -> str:
    """The last of the blocks that a network repeats, see `blocks_of`: its name among the modules.

    Args:
        body: The network.
        name: In words, for errors.

    Raises:
        ValueError: Nothing is repeated.
    """
    blocks = blocks_of(body)
    if not blocks:
        raise ValueError(
            f"{name} repeats no block, whose last could be trained; set model.trainable=head or "
            "all, or choose another network, such as resnet18"
        )
    return blocks[-1]


def blocks_of(network: nn.Module) -> list[str]:
    """The blocks that a network repeats, from the bottom to the top.

    They are the modules of the class that is there more than once and holds the most parameters;
    neither layers, which have no modules of their own, nor plain sequences, lists and dicts of
    modules count, nor what lies within another block: the residual blocks of a ResNet, the encoder
    blocks of a ViT or a BERT; of a network whose stages are modules of a class of their own, the
    stages.

    Returns:
        Their names among the network's modules; none where nothing is repeated.
    """
    plain = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    modules = {
        key: module
        for key, module in network.named_modules()
        if key and any(module.children()) and not isinstance(module, plain)
    }
    count = Counter(map(type, modules.values()))
    sizes: Counter[type[nn.Module]] = Counter()
    blocks: dict[type[nn.Module], list[str]] = {}
    outer = "."
    for key, module in modules.items():
        kind = type(module)
        if count[kind] > 1 and not key.startswith(outer):
            outer = f"{key}."
            sizes[kind] += sum(parameter.numel() for parameter in module.parameters())
            blocks.setdefault(kind, []).append(key)
    return blocks[sizes.most_common(1)[0][0]] if sizes else []


def take_channels(network: nn.Module, channels: int, loaded: bool, name: str) -> None:
    """Let a network for 3 channels take images of another number of channels.

    Its first convolution starts afresh where the network does. Of loaded weights each channel gets
    the sum over the 3 channels, divided by the number of channels: what a gray image repeated in 3
    channels would have given.

    Args:
        network: Changed in place.
        channels: Of the images.
        loaded: Whether it has loaded weights.
        name: In words, for errors.

    Raises:
        ValueError: Its first convolution takes no 3 channels.
    """
    if channels == 3:
        return
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.weight.shape[1] != 3:
        raise ValueError(
            f"{name} begins with no convolution over 3 channels that could be changed to take "
            f"{channels}; give images of 3 channels, or choose another network"
        )
    gray = first.weight.detach().sum(1, keepdim=True) / channels
    first.in_channels = channels
    first.weight = nn.Parameter(gray.repeat(1, channels, 1, 1))
    if not loaded:
        first.reset_parameters()


def image_shape(input_shape: InputSpec, model: str) -> tuple[int, ...]:
    """The shape (channels, H, W) of images, refused where inputs are none.

    Raises:
        ValueError: Naming the shape.
    """
    shape = one_shape(input_shape, model)
    if len(shape) != 3:
        remedy = "; choose another model, such as model=mlp (for texts experiment=text)"
        raise ValueError(f"{model} takes images (channels, H, W), not inputs of {shape}{remedy}")
    return shape


def feature_width(body: nn.Module, shape: tuple[int, ...], name: str, size: int = 224) -> int:
    """How many features a body gives of an image, tried on one that is all zeros.

    Args:
        body: Left in evaluation mode.
        shape: (channels, H, W).
        name: In words, for errors.
        size: Pixels that the network is known to take.

    Raises:
        ValueError: It cannot take such images: they are too small, or of another size than its own.
    """
    try:
        with torch.no_grad():
            features: Tensor = body.eval()(torch.zeros(1, *shape))
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name} cannot take images of {shape[1]} x {shape[2]} pixels ({reason}); set "
            f"data.size={size} to resize them, or choose another network"
        ) from error
    return features.flatten(1).shape[1]
