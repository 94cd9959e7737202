"""Learners whose work waits until it can be done for several runs at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dal.data.source import Source, Split
from dal.learners.base import Learner, RoundContext
from dal.learners.network import TorchLearner
from dal.lockstep.engine import Engine, Replica, Request
from dal.lockstep.fit import StackedFit, advance, ends_stacking
from dal.lockstep.passes import stacked_logits, stacked_scan
from dal.lockstep.stack import CannotStackError
from dal.lockstep.stand_ins import why_not
from dal.lockstep.works import FitWork, PredictWork, ScanWork, Work, order_of
from dal.models.text_transformer import Attention
from dal.query.base import PoolView
from dal.query.needs import Features, Need, Needs, Probs, of_candidates, of_others
from dal.task import Task
from dal.train_set import TrainSet
from dal.training.context import FitState
from dal.training.fit import Fit
from dal.training.trainer import Trainer
from dal.utils.memory import out_of_memory
from dal.utils.signals import PreemptedError

log = logging.getLogger(__name__)

Mode = Literal["auto", "true", "false"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BUSY = 1_000_000
"""Weights of convolutions from which a network keeps a GPU busy by itself."""
STACKABLE_NEEDS = frozenset({Probs, Features})


class LockstepLearner(Learner):
    """Stands in for a `TorchLearner`: same answers, which come when the others have asked too.

    Args:
        learner: The learner of one run.
        replica: The run's place among those that take turns.
        replicas: How many networks are stacked; 1 if each is worked on alone.
    """

    def __init__(self, learner: TorchLearner, replica: Replica, replicas: int) -> None:
        self.learner, self._replica, self._replicas = learner, replica, replicas
        self.capabilities = learner.capabilities
        self._kind = _kind(learner)

    def fit(self, train_set: TrainSet, context: RoundContext) -> FitState:
        """See `TorchLearner.fit`.

        Fits are stacked that stand at the same step: of as many samples, epochs, and steps within
        the epoch. Samples have weights in all of them or in none, and are cut to one length.
        """
        work, saved = FitWork(self.learner, train_set, context), context.resume or {}
        equal = bool((train_set.weights == 1).all())
        result: FitState
        if saved.get("stopped"):  # saved after its last epoch: only its end is left to do
            result = self._ask_alone(work)
        else:
            within = len(saved["within"][0].get("losses", ())) if saved else 0
            held_out = len(context.validation or ())
            sizes = len(train_set), held_out, saved.get("epoch", 0), within
            length = self.learner.source.train.length(train_set.indices)
            result = self._ask(work, *sizes, equal, length)
        return result

    @property
    def task(self) -> Task:  # type: ignore[override]
        """See `TorchLearner.task`."""
        return self.learner.task

    @property
    def source(self) -> Source:  # type: ignore[override]
        """See `TorchLearner.source`."""
        return self.learner.source

    def aside(self, source: Source) -> Learner:
        """See `Learner.aside`: one that waits for no other run."""
        return self.learner.aside(source)

    def decide(self, train_set: TrainSet, context: RoundContext) -> None:
        """See `TorchLearner.decide`."""
        self.learner.decide(train_set, context, self.predict)

    def scan(
        self,
        indices: Tensor,
        needs: Needs,
        context: RoundContext,
        train_set: TrainSet | None = None,
    ) -> PoolView:
        """See `TorchLearner.scan`."""
        work = ScanWork(self.learner, indices, needs, context, train_set)
        labeled = 0 if train_set is None else len(train_set)
        if {type(need) for need in needs} - STACKABLE_NEEDS:
            alone: PoolView = self._ask_alone(work)
            return alone
        view: PoolView = self._ask(work, len(indices), labeled, len(context.rejected))
        return view

    def predict(self, split: Split, context: RoundContext) -> Tensor:
        """See `TorchLearner.predict`."""
        logits: Tensor = self._ask(PredictWork(self.learner, split, context), len(split))
        return logits

    def differentiable(
        self, needs: Needs, context: RoundContext, of: Literal["inputs", "features"] = "inputs"
    ) -> Callable[[Tensor], dict[Need, Tensor]]:
        """See `TorchLearner.differentiable`."""
        return self.learner.differentiable(needs, context, of)

    def _ask(self, work: Work, *sizes: Hashable) -> Any:
        request = Request(order_of(work), None, work)
        if self._replicas > 1:
            request.key = (self._kind, request.threads, self.learner.batch_size, *sizes)
        return self._replica.ask(request)

    def _ask_alone(self, work: Work) -> Any:
        return self._replica.ask(Request(order_of(work), None, work))

    def check_needs(self, needs: Needs, strategy: str) -> None:
        """See `TorchLearner.check_needs`."""
        self.learner.check_needs(needs, strategy)

    def state_dict(self) -> dict[str, Any]:
        """See `TorchLearner.state_dict`.

        Copies: a network's tensors may be views of a stack, all of which would be saved.
        """
        state = self.learner.state_dict()
        return state | {"model": {name: t.clone() for name, t in state["model"].items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `TorchLearner.load_state_dict`."""
        self.learner.load_state_dict(state)

    def fingerprint(self) -> str:
        """See `TorchLearner.fingerprint`."""
        return self.learner.fingerprint()

    def numerics(self) -> dict[str, Any]:
        """See `TorchLearner.numerics`."""
        return self.learner.numerics() | {"replicas": self._replicas}

    def export(self, run_dir: Path) -> None:
        """See `TorchLearner.export`."""
        self.learner.export(run_dir)


class Lockstep:
    """Does the work of several learners, stacked where that is possible and pays.

    Args:
        count: R, the number of runs.
        mode: ``true`` stacks whatever can be stacked, ``false`` nothing; ``auto`` leaves out what
            is no faster together: networks with convolutions or attention on a CPU, those with many
            convolutions on a GPU.

    Attributes:
        count: R.
        done: How often a ``fit``, ``predict`` or ``scan`` was done for so many runs at once; 1 for
            those of a run by itself. A stack of fits that parts counts as fits of each by itself.
    """

    def __init__(self, count: int, mode: Mode = "auto") -> None:
        self.count, self._mode = count, mode
        self.done: Counter[tuple[str, int]] = Counter()
        self._refused: set[Hashable] = set()
        self.engine = Engine(self._execute)

    def wrap(self, learner: Learner, replica: Replica) -> Learner:
        """The learner for a run in lockstep; those that are no single network stay as they are."""
        if type(learner) is not TorchLearner:
            return learner
        return LockstepLearner(learner, replica, self.count if self._pays(learner) else 1)

    def _pays(self, learner: TorchLearner) -> bool:
        trainer = learner.trainer
        if self._mode == "false" or type(trainer) is not Trainer:
            return False
        reason = why_not(learner.model)
        if trainer.dtype != torch.float32:
            if self._mode == "auto":
                return False
            name = str(trainer.dtype).removeprefix("torch.")
            reason = f"trainer.precision={name}; float32 can be"
        if reason:
            reason = f"these runs go on one by one, as they cannot be stacked: {reason}"
            self._refuse(_kind(learner), reason)
            return False
        modules = list(learner.model.modules())
        on_cpu = learner.device.type == "cpu"
        if self._mode == "auto" and on_cpu and any(isinstance(m, Attention) for m in modules):
            return False
        weights = sum(m.weight.numel() for m in modules if isinstance(m, CONVOLUTIONS))
        limit = 1 if on_cpu else BUSY
        return self._mode == "true" or weights < limit

    def _execute(self, requests: list[Request]) -> None:
        """Do work of one kind: together if it can be, else one by one."""
        torch.set_num_threads(requests[0].threads)
        for request in requests:
            request.attempt(request.work.context.check)
        waiting = [request for request in requests if request.error is None]
        if len(waiting) > 1:
            kind = waiting[0].work.name, _kind(waiting[0].work.learner)
            if kind not in self._refused and self._together(kind, waiting):
                return
        for request in waiting:
            if request.error is None:
                request.result = request.attempt(request.work.alone)
                self.done[request.work.name, 1] += 1

    def _together(self, kind: Hashable, requests: Sequence[Request]) -> bool:
        """Do work for all at once; gives whether it is done, with results or with errors.

        What ends no stack, see `ends_stacking`, is a defect, and ends the runs.
        """
        works, count = [request.work for request in requests], len(requests)
        try:
            if isinstance(works[0], FitWork):
                self._fit(kind, requests)
            else:
                results = _scan(works) if isinstance(works[0], ScanWork) else _predict(works)
                for request, result in zip(requests, results, strict=True):
                    request.result = result
                self.done[works[0].name, count] += 1
        except PreemptedError as error:
            for request in requests:
                request.error = PreemptedError(error.signum)
        except Exception as error:
            if ends_stacking(error):
                self._parted(kind, count, error)
                return False
            for request in requests:
                request.error = request.error or error
        return True

    def _fit(self, kind: Hashable, requests: Sequence[Request]) -> None:
        """Begin the fits, each on behalf of its run, and fit together those that have begun."""
        begun = [(request, request.attempt(_begun, request.work)) for request in requests]
        going = [(request, fit) for request, fit in begun if request.error is None]
        if not going:
            return
        fits = [fit for _, fit in going]

        def attempt(number: int, function: Callable[[], Any]) -> bool:
            request, fit = going[number]
            request.attempt(function)
            request.result = fit.state
            return request.error is None

        learners = [request.work.learner for request, _ in going]
        contexts = [request.work.context for request, _ in going]
        pairs = zip(contexts, learners, strict=True)
        splits = [context.validation_part(learner.source) for context, learner in pairs]
        evaluate = None if splits[0] is None else partial(_evaluate, learners, splits)
        together = advance(fits, attempt, evaluate, partial(self._parted, kind, len(fits)))
        size = len(fits) if together else 1
        self.done["fit", size] += len(fits) // size

    def _parted(self, kind: Hashable, count: int, error: Exception) -> None:
        """Say why networks go on one by one.

        Nothing is said of a network that fails by itself: its run ends with the error, and says so;
        the others can be stacked again.
        """
        if out_of_memory(error):
            self._refuse(
                kind,
                f"memory ran out for {count} networks at once; these runs go on one by one (fewer "
                "replicas at a time need less)",
            )
        elif isinstance(error, CannotStackError):
            reason = f"these runs go on one by one, as they cannot be stacked: {error}"
            self._refuse(kind, reason)

    def _refuse(self, kind: Hashable, reason: str) -> None:
        if kind not in self._refused:
            self._refused.add(kind)
            log.warning("%s", reason)


def _begun(work: FitWork) -> Fit:
    learner = work.learner
    learner.restart(work.context)
    samples, context = learner.prepare(work.train_set, work.context)
    return learner.trainer.begin(learner.model, samples, learner.task, context)


def _evaluate(
    learners: Sequence[TorchLearner], all_splits: Sequence[Split | None], stacked: StackedFit
) -> list[dict[str, float]]:
    chosen = [learners[number] for number in stacked.numbers]
    splits = [split for number in stacked.numbers if (split := all_splits[number]) is not None]
    logits = stacked_logits(
        stacked.stack,
        splits,
        chosen[0].device,
        chosen[0].batch_size,
        stacked.fits[0].context.check,
    )
    return [
        learner.judged(own, split.targets.to(learner.device))
        for learner, split, own in zip(chosen, splits, logits, strict=True)
    ]


def _predict(works: Sequence[PredictWork]) -> list[Tensor]:
    first = works[0]
    logits = stacked_logits(
        [work.learner.model for work in works],
        [work.split for work in works],
        first.learner.device,
        first.learner.batch_size,
        first.context.check,
    )
    return [own.clone() for own in logits.cpu()]


def _scan(works: Sequence[ScanWork]) -> list[PoolView]:
    """One pass for all computes what any of them needs; none where none does."""
    needs = frozenset[Need]().union(*(work.needs for work in works))
    learners = [work.learner for work in works]
    indices = [work.indices for work in works]
    check = works[0].context.check
    results = stacked_scan(learners, indices, frozenset(filter(of_candidates, needs)), check)
    for of, wanted in of_others(needs).items():
        rows = [work.context.rows(of, work.train_set) for work in works]
        count = len(rows[0])
        some = rows if count else [own[:1] for own in indices]
        found = stacked_scan(learners, some, frozenset(wanted), check)
        for own, more in zip(results, found, strict=True):
            own |= {need: more[kind][:count] for kind, need in wanted.items()}
    return [
        PoolView(
            work.indices,
            {need: own[need] for need in work.needs},
            num_total=len(work.learner.source.train),
            num_classes=work.learner.source.num_classes,
            multilabel=not work.learner.task.exclusive,
        )
        for work, own in zip(works, results, strict=True)
    ]


def _kind(learner: TorchLearner) -> tuple[Hashable, ...]:
    """What learners must share to be stacked: trainer, architecture, number of classes, device."""
    shapes = tuple((name, t.shape, t.dtype) for name, t in learner.model.state_dict().items())
    validation = learner.source.validation
    return (
        (id(learner.trainer), id(learner.make_model), repr(learner.task)),
        (type(learner.model), repr(learner.model), shapes),
        (str(learner.device), learner.source.num_classes, repr(learner.source.input_shape)),
        -1 if validation is None else len(validation),
    )
