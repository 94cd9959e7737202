"""Networks of one architecture as one: every tensor of theirs stacked along a leading dimension."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, vmap
from torch.func import functional_call

from dal.models.base import Output, StackedForward, forward
from dal.utils.inputs import Inputs, map_tensors
from dal.utils.memory import out_of_memory
from dal.utils.seeding import seeded

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
OTHER_NOISE = (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU)


class CannotStackError(Exception):
    """Networks that work one by one cannot be worked on as one; says what went wrong."""


class FailsAloneError(Exception):
    """A network of a stack fails on its own batch by itself too; its own error says why."""


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
        return {self.device.type: self.streams[number].clone()} if self.streams else {}

    def masks(self, layer: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The next masks of a layer, of 0 and 1 / (1 - p): (R, *shape)."""
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
    """Multiplies by masks that are drawn for all networks at once, outside of `vmap`."""

    @staticmethod
    def forward(x: Tensor, layer: nn.Module, noise: Noise) -> Tensor:
        raise RuntimeError("dropout was called outside of the stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to keep: `vmap` below is differentiated by itself."""

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
    """Batch normalization of all networks at once, outside of `vmap`, which fails on CUDA."""

    @staticmethod
    def forward(x: Tensor, *args: Any) -> Tensor:
        raise RuntimeError("batch normalization was called outside of the stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to keep: `vmap` below is differentiated by itself."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, *args: Any
    ) -> tuple[Tensor, int]:
        """The rule for R networks: channels of all of them side by side."""
        *tensors, options = args
        x = _by_network(info, in_dims[0], x)
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
        """Nothing to keep: `vmap` below is differentiated by itself."""

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
        torch._assert_async(((ids >= 0) & (ids < rows)).all(), "an id is not in the embedding")
        first = torch.arange(count, device=ids.device).view(-1, *[1] * (ids.ndim - 1)) * rows
        found = F.embedding(ids + first, tables.flatten(0, 1), scale_grad_by_freq=by_frequency)
        if padding is not None:
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


class Stack:
    """R networks of one architecture as one.

    ``torch.vmap`` runs the code of one network on tensors (R, ...) as if each were that of one
    network; so whatever a network does with its tensors, R do at once. Layers whose rule under
    vmap is missing, wrong, or draws other random numbers have stand-ins.

    Args:
        models: The R networks; their tensors are copied.

    Attributes:
        parameters: By name, (R, ...), leaves that require gradients where the networks' do.
        buffers: By name, (R, ...).
        noise: What dropout draws from in training.

    Raises:
        CannotStackError: No copy can be made of the network.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        first = models[0]
        device = next(first.parameters()).device
        self.noise = Noise(device)
        self.parameters: dict[str, nn.Parameter] = {
            name: nn.Parameter(stacked, parameter.requires_grad)
            for (name, parameter), stacked in zip(
                first.named_parameters(),
                _stacked([dict(model.named_parameters()) for model in models]),
                strict=True,
            )
        }
        names = [name for name, _ in first.named_buffers()]
        buffers = _stacked([dict(model.named_buffers()) for model in models])
        self.buffers = dict(zip(names, buffers, strict=True))
        self.base = _skeleton(first, self.noise)
        self._direct = isinstance(first, StackedForward)
        self._models = models
        self._remembered: tuple[list[Tensor], list[Tensor]] | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, without gradients: (R, ...)."""
        return {
            name: tensor.detach() for name, tensor in {**self.parameters, **self.buffers}.items()
        }

    def train(self, mode: bool = True) -> Stack:
        """Training mode, or evaluation mode."""
        self.base.train(mode)
        return self

    def __call__(self, inputs: Inputs) -> Output:
        """Logits (R, B, C) and features (R, B, D) of each network's own batch (R, B, ...).

        Raises:
            CannotStackError: Each network by itself can take its batch, the stack cannot.
            FailsAloneError: One of them by itself fails as well.
            RuntimeError: Out of memory.
        """
        try:
            return self._together(inputs)
        except Exception as error:
            if out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        # Torch has no error of its own for what vmap cannot do, nor always a word in the message
        # that tells: a plain RuntimeError may come of `.numpy()`, `view` or an operation in place,
        # and as well of a defect of the network. So the networks themselves are asked.
        if self._one_fails(inputs):
            raise FailsAloneError(reason)
        raise CannotStackError(reason)

    def remember(self) -> None:
        """Note what a forward pass in training changes: buffers, and where random streams stand."""
        self._remembered = [b.clone() for b in self.buffers.values()], list(self.noise.streams)

    def restore(self) -> None:
        """Bring back what was noted last."""
        if self._remembered is not None:
            for buffer, kept in zip(self.buffers.values(), self._remembered[0], strict=True):
                buffer.copy_(kept)
            self.noise.streams = self._remembered[1]

    def _together(self, inputs: Inputs) -> Output:
        if self._direct:
            output: Output = self.base.stacked(self.parameters, inputs)  # type: ignore[operator]
            return output
        values = vmap(self._one)(self.parameters, self.buffers, inputs)
        return Output(values[0], values[1] if len(values) > 1 else None)

    def _one(
        self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Inputs
    ) -> tuple[Tensor, ...]:
        call = _Caller(self.base, {**parameters, **buffers})
        output = forward(call, inputs)  # type: ignore[arg-type]
        if output.features is None:
            return (output.logits,)
        return output.logits, output.features

    def _one_fails(self, inputs: Inputs) -> bool:
        """Whether a network fails alone; on copies, as a forward pass may change statistics."""
        for number, model in enumerate(self._models):
            alone = copy.deepcopy(model).train(self.base.training)
            try:
                with seeded(0, self.noise.device):
                    forward(alone, map_tensors(lambda tensor, r=number: tensor[r], inputs))  # type: ignore[misc]
            except Exception:
                return True
        return False


class _Caller:
    """A network with other tensors, called like one."""

    def __init__(self, base: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self.base, self.tensors = base, dict(tensors)

    def __call__(self, inputs: Inputs) -> Any:
        return functional_call(self.base, self.tensors, (inputs,))


def _by_network(info: Any, dim: int | None, x: Tensor) -> Tensor:
    """What a rule of `vmap` is given, as (R, ...)."""
    return x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)


def _stacked(tensors: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    return [torch.stack([t[name].detach() for t in tensors]) for name in tensors[0]]


def _is_lookup(layer: nn.Embedding) -> bool:
    """Whether an embedding does nothing but look up rows of its table."""
    own = type(layer).forward is not nn.Embedding.forward
    return not (own or layer.sparse) and getattr(layer, "max_norm", None) is None


def _skeleton(model: nn.Module, noise: Noise) -> nn.Module:
    """A copy of a network whose own tensors are never used, with some layers replaced."""
    try:
        base = copy.deepcopy(model).to("meta")
    except Exception as error:
        raise CannotStackError(f"it cannot be copied: {error}") from error
    for parent in list(base.modules()):
        for name, child in parent.named_children():
            if isinstance(child, DROPOUTS):
                setattr(parent, name, _Dropout(child, noise))
                noise.wanted = True
            elif isinstance(child, NORMS) and child.momentum is not None:
                setattr(parent, name, _BatchNorm(child))
            elif isinstance(child, nn.Embedding) and _is_lookup(child):
                setattr(parent, name, _Embedding(child))
    return base
