"""Networks that start from weights of their own, as the members of a committee."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dal.data.source import Source, Split
from dal.learners.base import Learner, RoundContext
from dal.learners.building import same_again
from dal.learners.committees import Ensemble, check_members
from dal.learners.network import TorchLearner
from dal.models.base import MakeModel
from dal.models.sparse import SparseLinear
from dal.query.base import PoolView
from dal.query.needs import Members, Need, Needs, Probs
from dal.task import Task
from dal.train_set import TrainSet
from dal.training.context import FitState, Save
from dal.training.trainer import Trainer
from dal.utils.seeding import derive, generator


class EnsembleLearner(Learner):
    """A network and advisers: the others of an ensemble, which only answer the need `Members`.

    The main network has the run's seed and is, bit for bit, that of a run without a committee; it
    alone is tested, exported and recorded. Advisers have seeds derived from the run's, so weights,
    order and noise of their own. They are fitted first; a fit saved within any network's says
    whose it is, and goes on there.

    Costs K fits a round, and one pass over the pool for each network.

    Args:
        make_model: Builds a network.
        trainer: How each is trained.
        source: The data.
        task: Loss, probabilities, metrics.
        committee: Size, and whether advisers get labels drawn with replacement.
        seed: Seed of the run.
        device: Where the networks live.
        batch_size: Batch size of the pool pass and of evaluation; None for automatic.
        thresholds: See `TorchLearner`; those of the main network decide.
        built: The main network of round 0 where `first_model` has built it already.

    Raises:
        ValueError: The trainer monitors validation metrics and the source has no validation split;
            or all members would be the same, or start alike.
    """

    def __init__(
        self,
        make_model: MakeModel,
        trainer: Trainer,
        source: Source,
        task: Task,
        committee: Ensemble,
        *,
        seed: int,
        device: torch.device,
        batch_size: int | None = None,
        thresholds: str = "half",
        built: nn.Module | None = None,
    ) -> None:
        self.committee, self.seed = committee, seed
        seeds = [seed, *(derive(seed, "member", k) for k in range(1, committee.size))]
        where: dict[str, Any] = {"device": device, "batch_size": batch_size}
        where["thresholds"] = thresholds
        self.members = [
            TorchLearner(make_model, trainer, source, task, seed=own, built=first, **where)
            for own, first in zip_longest(seeds, [built])
        ]
        self.main = self.members[0]
        name = type(self.main.model).__name__
        if isinstance(make_model, nn.Module) and not committee.bootstrap:
            raise ValueError(
                f"committee=ensemble: copies of one {name} start from the same weights; give the "
                "class, or a function that builds a new one, or set committee.bootstrap=true"
            )
        if len({id(member.model) for member in self.members}) < committee.size:
            raise ValueError(f"committee=ensemble: {same_again(name)}")
        sparse = isinstance(getattr(self.main.model, "head", None), SparseLinear)
        if sparse and not committee.bootstrap:
            raise ValueError(
                f"committee=ensemble: {name} of terms starts from weights of 0, so all members "
                "would be nearly the same; set committee.bootstrap=true"
            )
        if not committee.bootstrap and trainer.forgets_start(self.main.model):
            raise ValueError(
                f"committee=ensemble: {type(trainer).__name__} fits {name} "
                "to one optimum from any start, so all members would be the same; set "
                "committee.bootstrap=true, or choose model=mlp"
            )
        self.capabilities = self.main.capabilities | {Members}

    @property
    def source(self) -> Source:  # type: ignore[override]
        """The data of every network."""
        return self.main.source

    def aside(self, source: Source) -> EnsembleLearner:
        """See `Learner.aside`."""
        other = copy.copy(self)
        other.members = [copy.copy(member) for member in self.members]
        for member in other.members:
            member.source = source
        other.main = other.members[0]
        return other

    @property
    def model(self) -> nn.Module:
        """The main network."""
        return self.main.model

    @property
    def task(self) -> Task:  # type: ignore[override]
        """What is predicted, as the main network decides it."""
        return self.main.task

    def fit(self, train_set: TrainSet, context: RoundContext) -> FitState:
        """Fit the advisers, then the main network; the state is the main network's."""
        saved = context.resume or {"member": 1, "fit": None}
        started = len(self.members) if saved["member"] == 0 else saved["member"]
        for member in range(started, len(self.members)):
            resume = saved["fit"] if member == saved["member"] else None
            named = _naming(member, context, context.on_save)
            labels = self._labels(member, train_set, context.round)
            self.members[member].fit(labels, replace(named, resume=resume))
        resume = saved["fit"] if saved["member"] == 0 else None
        named = _naming(0, context, context.on_epoch)
        return self.main.fit(train_set, replace(named, resume=resume))

    def decide(self, train_set: TrainSet, context: RoundContext) -> None:
        """Fit how the main network decides; advisers give probabilities alone."""
        self.main.decide(train_set, context)

    def _labels(self, member: int, train_set: TrainSet, round_number: int) -> TrainSet:
        """An adviser's labels: all, or with bootstrapping as many drawn with replacement."""
        if not self.committee.bootstrap:
            return train_set
        count = len(train_set)
        rng = generator(self.seed, round_number, "bootstrap", member)
        drawn = torch.randint(count, (count,), generator=rng)
        return train_set.part(drawn)

    def scan(
        self,
        indices: Tensor,
        needs: Needs,
        context: RoundContext,
        train_set: TrainSet | None = None,
    ) -> PoolView:
        """A pass with the main network, and one with each adviser where members are asked for."""
        if Members() not in needs:
            return self.main.scan(indices, needs, context, train_set)
        of_main = (needs - {Members()}) | {Probs()}
        view = self.main.scan(indices, of_main, context, train_set)
        members = [view[Probs()]]
        for adviser in self.members[1:]:
            adviser.batch_size = self.main.batch_size
            found = adviser.scan(indices, frozenset({Probs()}), context)
            members.append(found[Probs()])
        members_KNC = torch.stack(members)
        check_members(members_KNC, "check that the model draws its weights at random")
        return view.with_result(Members(), members_KNC)

    def differentiable(
        self, needs: Needs, context: RoundContext, of: Literal["inputs", "features"] = "inputs"
    ) -> Callable[[Tensor], dict[Need, Tensor]]:
        """See `Learner.differentiable`; features are those of the main network, members' none."""
        if Members() not in needs:
            return self.main.differentiable(needs, context, of)
        if of == "features":
            raise TypeError("members of a committee have features of their own each")
        main = self.main.differentiable((needs - {Members()}) | {Probs()}, context)
        advisers = [m.differentiable(frozenset({Probs()}), context) for m in self.members[1:]]

        def answers(inputs: Tensor) -> dict[Need, Tensor]:
            found = main(inputs)
            probs = [found[Probs()], *(adviser(inputs)[Probs()] for adviser in advisers)]
            return found | {Members(): torch.stack(probs)}

        return answers

    def predict(self, split: Split, context: RoundContext) -> Tensor:
        """Logits of the main network."""
        return self.main.predict(split, context)

    def state_dict(self) -> dict[str, Any]:
        """The state of every network."""
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for member, own in zip(self.members, state["members"], strict=True):
            member.load_state_dict(own)

    def fingerprint(self) -> str:
        """Digest of the main network, which a run without committee has as well."""
        return self.main.fingerprint()

    def numerics(self) -> dict[str, Any]:
        """Those of the main network."""
        return self.main.numerics()

    def export(self, run_dir: Path) -> None:
        """Write the main network."""
        self.main.export(run_dir)


def _naming(
    member: int, context: RoundContext, on_epoch: Callable[[FitState, Save], None]
) -> RoundContext:
    """The context of one member's fit: a fit saved in it carries the number of the member."""

    def named(save: Save) -> Save:
        return lambda: {"member": member, "fit": save()}

    return replace(
        context,
        on_epoch=lambda state, save: on_epoch(state, named(save)),
        on_signal=lambda save: context.on_signal(named(save)),
    )
