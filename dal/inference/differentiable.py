"""What a network gives of inputs or features, with the graph that gradients go back through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from dal.inference.dropout_masks import DropoutMasks
from dal.inference.pool_pass import evaluating
from dal.models.base import Output, forward, last_layer
from dal.query.needs import Features, Members, Need, Needs, Probs
from dal.task import Task


def answers_of(
    model: nn.Module,
    needs: Needs,
    task: Task,
    of: Literal["inputs", "features"],
    masks: DropoutMasks | None = None,
) -> Callable[[Tensor], dict[Need, Tensor]]:
    """A function that answers needs with gradients; see `dal.learners.base.Learner.differentiable`.

    It is that of the network in evaluation mode, in float32; probabilities are made in float64, in
    which they vanish much later.

    Args:
        model: The network.
        needs: Any of `Probs`, `Features` and, with ``masks``, `Members`.
        task: Turns logits into probabilities.
        of: What the function is given.
        masks: The members, where these are asked for.

    Raises:
        TypeError: A need has no such gradient, or the network no last layer.
    """
    head = last_layer(model)
    for need in sorted(needs, key=repr):
        if need not in (Probs(), Features(), Members()):
            raise TypeError(f"{need} has no gradient")
        if need == Members() and of == "features":
            raise TypeError("members of a committee differ before the last layer")
    if of == "features" and head is None:
        raise TypeError(f"{type(model).__name__} has no last linear layer named head")

    def run(x: Tensor) -> Output:
        if of == "inputs":
            return forward(model, x)
        assert head is not None
        return Output(head(x), x)

    def probs(logits: Tensor) -> Tensor:
        return task.probs(logits.double()).clamp(min=torch.finfo(torch.float64).tiny)

    def answers(x: Tensor) -> dict[Need, Tensor]:
        with evaluating(model), torch.enable_grad():
            found: dict[Need, Tensor] = {}
            if needs - {Members()}:
                output = run(x)
                found[Probs()] = probs(output.logits)
                if Features() in needs and output.features is not None:
                    found[Features()] = output.features
            if Members() in needs:
                assert masks is not None
                members = []
                for number in range(masks.size):
                    with masks.member(number):
                        members.append(probs(run(x).logits))
                found[Members()] = torch.stack(members)
        return found

    return answers
