"""Networks of one architecture as one: every tensor of theirs stacked along a leading dimension."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn, vmap
from torch.func import functional_call

from dal.lockstep.stand_ins import Noise, replace_layers
from dal.models.base import Output, StackedForward, forward
from dal.utils.inputs import Inputs, map_tensors
from dal.utils.memory import out_of_memory
from dal.utils.seeding import seeded


class CannotStackError(Exception):
    """Networks that work one by one cannot be worked on as one; says what went wrong."""


class FailsAloneError(Exception):
    """A network of a stack fails on its own batch by itself too; its own error says why."""


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
        """All of them by name, (R, ...): the same memory, seen without gradients."""
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


def _stacked(tensors: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    return [torch.stack([t[name].detach() for t in tensors]) for name in tensors[0]]


def _skeleton(model: nn.Module, noise: Noise) -> nn.Module:
    """A copy of a network, with some layers replaced, that is called with other tensors.

    Its own take no memory (device ``meta``), and any that is used by mistake is an error.
    """
    try:
        base = copy.deepcopy(model).to("meta")
    except Exception as error:
        raise CannotStackError(f"it cannot be copied: {error}") from error
    replace_layers(base, noise)
    return base
