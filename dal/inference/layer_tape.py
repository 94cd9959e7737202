"""Which layers hold a network's trainable parameters, and what passed through them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dal.inference.layer_gradients import covers, squared_lengths
from dal.utils.inputs import Inputs, map_tensors, num_samples, tensors_of


class NotCovered(Exception):  # noqa: N818 - a verdict that the caller acts on, not an error
    """The fast path cannot measure this network; the message says which layer, and why."""


class _Use(NamedTuple):
    """One call of a layer: its input, its tensors' versions, and where its output's gradient is."""

    inputs: Inputs
    versions: list[int]
    edge: GradientEdge | None


def layer_title(name: str, layer: nn.Module) -> str:
    """Name and type, for messages: ``conv1 (Conv2d)``."""
    return f"{name or 'the network itself'} ({type(layer).__name__})"


def trainable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that own trainable parameters, by name.

    Raises:
        NotCovered: One of them is of a type without a formula, or two share a parameter.
    """
    layers: dict[str, nn.Module] = {}
    owner: dict[nn.Parameter, str] = {}
    for name, layer in model.named_modules():
        own = [p for p in layer._parameters.values() if p is not None and p.requires_grad]
        if own and not covers(layer):
            raise NotCovered(f"{layer_title(name, layer)} is not a layer it has a formula for")
        for parameter in own:
            layers[name] = layer
            if owner.setdefault(parameter, name) != name:
                raise NotCovered(f"{layer_title(name, layer)} shares parameters with another layer")
    return layers


class LayerTape:
    """Records, during one forward pass in a ``with`` block, what each layer is given and gives.

    Of outputs it keeps the place in the autograd graph, not the tensor: an operation in place after
    the layer (``ReLU(inplace=True)``) gives the same tensor another place, while the gradient that
    the layer's rule asks for is that of the output before it. Of inputs it keeps the tensor itself
    and how often that tensor has been changed in place: `squares` refuses inputs that have changed
    since, as autograd does, because a rule would read the new values.

    Args:
        layers: By name.
        batch: B, the number of samples of the pass.
    """

    def __init__(self, layers: dict[str, nn.Module], batch: int) -> None:
        self._layers = layers
        self._batch = batch
        self._uses: dict[str, list[_Use]] = {name: [] for name in layers}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(self._hook(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def record(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if len(args) != 1 or not _is_inputs(args[0]) or not isinstance(output, Tensor):
                raise NotCovered(f"{layer_title(name, layer)} is not called with one tensor alone")
            if num_samples(args[0]) != self._batch or output.shape[0] != self._batch:
                raise NotCovered(f"{layer_title(name, layer)} has no sample axis in front")
            edge = get_gradient_edge(output) if output.requires_grad else None
            held = map_tensors(Tensor.detach, args[0])
            self._uses[name].append(_Use(held, _versions(args[0]), edge))

        return record

    def squares(self, logits: Tensor, units: Tensor, label_step: int) -> dict[str, Tensor]:
        """Squared gradient length of every layer: (B, L) each.

        Args:
            logits: (B, C), of the recorded forward pass, with its graph.
            units: (L, B, C), cotangents of the logits, one row per label.
            label_step: Labels at a time; bounds the memory.

        Raises:
            NotCovered: A layer was not called exactly once, or its input was changed afterwards.
        """
        uses = {name: self._single_use(name) for name in self._layers}
        parts = [
            _squares(self._layers, uses, logits, part) for part in torch.split(units, label_step)
        ]
        return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}

    def _single_use(self, name: str) -> _Use:
        title = layer_title(name, self._layers[name])
        if len(self._uses[name]) != 1:
            raise NotCovered(f"{title} was called {len(self._uses[name])} times in one pass, not 1")
        use = self._uses[name][0]
        if _versions(use.inputs) != use.versions:
            raise NotCovered(f"{title} has an input that is changed in place after its use")
        return use


def _is_inputs(given: Any) -> bool:
    """Whether it is a tensor, or tensors by name of as many rows each."""
    tensors = list(given.values()) if isinstance(given, dict) else [given]
    if not all(isinstance(tensor, Tensor) and tensor.dim() > 0 for tensor in tensors):
        return False
    return len({len(tensor) for tensor in tensors}) == 1


def _versions(inputs: Inputs) -> list[int]:
    """How often each tensor has been changed in place."""
    return [tensor._version for tensor in tensors_of(inputs)]


def _squares(
    layers: dict[str, nn.Module], uses: dict[str, _Use], logits: Tensor, units: Tensor
) -> dict[str, Tensor]:
    """Backward once per label, then layer by layer; what cannot reach the logits is left out.

    A sample's logits depend on that sample alone, so the gradient of ``Σ_b u_b·z_b`` holds in row b
    what the sample by itself would have given for its cotangent u_b: one pass serves the batch.
    """
    edges = {name: use.edge for name, use in uses.items() if use.edge is not None}
    deltas: dict[str, Tensor] = {}
    for label, unit in enumerate(units):
        gradients = _cotangents(logits, list(edges.values()), unit)
        for name, gradient in zip(edges, gradients, strict=True):
            if gradient is not None:
                _put(deltas, name, gradient, label, len(units))
    return {
        name: squared_lengths(layers[name], uses[name].inputs, delta)
        for name, delta in deltas.items()
    }


def _put(deltas: dict[str, Tensor], name: str, gradient: Tensor, label: int, labels: int) -> None:
    """Copy one label's cotangents into the layer's (B, L, ...); what autograd gave is freed."""
    if name not in deltas:
        deltas[name] = gradient.new_empty(len(gradient), labels, *gradient.shape[1:])
    deltas[name][:, label] = gradient


def _cotangents(
    logits: Tensor, edges: list[GradientEdge], unit: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradient at each layer's output; the graph is kept for the labels that follow."""
    return torch.autograd.grad(logits, edges, unit, retain_graph=True, allow_unused=True)
