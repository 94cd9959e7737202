"""A run once more: its rounds scored again in float64 by the models that it kept."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from dal import checkpoint
from dal.data.initial import ColdStart, start_of
from dal.data.source import Source, Split
from dal.events import GUESSES, NONE
from dal.journals import LEDGER, Journals
from dal.learners import Learner, RoundContext, make_learner
from dal.learners.ensemble import EnsembleLearner
from dal.learners.network import TorchLearner
from dal.query import PoolView, PredictionHistory, Probs, Query, Strategy
from dal.recording.run_directory import read_status
from dal.recording.samples import Known
from dal.runs.from_config import source_of
from dal.runs.keeper import MODELS
from dal.runs.parts import Parts, Standing
from dal.settings import Settings
from dal.utils.build import TARGET, build, factory
from dal.utils.inputs import Inputs, map_tensors
from dal.utils.numerics import own_threads
from dal.utils.safe_files import DamagedError
from dal.utils.seeding import generator

PLAIN = {"seed": int, "difficulty": dict, "split": dict}
PARTS = ("data", "features", "model", "strategy", "trainer", "committee", "initial")
"""Settings that a replay reads; those of parts name what is built."""
_ANEW = "make the run anew with keep_models=true and another saved_dir"


@dataclass(frozen=True)
class ReplayedRound:
    """One query, replayed.

    Attributes:
        number: The round.
        size: How many samples were picked.
        confirmed: How many of them float64 picks too.
        difference: The largest distance of a confirmed pick's score from the recorded one; None
            without any.
        shortfall: By how much the lowest unconfirmed pick missed, in float64 scores: a near tie
            where it is tiny; None where all are confirmed, or a batch was chosen as a whole.
        overlap: How many of the picks another strategy would have picked, by its name.
        query: What float64 picks.
        picked: The recorded picks, in their order.
        labels: Their labels' names, ``?`` for none.
    """

    number: int
    size: int
    confirmed: int
    difference: float | None
    shortfall: float | None
    overlap: Mapping[str, int]
    query: Query
    picked: Sequence[int]
    labels: Sequence[str]


class Replay:
    """A run to be replayed, round by round.

    Args:
        run_dir: The run directory; the run was made with ``keep_models=true`` and is not going on.
        others: Strategies by name, to see what they would have picked in its place.
        plugins: Packages besides ``dal`` that the run may name. Those that its ``config.yaml``
            lists are not trusted for being listed there.

    Attributes:
        skipped: Why some of the others cannot be asked, by name.

    Raises:
        ValueError: Nothing can be replayed, with the reason.
        FileNotFoundError: There is no such run, or its data are not there.
    """

    def __init__(
        self,
        run_dir: Path,
        others: Mapping[str, Strategy] | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        self.run_dir = run_dir
        config = config_of_ended(run_dir)
        setting = str(config.get("setting", {}).get(TARGET, "PoolSetting")).rpartition(".")[2]
        if setting != "PoolSetting":
            raise ValueError(
                f"{run_dir} asked about what {setting} gave it, and a replay asks the strategy to "
                "choose from the pool again; there is none of such runs"
            )
        if not list((run_dir / MODELS).glob("*.pt")):
            raise ValueError(f"{run_dir} kept no models; {_ANEW}")
        self._parts = _parts(config, tuple(plugins), Known.read(run_dir).listing)
        journals = Journals(run_dir, self.source.fingerprint())
        events = journals.all_events()
        if events is None:
            raise ValueError(f"there is no {LEDGER} in {run_dir}; restore it, or {_ANEW}")
        self._ledger = self._parts.pool(events)
        self._rows = journals.rows_shown(1 + max((e["round"] for e in events), default=-1)) or []
        found = [row.get("appended", 0) for row in self._rows]
        self._appended = defaultdict(lambda: self.source.appended, enumerate(found))
        self._picks = picks_of(events, self._rows)
        history = self._parts.history(keep=None, dtype=torch.float64)
        self._standing = Standing.at_start(self._parts, history)
        self._label(0)
        self.others, self.skipped = dict(others or {}), {}
        for name in list(self.others):
            if reason := self._why_not(name):
                self.skipped[name] = reason
                del self.others[name]

    @property
    def source(self) -> Source:
        """The data."""
        return self._parts.source

    @property
    def history(self) -> PredictionHistory:
        """Predictions of the rounds replayed so far, in float64."""
        return self._standing.history

    @property
    def numbers(self) -> list[int]:
        """The rounds that have a query, ascending."""
        return sorted(self._picks)

    def rounds(self) -> Iterator[ReplayedRound]:
        """Replay query after query.

        Raises:
            ValueError: The model of a round was not kept, is damaged, or is another run's.
        """
        for number in self.numbers:
            with own_threads():
                torch.set_num_threads(self._parts.settings.threads or torch.get_num_threads())
                replayed = self._round(number)
            yield replayed

    def _load_model(self, number: int) -> None:
        path = self.run_dir / MODELS / f"round_{number:04d}.pt"
        remedy = f"put back the file that this run wrote, or {_ANEW}"
        try:
            self._parts.learner.load_state_dict(checkpoint.load(path)["learner"])
        except FileNotFoundError:
            raise ValueError(
                f"the model of round {number} was not kept: there is no {path}; {_ANEW}"
            ) from None
        except DamagedError as error:
            raise ValueError(f"{error}; {remedy}") from error
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path} does not fit the model of {self.run_dir / 'config.yaml'}; {remedy}"
            ) from error

    def _round(self, number: int) -> ReplayedRound:
        self._load_model(number)
        self._label(number)
        parts, standing = self._parts, self._standing
        asked = map(parts.asked_of_learner, [parts.strategy, *self.others.values()])
        needs = frozenset({Probs()}).union(*asked)
        candidates, train_set = self._candidates(number), standing.pool.train_set().answers()
        context = RoundContext(number, rejected=standing.pool.rejected_idx)
        view = parts.learner.scan(candidates, needs, context, train_set)
        standing.history.append(number, candidates, view[Probs()])
        offered = set(candidates.tolist())  # a sample to measure by is not
        recorded = [pick for pick in self._picks[number] if pick[0] in offered]
        picked = [index for index, _, _ in recorded]
        size = len(picked) + self._row(number).get("query/again", 0)
        query = self._select(parts.strategy, view, size, number)
        scores = dict(zip(query.indices.tolist(), query.scores.tolist(), strict=True))
        known = [abs(scores[i] - score) for i, score, _ in recorded if i in scores]
        return ReplayedRound(
            number=number,
            size=len(picked),
            confirmed=len(known),
            difference=max((d for d in known if not math.isnan(d)), default=None),
            shortfall=_shortfall(query, candidates, [i for i in picked if i not in scores]),
            overlap={
                name: len(set(self._select(s, view, size, number).indices.tolist()) & set(picked))
                for name, s in self.others.items()
            },
            query=query,
            picked=picked,
            labels=[self.source.target_name(target) for *_, target in recorded],
        )

    def _candidates(self, number: int) -> Tensor:
        """Those of a round: samples that were added later were not there."""
        candidates, there = self._standing.candidates, self.source.begun + self._appended[number]
        return candidates[candidates < there]

    def _select(self, strategy: Strategy, view: PoolView, size: int, number: int) -> Query:
        view = self._standing.with_history(view, self._parts.from_history(strategy))
        view = self._standing.with_labels(view, strategy.needs)
        return strategy.select(view, size, generator(self._parts.settings.seed, number, "query"))

    def _label(self, number: int) -> None:
        """Give the pool the answers that had come when a round began, and no others."""
        pool, state = self._standing.pool, self._standing.state
        events = self._ledger.events(pool.num_events)
        pool.extend([event for event in events if event["round"] < number])
        earlier = [self._row(before).get("query/open", ()) for before in range(number)]
        asked = [self._row(0).get("initial/open", ()), *earlier]
        state.tickets = [{"open": dict.fromkeys(indices, 1)} for indices in asked]

    def _row(self, number: int) -> dict[str, Any]:
        return self._rows[number] if number < len(self._rows) else {}

    def _why_not(self, name: str) -> str:
        try:
            self._parts.check_strategy(self.others[name], name)
        except TypeError as error:
            return str(error)
        return ""


def picks_of(
    events: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> dict[int, list[tuple[int, float, Any]]]:
    """What strategies asked for, by round: sample, score and first answer.

    An answer that came late belongs to the round that asked for it. Of what nobody answered the
    score is NaN. What has no score was not picked by one: it corrects, or was asked once more; but
    for made samples, of which those between two classes have none.
    """
    first: dict[int, Mapping[str, Any]] = {}
    for event in events:
        if event["origin"] not in GUESSES:
            first.setdefault(event["index"], event)
    open_in = {i: n for n, row in enumerate(rows) for i in row.get("query/open", ())}
    found: defaultdict[int, list[tuple[int, float, Any]]] = defaultdict(list)
    for index, event in first.items():
        made, score = event["origin"] == "synthetic", event["score"]
        if made or (event["origin"] == "oracle" and score is not None):
            number = open_in.get(index, event["round"])
            found[number].append((index, math.nan if score is None else score, event["target"]))
    for index, number in open_in.items():
        if index not in first:
            found[number].append((index, math.nan, NONE))
    return dict(found)


class _Double(Split):
    """The same inputs, bit for bit, in float64."""

    def take(
        self, indices: Tensor, device: torch.device | str = "cpu", length: int | None = None
    ) -> Inputs:
        inputs = super().take(indices, device, length)
        return map_tensors(lambda x: x.double() if x.is_floating_point() else x, inputs)


def config_of(run_dir: Path) -> dict[str, Any]:
    """The settings of the run in a directory, wherever it stands.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: See `read_config`.
    """
    if not (run_dir / "status.json").exists():
        raise FileNotFoundError(f"{run_dir} holds no run; give the directory of one")
    return read_config(run_dir / "config.yaml")


def config_of_ended(run_dir: Path) -> dict[str, Any]:
    """The settings of a run that nobody works on now.

    Raises:
        ValueError: There is no such run, or it is going on; or see `read_config`.
    """
    status = read_status(run_dir).get("status")
    if status in (None, "running"):
        state = "no run" if status is None else "a run that is going on"
        raise ValueError(f"{run_dir} holds {state}; give the directory of one that has ended")
    return read_config(run_dir / "config.yaml")


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        ValueError: They are missing, damaged, or another version's.
    """
    again = (
        "restore it, or delete the run's status.json and give its command again, which writes it"
    )
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"there is no {path}; {again}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]}); {again}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no settings of a run; {again}")
    missing = [name for name, kind in PLAIN.items() if not isinstance(config.get(name), kind)]
    for name in PARTS:
        if not isinstance(config.get(name), dict) or TARGET not in config[name]:
            missing.append(name)
    if missing:
        raise ValueError(
            f"{path} was written by another version of dal: it lacks {', '.join(missing)}; replay "
            "the run with that version"
        )
    return config


def data_of(
    config: Mapping[str, Any], allow: tuple[str, ...], known: Mapping[str, Any] | None
) -> tuple[Settings, Source]:
    """The plain settings of a run that was begun, and its data, read anew, on the CPU."""
    given = {f.name: config[f.name] for f in fields(Settings) if f.name in config}
    settings = Settings(**given | {"device": "cpu"})
    return settings, source_of(config, settings, allow, known)


def _parts(
    config: Mapping[str, Any], allow: tuple[str, ...], known: Mapping[str, Any] | None
) -> Parts:
    """What the run was made of, with networks of float64, on the CPU."""
    settings, source = data_of(config, allow, known)
    train = source.train
    source = replace(
        source,
        train=_Double(train.store, train.rows, train.targets, train.prepare, train.positions),
    )
    parts = parts_of(config, allow, settings, source)
    for model in _networks(parts.learner):
        model.double()
    return parts


def parts_of(
    config: Mapping[str, Any], allow: tuple[str, ...], settings: Settings, source: Source
) -> Parts:
    """What a run was made of, with a learner that has learned nothing yet, on the CPU."""
    strategy, committee = (
        build(config[name], name, allow=allow) for name in ("strategy", "committee")
    )
    learner = make_learner(
        factory(config["model"], "model", allow=allow),
        build(config["trainer"], "trainer", allow=allow),
        source,
        source.task,
        committee,
        needs=strategy.needs,
        seed=settings.seed,
        device=torch.device("cpu"),
        batch_size=settings.batch_size,
        thresholds=settings.thresholds,
    )
    initial = factory(config["initial"], "initial", allow=allow)
    start = start_of(initial, source, settings.seed)
    indices = start.indices if isinstance(start, ColdStart) else start
    return Parts(source, learner, strategy, indices, committee, settings)


def _networks(learner: Learner) -> list[nn.Module]:
    if isinstance(learner, EnsembleLearner):
        return [member.model for member in learner.members]
    return [learner.model] if isinstance(learner, TorchLearner) else []


def _shortfall(query: Query, candidates: Tensor, missing: Collection[int]) -> float | None:
    """How far below the lowest of the replayed picks the best missing one lies."""
    if not missing or query.pool_scores is None:
        return None
    place = {index: number for number, index in enumerate(candidates.tolist())}
    best = max(float(query.pool_scores[place[index]]) for index in missing)
    return float(query.scores.min()) - best
