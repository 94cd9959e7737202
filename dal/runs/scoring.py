"""Scores of a pool of one's own by a model of one's own, without a run."""

from __future__ import annotations

import copy
import difflib
import inspect
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import dal.query
from dal.data.items import Items
from dal.inference.dropout_masks import DropoutMasks, why_not
from dal.inference.pool_pass import auto_batch_size, evaluating, pool_pass
from dal.inference.probe import device_of, dtype_of, probe
from dal.learners.committees import Dropout, check_members
from dal.models.base import RETURN_FEATURES, Output, numel_in
from dal.predictor import Predictor
from dal.query.base import PoolView, ScoreStrategy, Strategy
from dal.query.needs import Decision, Features, History, Labels, LookAhead, Members, Scores
from dal.task import Multiclass, Multilabel, Task
from dal.utils.inputs import shapes_of
from dal.utils.numerics import pick_device
from dal.utils.ranges import check_whole

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset as TorchDataset

    Data = Tensor | np.ndarray[Any, Any] | Sequence[Any] | TorchDataset[Any] | DataLoader[Any]


def score(
    model: nn.Module | Predictor,
    data: Data,
    strategy: str | ScoreStrategy = "margin",
    *,
    batch_size: int | None = None,
    device: str = "auto",
    members: int = 20,
    seed: int = 0,
) -> Tensor:
    """Score every sample of a pool: higher means query first.

    One pass in evaluation mode, as in a run. Neither the module (its modes, buffers, gradients)
    nor the global random state changes.

    Args:
        model: A module whose ``forward`` returns logits (N, C), or a `dal.models.Output`, as
            features need; or what `dal.load` gives, which prepares raw inputs itself.
        data: The inputs as the model takes them: a tensor, array or list (N, ...), or several by
            name; a torch data set whose items are inputs, or tuples with the input first; or a
            loader of such, whose shuffling plays no part. Arrays opened with
            ``numpy.load(path, mmap_mode="r")`` are read batch by batch, however large they are.
            Numbers with a fraction become those of the model.
        strategy: Name of a score, such as ``entropy``, ``bald`` or ``expected_gradient_length``;
            or one with its options, such as ``ExpectedGradientLength(scope="last")``.
        batch_size: Samples at once; None for automatic.
        device: ``auto`` for where the module is; ``cpu``, ``cuda`` or ``cuda:1`` to score there
            with a copy.
        members: K, dropout samples of the module, for scores that compare members.
        seed: Of their masks.

    Returns:
        float, (N,), on the CPU, in the order of the data.

    Raises:
        ValueError: There is no such score, a score is not finite, or model and data do not fit.
        TypeError: The score needs what the module cannot give, or what no single model can.
    """
    if batch_size is not None:
        check_whole("batch_size", batch_size, 1)
    how = _named(strategy) if isinstance(strategy, str) else strategy
    _check_scorable(how)
    network, task, data = _parts(model, data)
    if device != "auto" and (where := pick_device(device)) != device_of(network):
        network = copy.deepcopy(network).to(where)
    items = Items(data, dtype_of(network))
    with evaluating(network):
        first = items.first()
        output = probe(network, first)
        task = task or _task_of(how, output.logits.shape[1])
        _check_answerable(how, network, output, task)
        numel = numel_in(network, shapes_of(first))
        size = min(batch_size or auto_batch_size(numel, device_of(network)), len(items))
        needs = frozenset({Scores(how)}) if how.fits_blocks else how.needs
        results, _ = pool_pass(
            network,
            items.take,
            torch.arange(len(items)),
            needs,
            task,
            device=device_of(network),
            batch_size=size,
            buckets=items.buckets,
            masks=_masks(how, network, members, seed, items),
        )
    if Members() in how.needs:
        check_members(results[Members()], "raise the dropout of the model")
    view = PoolView(
        torch.arange(len(items)),
        results,
        num_total=len(items),
        num_classes=output.logits.shape[1],
        multilabel=not task.exclusive,
    )
    return how.checked_scores(view).cpu()


def _parts(model: Any, data: Any) -> tuple[nn.Module, Task | None, Any]:
    """The network, the task where it is known, and the inputs as the network takes them."""
    if isinstance(model, Predictor):
        return model.model, model.task, model.split(data)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model is a {type(model).__name__}, not a module; scores of probabilities of any "
            "model are functions in dal.query, such as dal.query.margin(probs)"
        )
    return model, None, data


def _task_of(how: Strategy, classes: int) -> Task:
    """One class a sample, but for scores that are meant for several labels alone."""
    return Multiclass(classes) if "multiclass" in how.tasks else Multilabel(classes)


def _masks(
    how: Strategy, network: nn.Module, members: int, seed: int, items: Items
) -> DropoutMasks | None:
    if Members() not in how.needs:
        return None
    size, uncut = Dropout(members).size, items.uncut(device_of(network))
    return DropoutMasks(network, size, seed=seed, round_number=0, uncut=uncut)


def _check_answerable(how: Strategy, network: nn.Module, output: Output, task: Task) -> None:
    """Refuse a score that needs what this network cannot give."""
    title, name = type(how).__name__, type(network).__name__
    task.check_kind(how.tasks, title, name)
    if Features() in how.needs and output.features is None:
        raise TypeError(
            f"{title} looks at features, and {name} returns logits only; {RETURN_FEATURES}"
        )
    if Members() in how.needs and (reason := why_not(network)):
        raise TypeError(
            f"{title} compares members of a committee, and {name} {reason}; give dal.query's "
            "function of that name the members' own probabilities, (K, N, C)"
        )


def _check_scorable(how: Any) -> None:
    """Refuse what does not score single samples by one model."""
    if not isinstance(how, ScoreStrategy):
        kind = how if inspect.isclass(how) else type(how)
        _check_kind(kind)
        raise TypeError(
            f"strategy is a {kind.__name__}; give the name of a score, such as 'margin'"
        )
    for need in how.needs:
        if type(need) in _BEYOND:
            raise TypeError(f"{type(how).__name__} needs {_BEYOND[type(need)]}")


def _check_kind(kind: type) -> None:
    """Refuse strategies that choose without scores."""
    if issubclass(kind, Strategy) and not issubclass(kind, ScoreStrategy):
        raise TypeError(
            f"{kind.__name__} chooses samples and scores none by itself; use it in dal.run, or "
            f"choose a score: {', '.join(_scores())}"
        )


_BEYOND = {
    History: "the models of several rounds; use it in dal.run, or give dal.query.instability the "
    "probabilities that you kept, (T, N, C)",
    Decision: "decision values, which scikit-learn's machines have; use it in dal.run with such a "
    "model, or give dal.query.hyperplane what decision_function returns",
    LookAhead: "the labeled samples as well; use it in dal.run",
    Labels: "the labels so far; use it in dal.run",
}


def _named(name: str) -> Any:
    """The strategy of a name, with its own defaults."""
    found = _classes().get(name.replace("_", "").lower())
    if found is None:
        close = difflib.get_close_matches(name, _scores(), 1)
        remedy = f"did you mean {close[0]}?" if close else f"choose from {', '.join(_scores())}"
        raise ValueError(f"there is no score {name}; {remedy}")
    _check_kind(found)
    if _needs_arguments(found):
        raise TypeError(
            f"{name} is made of other scores; give it as an object, such as "
            f"dal.query.{found.__name__}(...)"
        )
    return found()


@cache
def _classes() -> dict[str, type[Strategy]]:
    """Every strategy by its name in small letters, and by that of its option."""
    public = [getattr(dal.query, name) for name in dal.query.__all__]
    found = {
        each.__name__.lower(): each
        for each in public
        if inspect.isclass(each) and issubclass(each, Strategy) and not inspect.isabstract(each)
    }
    options = {
        "multilabelmeanentropy": "meanbinaryentropy",
        "multilabelmaxentropy": "maxbinaryentropy",
    }
    powers = dict.fromkeys(("powerbald", "softmaxbald", "softrankbald"), "stochasticbatch")
    return found | {option: found[name] for option, name in (options | powers).items()}


def _needs_arguments(strategy: type[Strategy]) -> bool:
    parameters = inspect.signature(strategy).parameters.values()
    return any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)


@cache
def _scores() -> tuple[str, ...]:
    """The names of what scores single samples by one model."""
    singles = [
        each
        for each in dict.fromkeys(_classes().values())
        if issubclass(each, ScoreStrategy)
        and not _needs_arguments(each)
        and not {type(need) for need in each().needs} & set(_BEYOND)
    ]
    snake = (re.sub(r"(?<=[a-z])(?=[A-Z])", "_", each.__name__).lower() for each in singles)
    return tuple(sorted(snake))
