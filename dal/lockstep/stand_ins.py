"""Stand-ins for layers whose rule under `torch.vmap` is missing, wrong, or draws other numbers.

A stand-in calls an `autograd.Function` whose only use is its rule for vmap. The rule sees the
tensors of all networks, (R, ...), where other code sees what looks like those of one. It consists
of ordinary operations, which autograd records as any others, so that no Function has a backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.text_transformer import Attention
from dal.utils.seeding import seeded

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
OTHER_NOISE = (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU)


def why_not(model: nn.Module) -> str:
    """Why networks like this one cannot be stacked; empty where nothing is known against it."""
    for name, module in model.named_modules():
        if isinstance(module, OTHER_NOISE):
            return f"{type(module).__name__} ({name}) draws noise of its own"
        if isinstance(module, nn.Embedding) and not _is_lookup(module):
            return f"{type(module).__name__} ({name}) does more than look up rows of its table"
    return ""


class Noise:
    """What dropout draws from while R networks train as one: a random stream for each.

    A network's masks are those it would draw alone: the same calls, in the same order, of
    `torch.nn.functional.dropout` on tensors of the same shape.

    Attributes:
        wanted: Whether there is a layer that draws.
        streams: Where each network's stream stands: R states of a generator, replaced and never
            changed in place.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wanted = False
        self.streams: list[Tensor] = []

    def seed(self, seeds: Sequence[int], states: Sequence[Mapping[str, Tensor]]) -> None:
        """Start the streams of R networks, or go on from states of generators where there are."""
        self.streams = []
        for seed, found in zip(seeds, states, strict=True):
            with seeded(seed, self.device, found):
                self.streams.append(self._generator().get_state())

    def states(self, number: int) -> dict[str, Tensor]:
        """Where the stream of a network stands, by kind of device; empty without such layers."""
        return {self.device.type: self.streams[number]} if self.streams else {}

    def masks(self, layer: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The next masks of a layer, of 0 and 1 / (1 - p): (R, *shape).

        The layer itself draws them: dropout of ones is its mask. It draws from torch's one
        generator, which is put where each network's stream stands and read back afterwards.
        """
        ones = torch.ones(shape, dtype=dtype, device=self.device)
        if ones.ndim == 4:  # as networks are laid out, which decides where each draw goes
            ones = ones.to(memory_format=torch.channels_last)
        masks = []
        with seeded(0, self.device):
            for number, state in enumerate(self.streams):
                self._generator().set_state(state)
                masks.append(layer.train()(ones))
                self.streams[number] = self._generator().get_state()
        return torch.stack(masks)

    def _generator(self) -> torch.Generator:
        if self.device.type == "cuda":
            return torch.cuda.default_generators[self.device.index or 0]
        return torch.default_generator


class _Masked(torch.autograd.Function):
    """Multiplies by masks that are drawn for all networks at once.

    Under vmap a layer would draw one mask for all of them, or R that no network would draw alone.
    """

    @staticmethod
    def forward(x: Tensor, layer: nn.Module, noise: Noise) -> Tensor:
        raise RuntimeError("dropout was called outside of the stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, layer: nn.Module, noise: Noise
    ) -> tuple[Tensor, int]:
        """The rule for R networks."""
        x = _by_network(info, in_dims[0], x)
        return x * noise.masks(layer, x.shape[1:], x.dtype), 0


class _Dropout(nn.Module):
    """Stands in for a dropout layer within a stack."""

    def __init__(self, layer: nn.Module, noise: Noise) -> None:
        super().__init__()
        self._keep = (layer, noise)  # in a tuple, so that the layer is no submodule

    def forward(self, x: Tensor) -> Tensor:
        """Masked in training, unchanged otherwise."""
        layer, noise = self._keep
        if not self.training or getattr(layer, "p", 0.0) == 0:
            return x
        masked: Tensor = _Masked.apply(x, layer, noise)
        return masked


class _Normalized(torch.autograd.Function):
    """Batch normalization of all networks at once; vmap's own rule fails on CUDA.

    Each channel has statistics of its own, so R networks of C channels are one of R C channels.
    """

    @staticmethod
    def forward(x: Tensor, *args: Any) -> Tensor:
        raise RuntimeError("batch normalization was called outside of the stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, *args: Any
    ) -> tuple[Tensor, int]:
        """The rule for R networks: channels of all of them side by side."""
        *tensors, options = args  # each tensor is the stack's own, (R, C)
        x = _by_network(info, in_dims[0], x)
        # Views: running statistics are updated where the stack has them.
        mean, variance, weight, bias = (None if t is None else t.flatten() for t in tensors)
        channels = x.transpose(0, 1).flatten(1, 2)
        out = F.batch_norm(channels, mean, variance, weight, bias, **options)
        shape = len(x), x.shape[2]
        return out.unflatten(1, shape).transpose(0, 1), 0  # type: ignore[no-untyped-call]


class _BatchNorm(nn.Module):
    """Stands in for a batch normalization layer within a stack, with its tensors."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self._parameters, self._buffers = layer._parameters, layer._buffers
        self._options = {"momentum": layer.momentum, "eps": layer.eps}

    def forward(self, x: Tensor) -> Tensor:
        """Normalized by the batch in training, by the running statistics otherwise."""
        mean, variance = self.running_mean, self.running_var
        if self.training and mean is not None:
            self._buffers["num_batches_tracked"].add_(1)  # type: ignore[union-attr]
        options = {"training": self.training or mean is None, **self._options}
        normalized: Tensor = _Normalized.apply(x, mean, variance, self.weight, self.bias, options)
        return normalized


class _LookedUp(torch.autograd.Function):
    """Embeddings of all networks at once, outside of `vmap`, whose own rule is not that of each.

    It lays the tables behind each other, and an id beyond the end of a network's own table would
    silently be looked up in the next one. It also exempts the padding row of the first table only
    from training.
    """

    @staticmethod
    def forward(ids: Tensor, *args: Any) -> Tensor:
        raise RuntimeError("an embedding was called outside of the stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        ids: Tensor,
        weight: Tensor,
        padding: int | None,
        by_frequency: bool,
    ) -> tuple[Tensor, int]:
        """The rule for R networks."""
        ids, tables = _by_network(info, in_dims[0], ids), _by_network(info, in_dims[1], weight)
        count, rows = tables.shape[:2]
        # Without waiting for the device. Where a network fails so, `Stack` asks it alone, which
        # raises torch's own error.
        torch._assert_async(((ids >= 0) & (ids < rows)).all(), "an id is not in the embedding")
        first = torch.arange(count, device=ids.device).view(-1, *[1] * (ids.ndim - 1)) * rows
        found = F.embedding(ids + first, tables.flatten(0, 1), scale_grad_by_freq=by_frequency)
        if padding is not None:  # its row has the same value, and no gradient
            found = torch.where((ids == padding).unsqueeze(-1), found.detach(), found)
        return found, 0


class _Embedding(nn.Module):
    """Stands in for an embedding within a stack, with its table."""

    def __init__(self, layer: nn.Embedding) -> None:
        super().__init__()
        self._parameters = layer._parameters
        self._options = layer.padding_idx, layer.scale_grad_by_freq

    def forward(self, ids: Tensor) -> Tensor:
        """The rows of ids."""
        found: Tensor = _LookedUp.apply(ids, self.weight, *self._options)
        return found


class _Attended(torch.autograd.Function):
    """Attention of all networks at once: samples of all side by side.

    On a CPU vmap knows none but one sample after the other.
    """

    @staticmethod
    def forward(*tensors: Tensor) -> Tensor:
        raise RuntimeError("attention was called outside of the stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        """The rule for R networks."""
        stacked = [_by_network(info, dim, x) for dim, x in zip(in_dims, tensors, strict=True)]
        mixed = Attention()(*(x.flatten(0, 1) for x in stacked))
        return torch.unflatten(mixed, 0, stacked[0].shape[:2]), 0


class _Attention(nn.Module):
    """Stands in for attention within a stack."""

    def forward(self, *tensors: Tensor) -> Tensor:
        """See `Attention`."""
        mixed: Tensor = _Attended.apply(*tensors)
        return mixed


def _by_network(info: Any, dim: int | None, x: Tensor) -> Tensor:
    """What a rule of `vmap` is given, as (R, ...)."""
    return x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)


def _is_lookup(layer: nn.Embedding) -> bool:
    """Whether an embedding does nothing but look up rows of its table."""
    own = type(layer).forward is not nn.Embedding.forward
    return not (own or layer.sparse) and getattr(layer, "max_norm", None) is None


def replace_layers(model: nn.Module, noise: Noise) -> None:
    """Put stand-ins in the place of layers that need one, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, DROPOUTS):
                setattr(parent, name, _Dropout(child, noise))
                noise.wanted = True
            elif isinstance(child, NORMS) and child.momentum is not None:
                setattr(parent, name, _BatchNorm(child))
            elif isinstance(child, nn.Embedding) and _is_lookup(child):
                setattr(parent, name, _Embedding(child))
            elif type(child) is Attention:
                setattr(parent, name, _Attention())
