"""What a run that has ended left behind, opened for pictures; nothing of it is changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal import checkpoint
from dal.data.source import Source
from dal.journals import LEDGER, Journals
from dal.learners import Learner, RoundContext
from dal.pool import Pool
from dal.query import Features, PredictionHistory, Probs
from dal.query.needs import Need
from dal.recording.samples import Known
from dal.runs.keeper import MODELS
from dal.runs.parts import Parts
from dal.runs.replay import config_of_ended, data_of, parts_of, picks_of
from dal.runs.spool import with_added
from dal.utils.inputs import one_tensor
from dal.utils.safe_files import DamagedError

log = logging.getLogger(__name__)

BLOCK = 1000


class KeptRun:
    """A run that has ended.

    Args:
        run_dir: Its directory.
        plugins: Packages besides ``dal`` that it may name.

    Attributes:
        name: Of the directory.
        picks: What was asked for, by round: sample, score, first answer.
        rows: Metrics of its rounds, as far as they are whole.

    Raises:
        ValueError: There is no such run, it is going on, or a file of it is missing or damaged.
        FileNotFoundError: Its data are not there.
    """

    def __init__(self, run_dir: Path, plugins: Sequence[str] = ()) -> None:
        self.run_dir, self.name = run_dir, run_dir.resolve().name
        config, allow = config_of_ended(run_dir), tuple(plugins)
        settings, source = data_of(config, allow, Known.read(run_dir).listing)
        journals = Journals(run_dir, source.fingerprint())
        events = journals.all_events()
        if events is None:
            raise ValueError(f"there is no {LEDGER} in {run_dir}; restore it")
        source = with_added(source, run_dir, events)
        self.parts: Parts = parts_of(config, allow, settings, source)
        self.events: Sequence[Mapping[str, Any]] = events
        last = 1 + max((event["round"] for event in events), default=-1)
        self.rows = journals.rows_shown(last + 1) or journals.rows_shown(last) or []
        self.picks = dict(sorted(picks_of(events, self.rows).items()))

    @property
    def source(self) -> Source:
        """Its data."""
        return self.parts.source

    @property
    def learner(self) -> Learner:
        """Its model, as it was loaded last."""
        return self.parts.learner

    def pool(self, before: int | None = None) -> Pool:
        """Who was labeled when a round began; None for in the end."""
        if before is None:
            return self.parts.pool(self.events)
        return self.parts.pool(
            part_of(self.events, lambda event: event["round"] < before or _first(event))
        )

    @cached_property
    def models(self) -> dict[int, Path]:
        """The models of rounds that were kept, by round."""
        paths = sorted((self.run_dir / MODELS).glob("round_*.pt"))
        names = [(path.stem.removeprefix("round_"), path) for path in paths]
        return {int(name): path for name, path in names if name.isdecimal()}

    def load(self, number: int | None = None) -> None:
        """Give the learner the model of a round; None for that of the end.

        Raises:
            ValueError: It is missing, damaged, or another run's.
        """
        if number is not None:
            path = self.models[number]
        else:
            states = sorted((self.run_dir / "checkpoints").glob("state_*.pt"))
            path = states[-1] if states else self.run_dir / "checkpoints"
        remedy = "restore it, or make the run anew in another saved_dir"
        try:
            self.learner.load_state_dict(checkpoint.load(path)["learner"])
        except (FileNotFoundError, IsADirectoryError):
            raise ValueError(f"there is no model of {self.run_dir}; {remedy}") from None
        except DamagedError as error:
            raise ValueError(f"{error}; {remedy}") from error
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path} does not fit the model of {self.run_dir / 'config.yaml'}; {remedy}"
            ) from error

    def history(self) -> PredictionHistory | None:
        """Predictions of all rounds: those kept, or made again by the models; None for neither.

        Raises:
            ValueError: A file is damaged.
        """
        folder = self.run_dir / "history"
        found = None
        if any(folder.glob("round_*.npy")):
            found = PredictionHistory.read(folder)
        enough = max(1, len(self.models) - 2)  # the last round has a model, and may ask nothing
        if found is not None and (not self.models or len(found.rounds) > enough):
            return found
        if not self.models:
            return None
        history = self.parts.history(keep=None)
        for number in self.models:
            self.load(number)
            unlabeled = self.pool(number).unlabeled_idx
            if len(unlabeled):
                view = self.learner.scan(unlabeled, frozenset({Probs()}), RoundContext(number))
                history.append(number, unlabeled, view[Probs()])
        return history

    @property
    def in_numbers(self) -> bool:
        """Whether inputs are numbers in rows, and no words."""
        spec = self.source.train.store.spec
        return not isinstance(spec, dict) and self.source.vocab_size is None

    def features(self, indices: Tensor, inputs: bool = False) -> tuple[Tensor, str]:
        """Rows for a map: float, (n, D), and what they are.

        Args:
            indices: int64, (n,).
            inputs: Take the prepared inputs in any case, not the features of the last model.

        Raises:
            ValueError: The inputs are no numbers in rows.
        """
        if not inputs and Features in self.learner.capabilities:
            self.load()
            needs = frozenset[Need]({Features()})
            view = self.learner.scan(indices, needs, RoundContext(len(self.rows)))
            return view[Features()].float().cpu(), "features of the last model"
        return self.prepared(indices), "inputs"

    def prepared(self, indices: Tensor) -> Tensor:
        """The inputs of a model, flattened: float32, (n, D).

        Raises:
            ValueError: They are no numbers in rows.
        """
        train = self.source.train
        if not self.in_numbers:
            raise ValueError(
                f"{self.source.name} has inputs of words, which lie in no plane; features do: "
                "leave out --of inputs"
            )
        blocks = torch.split(indices, BLOCK)
        return torch.cat([one_tensor(train.take(b), "a map").flatten(1) for b in blocks])

    def value(self, number: int) -> str:
        """What a round's model was worth, in words."""
        row = self.rows[number] if number < len(self.rows) else {}
        told = f"round {number}"
        if "labels" in row:
            told += f", {row['labels']} labels"
        value = row.get(self.source.headline)
        return told if value is None else f"{told}, {self.source.task.headline_name} {value:.3f}"


def part_of(
    events: Sequence[Mapping[str, Any]], wanted: Callable[[Mapping[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Some events of a ledger, numbered anew.

    Args:
        events: As `Pool.events` gives them.
        wanted: Whether an event is one of them; where it is, so are those that it supersedes.
    """
    places, found = dict[int, int](), list[dict[str, Any]]()
    for number, event in enumerate(events):
        if wanted(event):
            places[number] = len(found)
            earlier = event["supersedes"]
            found.append({**event, "supersedes": None if earlier is None else places[earlier]})
    return found


def _first(event: Mapping[str, Any]) -> bool:
    """Whether an answer was known before the first round."""
    return bool(event["origin"] == "initial")
