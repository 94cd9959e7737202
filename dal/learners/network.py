"""The learner of this package: a network trained by a `Trainer`, scored by the pool pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dal.data.source import Source, Split
from dal.export import save_model
from dal.inference.differentiable import answers_of
from dal.inference.dropout_masks import DropoutMasks, why_not
from dal.inference.pool_pass import batch_size_for, pool_pass, predict_logits
from dal.inference.probe import probe
from dal.learners.base import Learner, RoundContext
from dal.learners.building import is_lazy, same_again
from dal.learners.committees import Committee, Dropout, check_members
from dal.learners.deciding import cross_predicted
from dal.learners.feeding import labeled_samples, unlabeled_samples
from dal.learners.look_ahead import network_risk, why_not_movable
from dal.models.base import RETURN_FEATURES, MakeModel, build_model, last_layer, numel_in
from dal.models.sparse import SparseLinear
from dal.query.base import PoolView
from dal.query.needs import (
    Features,
    GradNorms,
    Heights,
    LookAhead,
    Members,
    Need,
    Needs,
    Probs,
    Scores,
    of_candidates,
    of_others,
    without_scores_of,
)
from dal.task import Task
from dal.train_set import TrainSet
from dal.training.context import FitContext, FitState, Samples, Unlabeled
from dal.training.trainer import Trainer
from dal.utils.digest import digest_tensors
from dal.utils.ranks import current, leaving_together
from dal.utils.seeding import derive, generator, seeded

Predict = Callable[[Split, RoundContext], Tensor]
"""Gives logits for every sample of a split."""


class TorchLearner(Learner):
    """A network trained by a `Trainer`, scored by the pool pass.

    Args:
        make_model: Builds the network; its weights are drawn from the run's seed. Or a module, of
            which a copy is made where others are built anew: its weights are the start of the
            run, and with cold restarts of every round. They are saved with the state.
        trainer: How it is trained.
        source: The data.
        task: Loss, probabilities, metrics.
        committee: Who the members of a committee are, if a strategy asks for one.
        seed: Seed of the run.
        device: Where the network lives.
        batch_size: Batch size of the pool pass and of evaluation; None for automatic.
        thresholds: Above which probability each of several labels is predicted: ``half``; or
            ``fitted`` after every fit, see `dal.learners.deciding`.
        built: The network of round 0 where `first_model` has built it already.

    Raises:
        ValueError: The trainer monitors validation metrics and the source has no validation split,
            or not these; or the network does not fit the data.
        TypeError: The network returns no logits, or cannot be built.
    """

    def __init__(
        self,
        make_model: MakeModel,
        trainer: Trainer,
        source: Source,
        task: Task,
        committee: Committee | None = None,
        *,
        seed: int,
        device: torch.device,
        batch_size: int | None = None,
        thresholds: str = "half",
        built: nn.Module | None = None,
    ) -> None:
        if isinstance(make_model, nn.Module):
            make_model = copy.deepcopy(make_model)  # whatever becomes of the caller's
            if is_lazy(make_model):
                raise ValueError(
                    f"{type(make_model).__name__} has lazy layers without weights yet; call it "
                    "once, or give the class"
                )
        self.make_model, self.trainer, self.source = make_model, trainer, source
        self.task = self._task = replace(task, thresholds=())
        self._fits_thresholds = thresholds == "fitted"
        self.committee, self.seed, self.device = committee, seed, device
        if trainer.early_stopping:
            validates = source.validation or source.validation_of_labels
            trainer.early_stopping.check(task.metric_names if validates else ())
        self.gives_features = False
        self.model = self._fresh(0, built)
        trainer.check(self.model, source.input_shape, task)
        numel = numel_in(self.model, source.input_shape)
        self.batch_size = batch_size_for(batch_size, numel, len(source.train), device)
        self._asked_batch_size = batch_size and self.batch_size
        kinds: set[type[Need]] = {Probs, GradNorms, Scores}
        if self.gives_features or source.embed is not None:
            kinds.add(Features)
        if task.exclusive and self.gives_features and not why_not_movable(last_layer(self.model)):
            kinds.add(LookAhead)
        if isinstance(committee, Dropout) and not why_not(self.model):
            kinds.add(Members)
        self.capabilities = frozenset(kinds)

    def check_needs(self, needs: Needs, strategy: str) -> None:
        """Refuse needs the network cannot answer, such as members of one that draws nothing."""
        if Members() in needs and Members not in self.capabilities:
            reason = why_not(self.model) or "is fitted alone"
            raise TypeError(
                f"{strategy} compares members of a committee, and {type(self.model).__name__} "
                f"{reason}; choose model=bayesian_cnn or another network with dropout, "
                "committee=ensemble or committee=rounds"
            )
        reason, remedy = why_not_movable(last_layer(self.model)), "choose another model or strategy"
        if isinstance(getattr(self.model, "head", None), SparseLinear):
            reason = "has one of sparse rows, of a weight for every term"
            remedy = f"set data/encoder=bag_of_words for features of texts, or {remedy}"
        if reason and any(isinstance(need, LookAhead) for need in needs):
            raise TypeError(
                f"{strategy} looks ahead by moving the last layer, and {type(self.model).__name__} "
                f"{reason}; {remedy}"
            )
        lacking = LookAhead if Features in self.capabilities else Features | LookAhead
        looks = [need for need in needs if isinstance(need, lacking)]
        if looks and not self.gives_features:
            raise TypeError(
                f"{strategy} needs {min(looks, key=repr)} and so features, and "
                f"{type(self.model).__name__} returns logits only; {RETURN_FEATURES}, or choose "
                "another strategy"
            )
        super().check_needs(needs, strategy)

    def fit(self, train_set: TrainSet, context: RoundContext) -> FitState:
        """Fine-tune the last round's best weights, or start from fresh ones with a cold restart."""
        self.restart(context)
        samples, fit_context = self.prepare(train_set, context)
        return self.trainer.fit(self.model, samples, self.task, fit_context)

    def decide(
        self, train_set: TrainSet, context: RoundContext, predict: Predict | None = None
    ) -> None:
        """See `Learner.decide`: on the validation part, else by fits to parts of the labels.

        Args:
            train_set: What was trained on.
            context: The round.
            predict: Predicts in place of `predict`, to the same.
        """
        if not self._fits_thresholds:
            return
        validation = context.validation_part(self.source)
        if validation is not None:
            logits, targets = (predict or self.predict)(validation, context), validation.targets
        else:
            folds = generator(self.seed, context.round, "folds")
            apart = partial(self._fitted_apart, context)
            logits = cross_predicted(train_set, apart, folds)
            targets = train_set.answers().targets
        self.task = current().broadcast(lambda: self._task.fitted(logits, targets))

    def _fitted_apart(self, context: RoundContext, learned: TrainSet, asked: TrainSet) -> Tensor:
        """Logits of some labels by a model that learned from others, as this one from all."""
        if self.trainer.forgets_start(self.model):
            model = copy.deepcopy(self.model)
        else:
            model = self._fresh(context.round)
        told = FitContext(seed=self.seed, round=context.round, check=context.check)
        self.trainer.fit(
            model, labeled_samples(self.source.train, learned, self.device), self._task, told
        )
        return self._logits(model, self.source.train.part(asked.indices), context).cpu()

    def judged(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics of a validation part, with the thresholds that would be fitted on it now."""
        task = self._task.fitted(logits, targets) if self._fits_thresholds else self._task
        return task.evaluate(logits, targets)[0]

    def restart(self, context: RoundContext) -> None:
        """Forget how the last fit decided; draw fresh weights, where the trainer asks for them."""
        self.task = self._task
        if self.trainer.restart == "cold" and context.round > 0 and context.resume is None:
            self.model = self._fresh(context.round)

    def prepare(self, train_set: TrainSet, context: RoundContext) -> tuple[Samples, FitContext]:
        """What the trainer is given."""
        validation = context.validation_part(self.source)
        return (
            replace(
                labeled_samples(self.source.train, train_set, self.device),
                unlabeled=self._unlabeled(context),
            ),
            FitContext(
                seed=self.seed,
                round=context.round,
                evaluate=None
                if validation is None
                else lambda: self._evaluate(validation, context),
                on_epoch=context.on_epoch,
                pending=context.pending,
                on_signal=context.on_signal,
                check=context.check,
                resume=context.resume,
            ),
        )

    def scan(
        self,
        indices: Tensor,
        needs: Needs,
        context: RoundContext,
        train_set: TrainSet | None = None,
    ) -> PoolView:
        """One pass over the candidates; see `pool_pass`."""
        results: dict[Need, Tensor] = {}
        if not self.gives_features:  # so a pass can make no scores of them
            needs = without_scores_of(Features(), needs)
        ahead = [need for need in needs if isinstance(need, LookAhead)]
        asked = needs | {Features(), Features("labeled")} if ahead else needs
        if of_pool := frozenset(filter(of_candidates, asked)) - frozenset(ahead):
            results = self._pass(indices, of_pool, context)
        for of, wanted in of_others(asked).items():
            rows = context.rows(of, train_set)
            some = rows if len(rows) else indices[:1]  # for the shape of no rows
            found = self._pass(some, frozenset(wanted), context)
            results |= {need: found[kind][: len(rows)] for kind, need in wanted.items()}
        for need in ahead:
            assert train_set is not None
            results[need] = self._look_ahead(indices, need, results, train_set, context)
        return PoolView(
            indices,
            {need: results[need] for need in results if need in needs or isinstance(need, Heights)},
            num_total=len(self.source.train),
            num_classes=self.source.num_classes,
            multilabel=not self.task.exclusive,
        )

    def _pass(self, indices: Tensor, needs: Needs, context: RoundContext) -> dict[Need, Tensor]:
        results = self.embedded(indices, needs)
        if not (needs := needs - set(results)):
            return results
        found, self.batch_size = pool_pass(
            self.model,
            self.source.train.take,
            indices,
            needs,
            self.task,
            device=self.device,
            batch_size=self.batch_size,
            dtype=self.trainer.dtype,
            on_batch=context.check,
            description=f"round {context.round}: pool pass",
            masks=self._masks(context) if Members() in needs else None,
            expect=self.source.train.expect,
            buckets=self.source.train.buckets,
        )
        if Members() in needs:
            check_members(found[Members()], "raise the dropout of the model")
        return results | found

    def embedded(self, indices: Tensor, needs: Needs) -> dict[Need, Tensor]:
        """What of a pass the data answer, where the network gives no features."""
        if self.gives_features or Features() not in needs:
            return {}
        return {Features(): self.source.embedding[indices.cpu()].to(self.device)}

    def _look_ahead(
        self,
        indices: Tensor,
        need: LookAhead,
        results: dict[Need, Tensor],
        train_set: TrainSet,
        context: RoundContext,
    ) -> Tensor:
        head = last_layer(self.model)
        assert head is not None
        with leaving_together():
            return network_risk(
                head,
                indices,
                results[Features()],
                results[Features("labeled")],
                train_set.weights,
                need.reference,
                len(self.source.train),
                generator(self.seed, context.round, "reference"),
                context.check,
            )

    def _masks(self, context: RoundContext) -> DropoutMasks:
        assert isinstance(self.committee, Dropout)
        size, seed, uncut = self.committee.size, self.seed, self.source.train.uncut(self.device)
        return DropoutMasks(self.model, size, seed=seed, round_number=context.round, uncut=uncut)

    def predict(self, split: Split, context: RoundContext) -> Tensor:
        """Logits for every sample of a split, by batches like those of the pass."""
        return self._logits(self.model, split, context).cpu()

    def _logits(self, model: nn.Module, split: Split, context: RoundContext) -> Tensor:
        return predict_logits(
            model,
            split.take,
            len(split),
            device=self.device,
            batch_size=self.batch_size,
            dtype=self.trainer.dtype,
            on_batch=context.check,
            expect=split.expect,
            buckets=split.buckets,
        )

    def differentiable(
        self, needs: Needs, context: RoundContext, of: Literal["inputs", "features"] = "inputs"
    ) -> Callable[[Tensor], dict[Need, Tensor]]:
        """See `Learner.differentiable`."""
        masks = self._masks(context) if Members() in needs else None
        return answers_of(self.model, needs, self._task, of, masks)

    def state_dict(self) -> dict[str, Any]:
        """The weights, the batch size of the pass, and the thresholds by which it decides."""
        state = {
            "model": self.model.state_dict(),
            "batch_size": self.batch_size,
            "thresholds": list(self.task.thresholds),
        }
        given = self.make_model
        return state | ({"given": given.state_dict()} if isinstance(given, nn.Module) else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        if isinstance(self.make_model, nn.Module):
            self.make_model.load_state_dict(state["given"])
        self.batch_size = self._asked_batch_size or state["batch_size"]
        self.task = replace(self._task, thresholds=tuple(state.get("thresholds", ())))

    def fingerprint(self) -> str:
        """Digest of the weights."""
        return digest_tensors(self.model.state_dict())

    def numerics(self) -> dict[str, Any]:
        """Batch size of the pass, precision, and how many processes and replicas share the work."""
        return {
            "batch_size": self.batch_size,
            "precision": str(self.trainer.dtype).removeprefix("torch."),
            "world_size": current().world_size,
            "replicas": 1,
        }

    def export(self, run_dir: Path) -> None:
        """See `dal.export.save_model`."""
        save_model(run_dir, self.model, self.make_model, self.source, self.task.thresholds)

    def _fresh(self, round_number: int, built: nn.Module | None = None) -> nn.Module:
        """A network whose weights depend on seed and round alone; the global RNG is untouched."""
        with seeded(derive(self.seed, round_number, "weights"), torch.device("cpu")):
            shape, classes = self.source.input_shape, self.source.num_classes
            # Lazy layers draw their weights at the first input, after all others have been drawn.
            if built is None or is_lazy(built):
                built = build_model(self.make_model, shape, classes, self.source.vocab_size)
            model: nn.Module = built
            if round_number == 0 or is_lazy(model):
                few = self.source.train.take(torch.zeros(2, dtype=torch.int64))
                self.gives_features = probe(model, few, classes).features is not None
        if model is getattr(self, "model", None):
            raise ValueError(same_again(type(model).__name__))
        # Convolutions and pooling are up to twice as fast with channels last; `to` also sets the
        # strides of one-channel weights, where `contiguous` would change nothing.
        model = model.to(self.device)
        return model.to(memory_format=torch.channels_last)

    def _unlabeled(self, context: RoundContext) -> Unlabeled | None:
        """The candidates, where the trainer learns from them."""
        if not (self.trainer.learns_unlabeled and len(context.unlabeled)):
            return None
        return unlabeled_samples(self.source.train, context.unlabeled, self.device)

    def _evaluate(self, split: Split, context: RoundContext) -> dict[str, float]:
        logits = self._logits(self.model, split, context)
        return self.judged(logits, split.targets.to(self.device))
