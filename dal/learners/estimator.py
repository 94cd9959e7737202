"""The learner for scikit-learn classifiers: fitted anew on all labels of every round."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data.source import Source, Split
from dal.export import save_estimator
from dal.inference.pool_pass import batch_size_for
from dal.learners.base import Learner, RoundContext
from dal.learners.committees import check_members
from dal.learners.look_ahead import reference_positions, retrained_risk
from dal.models.base import MakeModel, build_model
from dal.models.estimators.fitted import (
    Fitted,
    as_floats,
    fit_estimator,
    takes_weights,
    to_logits,
    torch_threads,
)
from dal.query.base import PoolView
from dal.query.needs import (
    Decision,
    Features,
    GradNorms,
    LookAhead,
    Members,
    Need,
    Needs,
    Probs,
    of_candidates,
    of_others,
)
from dal.task import Task
from dal.train_set import TrainSet
from dal.training.context import FitState
from dal.utils.inputs import numel_of, one_tensor
from dal.utils.ranks import current
from dal.utils.seeding import derive, generator

log = logging.getLogger(__name__)

MOST_COUNTED = 2**31 - 1
"""The largest whole number that all of scikit-learn's compiled parts take."""
LEARNED = ("indices", "targets", "weights")
"""What of a `TrainSet` decides what is fitted."""


class EstimatorLearner(Learner):
    """A scikit-learn classifier, fitted on the prepared inputs, flattened, as float64.

    Its state is what it was fitted on, and loading that fits it again: to the same bits, since its
    random state derives from seed and round, and threads are torch's. Nothing is pickled.

    Args:
        make_model: Gives an unfitted classifier; see `dal.models.estimators`.
        source: The data.
        task: Loss and metrics.
        seed: Seed of the run.
        batch_size: Samples predicted at once; None for automatic.
        built: The classifier that `make_model` gives, where it has been called already.

    Raises:
        TypeError: The targets are not classes.
    """

    def __init__(
        self,
        make_model: MakeModel,
        source: Source,
        task: Task,
        *,
        seed: int,
        batch_size: int | None = None,
        built: Any = None,
    ) -> None:
        if not task.exclusive:
            raise TypeError(
                f"scikit-learn models take multiclass targets, and those of {source.name} are "
                f"{task.kind}; choose a network, such as model=mlp"
            )
        if current().world_size > 1:
            raise TypeError(
                "scikit-learn models are fitted by one process; start the run without torchrun"
            )
        self.make_model, self.source, self.task, self.seed = make_model, source, task, seed
        if built is None:
            built = build_model(
                make_model, source.input_shape, source.num_classes, source.vocab_size
            )
        self.template: Any = built
        self.name = type(self.template).__name__
        _check_whole_numbers(self.template)
        numel = numel_of(source.input_shape)
        cpu = torch.device("cpu")
        self.batch_size = batch_size_for(batch_size, numel, len(source.train), cpu)
        self._asked_batch_size = batch_size and self.batch_size
        self._train_set: TrainSet | None = None
        self._round = 0
        self._fitted: Fitted | None = None
        self._told: set[str] = set()
        kinds: set[type[Need]] = {Probs, Features, LookAhead}
        if hasattr(self.template, "decision_function"):
            kinds.add(Decision)
        if hasattr(self.template, "member_probs"):
            kinds.add(Members)
        self.capabilities = frozenset(kinds)
        log.info("%s is fitted anew every round; trainer settings play no part", self.name)

    def fit(self, train_set: TrainSet, context: RoundContext) -> FitState:
        """Fit on all labels; the record shows one epoch without steps.

        Raises:
            ValueError: There are no labels, or they have weights that the estimator cannot use.
        """
        from sklearn.exceptions import ConvergenceWarning  # late: networks need no scikit-learn

        if len(train_set) == 0:
            raise ValueError("there are no labeled samples to train on; raise initial.count")
        if bool((train_set.targets == train_set.targets[0]).all()):
            name = self.source.class_names[int(train_set.targets[0])]
            self._tell(f"all labels so far are {name!r}: {self.name} predicts it for everything")
        self._train_set, self._round = train_set, context.round
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            self._fitted = self._fit(train_set)
        for warning in caught:
            self._tell(f"{self.name}: {str(warning.message).splitlines()[0]}")
        metrics = self._measure(train_set, context)
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
        """Predict the candidates block by block.

        Raises:
            ValueError: Looking ahead would take too many fits (see `retrained_risk`), or all
                members of a committee are the same.
        """
        results: dict[Need, Tensor] = {}
        for of, wanted in of_others(needs).items():
            rows = context.rows(of, train_set)
            for kind, need in wanted.items():
                results[need] = self._of_others(rows, indices, kind, context)
        for need in sorted(filter(of_candidates, needs), key=repr):
            if isinstance(need, LookAhead):
                results[need] = self._look_ahead(indices, need, context)
            else:
                blocks = self._predict(self.source.train, indices, need, context)
                results[need] = torch.cat(blocks, 1 if isinstance(need, Members) else 0)
        if Members() in needs:
            check_members(results[Members()], "give members that differ, such as other model.kinds")
        return PoolView(
            indices,
            results,
            num_total=len(self.source.train),
            num_classes=self.source.num_classes,
            multilabel=not self.task.exclusive,
        )

    def predict(self, split: Split, context: RoundContext) -> Tensor:
        """Logarithms of the class probabilities, no lower than that of `fitted.FLOOR`."""
        return self._logits(split, torch.arange(len(split)), context)

    def state_dict(self) -> dict[str, Any]:
        """The labels it was fitted on, in which round, and the batch size."""
        state: dict[str, Any] = {"batch_size": self.batch_size, "round": self._round}
        if self._train_set is not None:
            state |= {name: getattr(self._train_set, name) for name in LEARNED}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the first question asked fits the classifier again."""
        self.batch_size = self._asked_batch_size or state["batch_size"]
        self._round, self._fitted, self._train_set = state["round"], None, None
        if "indices" in state:
            self._train_set = TrainSet(*(state[name] for name in LEARNED))

    def fingerprint(self) -> str:
        """Digest of kind and seed, which decide what is fitted on given labels."""
        return hashlib.sha256(repr((self.name, self._fit_seed)).encode()).hexdigest()

    def numerics(self) -> dict[str, Any]:
        """Batch size, and the versions of the libraries that fit."""
        import scipy
        import sklearn

        return {
            "batch_size": self.batch_size,
            "precision": "float64",
            "scikit-learn": sklearn.__version__,
            "scipy": scipy.__version__,
            "world_size": 1,
            "replicas": 1,
        }

    def export(self, run_dir: Path) -> None:
        """See `dal.export.save_estimator`."""
        assert self._train_set is not None
        save_estimator(run_dir, self.make_model, self.source, self._train_set, self._fit_seed)

    def check_needs(self, needs: Needs, strategy: str) -> None:
        """Refuse a strategy whose needs this estimator cannot answer.

        Raises:
            TypeError: Naming strategy, need, estimator and what to choose instead.
        """
        reasons: dict[type[Need], str] = {
            GradNorms: "has no gradients; choose a network, such as model=mlp or lenet5",
            Members: "is no committee; choose model=sklearn_committee, bagging or random_forest, "
            "or committee=rounds",
            Decision: "has no decision function; choose model=svm, linear_svm, polynomial_svm, "
            "passive_aggressive or sklearn_logistic_regression",
        }
        for need in sorted(needs, key=repr):
            if type(need) not in self.capabilities:
                reason = reasons.get(type(need), "cannot give it; choose another strategy")
                raise TypeError(f"{strategy} needs {need}, and {self.name} {reason}")

    def check_weights(self, remedy: str) -> None:
        """See `Learner.check_weights`."""
        if not takes_weights(self.template):
            raise TypeError(f"{self.name} cannot weigh its samples; {remedy}")

    @property
    def _fit_seed(self) -> int:
        return derive(self.seed, self._round, "estimator")

    @property
    def _model(self) -> Fitted:
        if self._fitted is None:
            if self._train_set is None:
                raise RuntimeError(f"{self.name} has not been fitted yet; call fit first")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the log has them from the first time
                self._fitted = self._fit(self._train_set)
        return self._fitted

    def _fit(self, train_set: TrainSet) -> Fitted:
        with torch_threads():
            return fit_estimator(
                self.template,
                as_floats(self.source.train.take(train_set.indices)),
                train_set.targets.numpy(),
                _weights(train_set),
                self.source.num_classes,
                self._fit_seed,
            )

    def _predict(
        self, split: Split, indices: Tensor, need: Need, context: RoundContext
    ) -> list[Tensor]:
        """The answer to a need for some samples, in blocks, as float32."""
        model = self._model
        answer = {
            Probs: model.probs,
            Features: lambda inputs: inputs,
            Decision: model.decision,
            Members: model.members,
        }[type(need)]
        parts: list[Tensor] = []
        with torch_threads():
            for block in torch.split(indices, self.batch_size):
                context.check()
                parts.append(torch.from_numpy(answer(as_floats(split.take(block)))).float())
        return parts

    def _of_others(
        self, rows: Tensor, indices: Tensor, kind: Need, context: RoundContext
    ) -> Tensor:
        """What a need asks about samples that are no candidates; there may be none of them."""
        if kind == Features():
            taken = self.source.train.take(rows if len(rows) else indices[:1])
            return one_tensor(taken, self.name).flatten(1)[: len(rows)]
        some = rows if len(rows) else indices[:1]  # for the shape of no rows
        return torch.cat(self._predict(self.source.train, some, kind, context))[: len(rows)]

    def _logits(self, split: Split, indices: Tensor, context: RoundContext) -> Tensor:
        model = self._model
        parts: list[Tensor] = []
        with torch_threads():
            for block in torch.split(indices, self.batch_size):
                context.check()
                parts.append(to_logits(model.probs(as_floats(split.take(block)))))
        return torch.cat(parts)

    def _measure(self, train_set: TrainSet, context: RoundContext) -> dict[str, float]:
        """Loss and accuracy on the labels it was fitted on, and the metrics of the validation."""
        logits = self._logits(self.source.train, train_set.indices, context)
        targets, validation = train_set.targets, context.validation_part(self.source)
        metrics = {
            "train/loss": float(self.task.loss(logits, targets, train_set.weights)),
            "train/accuracy": float((logits.argmax(1) == targets).double().mean()),
        }
        if validation is not None:
            values, _ = self.task.evaluate(self.predict(validation, context), validation.targets)
            metrics |= {f"val/{name}": value for name, value in values.items()}
        return metrics

    def _look_ahead(self, indices: Tensor, need: LookAhead, context: RoundContext) -> Tensor:
        """The risk after each candidate with each label, by fitting again."""
        assert self._train_set is not None
        train, total = self.source.train, len(self.source.train)
        rng = generator(self.seed, context.round, "reference")
        reference = indices[reference_positions(indices, need.reference, total, rng)]
        with torch_threads():
            return retrained_risk(
                self.template,
                as_floats(train.take(self._train_set.indices)),
                self._train_set.targets.numpy(),
                _weights(self._train_set),
                as_floats(train.take(indices)),
                as_floats(train.take(reference)),
                self.source.num_classes,
                seed=self._fit_seed,
                check=context.check,
                description=f"round {context.round}: look-ahead",
            )

    def _tell(self, message: str) -> None:
        """Warn, once a run of each message."""
        if message not in self._told:
            self._told.add(message)
            log.warning("%s", message)


def _weights(train_set: TrainSet) -> Any:
    """The weights of the labels as float64, or None where all are 1."""
    weights = train_set.weights
    return None if bool((weights == 1).all()) else weights.double().numpy()


def _check_whole_numbers(template: Any) -> None:
    """Refuse parameters beyond what scikit-learn's compiled parts take: it would name none."""
    parameters = template.get_params() if hasattr(template, "get_params") else {}
    for name, value in parameters.items():
        if isinstance(value, int) and value > MOST_COUNTED:
            raise ValueError(f"model.{name}={value}; give at most {MOST_COUNTED}")
