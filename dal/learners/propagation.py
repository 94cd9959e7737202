"""The learner of labels that spread along a graph of the whole training part."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data.feature_rows import feature_rows
from dal.data.source import Source, Split
from dal.export import save_model
from dal.inference.pool_pass import batch_size_for
from dal.learners.base import Learner, RoundContext
from dal.learners.estimator import LEARNED
from dal.models.base import MakeModel
from dal.models.label_propagation import FLOOR, LabelPropagation, Spread, spread_labels
from dal.query.base import PoolView
from dal.query.graph import neighbor_graph
from dal.query.needs import Features, Need, Needs, Probs, of_candidates, of_others
from dal.task import Task
from dal.train_set import TrainSet
from dal.training.context import FitState
from dal.utils.inputs import numel_of
from dal.utils.memory import check_memory
from dal.utils.ranks import current

log = logging.getLogger(__name__)


class PropagationLearner(Learner):
    """Labels spread along the graph of the training part; samples elsewhere ask their neighbors.

    The graph joins labeled and unlabeled samples of the training part, and those beyond it that
    got labels; never those of the test or validation part. It is made once; a round's fit spreads
    the labels anew. The state is the labels, and loading it spreads them again, to the same bits.

    Args:
        make_model: Gives a `LabelPropagation`.
        source: The data.
        task: Loss and metrics.
        device: Where neighbors are looked for; labels spread on the CPU.
        batch_size: Samples whose neighbors are looked for at once; None for automatic.
        built: What ``make_model`` gave.

    Raises:
        TypeError: The targets are not classes, or several processes share the run.
        ValueError: The samples do not fit into memory.
    """

    capabilities = frozenset({Probs, Features})

    def __init__(
        self,
        make_model: MakeModel,
        source: Source,
        task: Task,
        *,
        device: torch.device,
        batch_size: int | None = None,
        built: LabelPropagation,
    ) -> None:
        if not task.exclusive:
            raise TypeError(
                f"label_propagation takes multiclass targets, and those of {source.name} are "
                f"{task.kind}; choose a network, such as model=mlp"
            )
        if current().world_size > 1:
            raise TypeError(
                "label_propagation is fitted by one process; start the run without torchrun"
            )
        numel = numel_of(source.input_shape)
        check_memory(8 * numel * len(source.train), f"model=label_propagation of {source.name}")
        self.make_model, self.source, self.task, self.device = make_model, source, task, device
        self.model = built.to(device)
        self.batch_size = batch_size_for(batch_size, numel, len(source.train), device)
        self._asked_batch_size = batch_size and self.batch_size
        self._home = source
        self._train_set: TrainSet | None = None
        self._count = 0
        self._nodes = torch.empty(0, dtype=torch.int64)
        self._graph: Any = None
        self._fitted = False
        self._near: list[tuple[Split, Tensor, Tensor]] = []
        self._told: set[str] = set()

    def fit(self, train_set: TrainSet, context: RoundContext) -> FitState:
        """Spread the labels; the record shows one epoch without steps.

        Raises:
            ValueError: There are no labels, or samples are not finite.
        """
        if len(train_set) == 0:
            raise ValueError("there are no labeled samples to learn from; raise initial.count")
        self._train_set, self._count = train_set, len(self.source.train)
        spread = self._fit(train_set, context)
        self._tell_of(spread, train_set)
        metrics = self._measure(train_set, context) | {"train/power": spread.power}
        state = FitState(epoch=1, best_epoch=0, history=[metrics], stopped="fitted")
        context.on_epoch(state, dict)
        return state

    def scan(
        self,
        indices: Tensor,
        needs: Needs,
        context: RoundContext,
        train_set: TrainSet | None = None,
    ) -> PoolView:
        """What the labels say of the candidates, of which the graph has all; and their inputs."""
        results: dict[Need, Tensor] = {}
        for of, wanted in of_others(needs).items():
            rows = context.rows(of, train_set)
            results |= {need: self._answer(rows, kind, context) for kind, need in wanted.items()}
        for need in filter(of_candidates, needs):
            results[need] = self._answer(indices, need, context)
        return PoolView(
            indices,
            results,
            num_total=len(self.source.train),
            num_classes=self.source.num_classes,
            multilabel=not self.task.exclusive,
        )

    def predict(self, split: Split, context: RoundContext) -> Tensor:
        """Logarithms of the class probabilities, by the nearest samples of the graph."""
        self._ready(context)
        return _logits(self.model.mixed(*self._near_of(split, context)))

    def state_dict(self) -> dict[str, Any]:
        """The labels, how many samples the training part had, and the batch size."""
        state: dict[str, Any] = {"batch_size": self.batch_size, "count": self._count}
        if self._train_set is not None:
            state |= {name: getattr(self._train_set, name) for name in LEARNED}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the first question spreads the labels again."""
        self.batch_size = self._asked_batch_size or state["batch_size"]
        self._count, self._train_set, self._fitted = state["count"], None, False
        if "indices" in state:
            self._train_set = TrainSet(*(state[name] for name in LEARNED))

    def fingerprint(self) -> str:
        """Digest of the settings, which decide what labels say."""
        of = self.model
        told = "LabelPropagation", of.neighbors, of.alpha, of.metric, of.balanced
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def numerics(self) -> dict[str, Any]:
        """Batch size, and the version of the library that spreads."""
        import scipy

        return {
            "batch_size": self.batch_size,
            "precision": "float64",
            "scipy": scipy.__version__,
            "world_size": 1,
            "replicas": 1,
        }

    def export(self, run_dir: Path) -> None:
        """See `dal.export.save_model`; as large as the inputs of the training part."""
        self._ready(RoundContext())
        save_model(run_dir, self.model, self.make_model, self.source)

    def check_needs(self, needs: Needs, strategy: str) -> None:
        """See `Learner.check_needs`."""
        for need in sorted(needs, key=repr):
            if type(need) not in self.capabilities:
                raise TypeError(
                    f"{strategy} needs {need}, and label_propagation gives probabilities and "
                    "features alone; choose another strategy, or committee=rounds where it "
                    "compares members of a committee"
                )

    def _ready(self, context: RoundContext) -> None:
        if not self._fitted:
            if self._train_set is None:
                raise RuntimeError("label_propagation has not been fitted yet; call fit first")
            self._fit(self._train_set, context)

    def _fit(self, train_set: TrainSet, context: RoundContext) -> Spread:
        """Spread labels along the graph, which is made where there is none of these samples."""
        beyond = train_set.indices[train_set.indices >= self._count]
        nodes = torch.cat(
            [torch.arange(self._count), torch.tensor(sorted({*beyond.tolist()}), dtype=torch.int64)]
        )
        self._fitted = False
        if not torch.equal(nodes, self._nodes):
            self._nodes = torch.empty(0, dtype=torch.int64)  # until all of it is there
            split = self._home.train.part(nodes)
            rows = feature_rows(split, "label_propagation", context.check).to(self.device)
            self.model.take(rows, torch.empty(0, self.source.num_classes))
            shown = f"round {context.round}: neighbors"
            points, k = self.model.points, self.model.neighbors
            self._graph, self._near = neighbor_graph(points, k, context.check, shown), []
            self._nodes = nodes
        spread = spread_labels(
            self._graph,
            torch.searchsorted(nodes, train_set.indices),
            train_set.targets,
            train_set.weights,
            self.source.num_classes,
            self.model.alpha,
            self.model.balanced,
            context.check,
        )
        self.model.take(self.model.nodes, spread.probs)
        self._fitted = True
        return spread

    def _answer(self, indices: Tensor, need: Need, context: RoundContext) -> Tensor:
        """What answers a need for samples of the training part, or beyond it: float32, (N, ...)."""
        self._ready(context)
        places = torch.searchsorted(self._nodes, indices).clamp(max=len(self._nodes) - 1)
        of_graph = self._nodes[places] == indices
        if self.source is not self._home:
            of_graph = torch.zeros_like(of_graph)
        held = self.model.nodes if isinstance(need, Features) else self.model.probs
        found = held.new_empty(len(indices), held.shape[1])
        found[of_graph.to(held.device)] = held[places[of_graph].to(held.device)]
        others = (~of_graph).nonzero().squeeze(1)
        for start in range(0, len(others), self.batch_size):
            context.check()
            batch = others[start : start + self.batch_size]
            rows = feature_rows(self.source.train.part(indices[batch]), "label_propagation")
            rows = rows.to(self.device)
            asked = rows if isinstance(need, Features) else self.model.mixed(*self.model.near(rows))
            found[batch.to(held.device)] = asked
        return found

    def _near_of(self, split: Split, context: RoundContext) -> tuple[Tensor, Tensor]:
        """Whom the samples of a part ask, which is kept for test and validation part."""
        for known, *near in self._near:
            if known is split:
                return near[0], near[1]
        found = []
        for batch in torch.split(torch.arange(len(split)), self.batch_size):
            context.check()
            rows = feature_rows(split.part(batch), "label_propagation")
            found.append(self.model.near(rows.to(self.device)))
        positions, weights = (torch.cat(each) for each in zip(*found, strict=True))
        if split is self._home.test or split is self._home.validation:
            self._near.append((split, positions, weights))
        return positions, weights

    def _measure(self, train_set: TrainSet, context: RoundContext) -> dict[str, float]:
        """Loss and accuracy on the labels, and the metrics of the validation part."""
        logits = _logits(self._answer(train_set.indices, Probs(), context))
        targets, validation = train_set.targets, context.validation_part(self.source)
        metrics = {
            "train/loss": float(self.task.loss(logits, targets, train_set.weights)),
            "train/accuracy": float((logits.argmax(1) == targets).double().mean()),
        }
        if validation is not None:
            values, _ = self.task.evaluate(self.predict(validation, context), validation.targets)
            metrics |= {f"val/{name}": value for name, value in values.items()}
        return metrics

    def _tell_of(self, spread: Spread, train_set: TrainSet) -> None:
        classes = sorted({*train_set.targets.tolist()})
        if len(classes) == 1:
            name = self.source.class_names[classes[0]]
            self._tell(f"all labels so far are {name!r}: it is predicted for everything")
        if spread.unreached:
            known = (
                "all classes"
                if len(classes) == self.source.num_classes
                else (f"the {len(classes)} classes that have labels")
            )
            self._tell(
                f"the graph has parts without a label: {spread.parts}, of {spread.unreached} "
                f"samples; there {known} are equally probable. Raise model.neighbors to join them"
            )

    def _tell(self, message: str) -> None:
        """Warn, once a run of each kind of message."""
        if (kind := message[:20]) not in self._told:
            self._told.add(kind)
            log.warning("label_propagation: %s", message)


def _logits(probs: Tensor) -> Tensor:
    return probs.clamp(min=FLOOR).log().cpu()
