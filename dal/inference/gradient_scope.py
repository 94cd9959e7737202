"""Of what a gradient is measured, and networks of which no sample has one of its own."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dal.inference.layer_tape import layer_title
from dal.models.base import last_layer
from dal.models.sparse import SparseLinear

Scope = Literal["all", "last", "input"]


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{what}={value!r} is unknown; choose one of {', '.join(choices)}")


def scope_parameters(model: nn.Module, scope: Scope) -> dict[str, Tensor]:
    """The trainable parameters a scope stands for, by name; none for the input."""
    sparse = isinstance(getattr(model, "head", None), SparseLinear)
    if scope == "last" and last_layer(model) is None and not sparse:
        raise ValueError(
            f"{type(model).__name__} has no last linear layer named 'head'; name it so and return "
            "an Output with features, or choose strategy.scope=all"
        )
    prefix = "head." if scope == "last" else ""
    found: dict[str, Tensor] = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.startswith(prefix)
    }
    if not found and scope != "input":
        raise ValueError(
            f"{type(model).__name__} has no trainable parameter in scope={scope!r}; set "
            "requires_grad on those that count, or choose another scope"
        )
    return {} if scope == "input" else found


def check_mode(name: str, module: nn.Module) -> None:
    """Refuse what makes a sample's gradient depend on the batch, or on chance."""
    title = layer_title(name, module)
    if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
        raise ValueError(
            f"{title} normalizes with the statistics of the batch, so no sample has a gradient of "
            "its own; call model.eval(), with track_running_stats=True"
        )
    if isinstance(module, _DropoutNd) and module.training and module.p > 0:
        raise ValueError(f"{title} is drawing random masks; call model.eval() first")
