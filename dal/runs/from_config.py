"""One run from resolved settings to the table at its end: what the command line does."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.cooperation import Cooperative
from dal.data import Dataset, Source, make_source
from dal.data.checks import check_split
from dal.data.hard_pools import harden
from dal.data.initial import check_initial, start_of
from dal.data.texts.encoding import with_encoder_of
from dal.features import Embedding
from dal.learners import Committee
from dal.models.base import MakeModel
from dal.oracles import Oracle
from dal.query import Strategy
from dal.recording.run_directory import RunDirectory
from dal.recording.samples import Known
from dal.runs.host import current_host
from dal.runs.loop import Result, run
from dal.runs.setting import Setting
from dal.runs.summary import headline, summary, todo
from dal.settings import Settings
from dal.stopping import Criterion
from dal.training.trainer import Trainer
from dal.utils.build import TARGET, build, call, factory
from dal.utils.logs import OUTCOME, REPLICA
from dal.utils.numerics import pick_device
from dal.utils.ranks import current
from dal.utils.signals import Interrupts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What the settings of a run make without its data.

    It is made before the run directory, so that a setting that is refused leaves nothing behind.
    """

    settings: Settings
    strategy: Strategy
    trainer: Trainer
    model: MakeModel
    committee: Committee
    oracle: partial[Oracle]
    initial: Callable[..., Tensor]
    stopping: Mapping[str, Criterion]
    setting: Setting
    cooperative: Cooperative

    @classmethod
    def of(cls, config: Mapping[str, Any], allow: tuple[str, ...]) -> Prepared:
        """Make the parts, and check the settings of what is made later, together with the data.

        Raises:
            ValueError: A setting is out of range.
            TypeError: A setting has the wrong type.
            FileNotFoundError: A file that settings name is missing.
        """
        shared = current_host().shared
        settings = Settings(**{f.name: config[f.name] for f in fields(Settings)})
        pick_device(settings.device)
        check_split(**config["split"])
        factory(config["data"], "data", allow=allow)
        build(config["features"], "features", allow=allow)
        for options in config["difficulty"].values():
            holds_data = any(isinstance(o, Mapping) and TARGET in o for o in options.values())
            if not holds_data:  # or else it is made together with the data
                build(options, "difficulty", allow=allow)
        initial = factory(config["initial"], "initial", allow=allow)
        check_initial(initial)
        return cls(
            settings,
            strategy=build(config["strategy"], "strategy", allow=allow),
            trainer=shared(
                config["trainer"], lambda: build(config["trainer"], "trainer", allow=allow)
            ),
            model=shared(config["model"], lambda: factory(config["model"], "model", allow=allow)),
            committee=build(config["committee"], "committee", allow=allow),
            oracle=factory(config["oracle"], "oracle", allow=allow, deep=True),
            initial=initial,
            setting=build(config["setting"], "setting", allow=allow),
            cooperative=build(config["cooperative"], "cooperative", allow=allow),
            stopping={
                name: build(options, "stopping", allow=allow)
                for name, options in config["stopping"].items()
            },
        )


def execute(
    config: Mapping[str, Any], run_dir: Path, oracle: partial[Oracle] | None = None
) -> Result:
    """Build everything from plain settings, run, and show the results.

    Args:
        config: Resolved settings, as ``conf/config.yaml`` composes them, in plain containers.
        run_dir: The run directory; a run that is in it goes on.
        oracle: Makes another oracle than that of the settings, of those of the things at hand that
            its parameters name. What the one of the settings was answered counts.

    Returns:
        The result.

    Raises:
        ValueError: A setting is out of range, or a data file is damaged.
        TypeError: A setting has the wrong type, or strategy and model do not go together.
        OSError: A file is missing or cannot be written.
    """
    allow, began = tuple(config["plugins"]), time.monotonic()
    ranks = current()
    prepared = Prepared.of(config, allow)  # refused settings leave nothing behind
    settings = prepared.settings
    with (
        RunDirectory(run_dir) if ranks.is_main else nullcontext() as directory,
        profiled(run_dir, config["profile"] and ranks.is_main),
    ):
        log.info("run directory: %s", run_dir)
        known = ranks.broadcast(lambda: Known.read(run_dir.expanduser()))
        parts = ("data", "model", "features", "difficulty", "split", "seed")
        of_data = [config[name] for name in parts]
        make = partial(source_of, config, settings, allow, known.listing)
        source = current_host().shared([*of_data, known.digest], lambda: ranks.main_first(make))
        log.info(
            "%s: %s", source.name, ", ".join(f"{n} {part}" for part, n in source.sizes.items())
        )
        makers = [make for make in (oracle, prepared.oracle) if make is not None]
        oracles = [_oracle(make, run_dir, source, settings.seed) for make in makers]
        result = run(
            source,
            prepared.model,
            prepared.strategy,
            initial=start_of(prepared.initial, source, settings.seed),
            trainer=prepared.trainer,
            oracle=oracles[0],
            earlier=oracles[1:],
            committee=prepared.committee,
            stopping=prepared.stopping,
            settings=settings,
            setting=prepared.setting,
            cooperative=prepared.cooperative,
            run_dir=directory,
            config=config,
        )
        # Of several runs the tables go to their logs only.
        level = logging.DEBUG if REPLICA.get() else logging.INFO
        log.log(level, "%s", summary(result, run_dir))
    if REPLICA.get():  # the log, which says the same at length, is closed
        seconds = time.monotonic() - began
        OUTCOME.info("%s, %.1f s%s", headline(result), seconds, todo(result, run_dir))
    return result


@contextmanager
def profiled(run_dir: Path, wanted: bool) -> Iterator[None]:
    """Profile a block with torch's profiler and write the table of operators to ``profile.txt``."""
    if not wanted:
        yield
        return
    from torch.profiler import profile

    with profile() as profiler:
        yield
    key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=key, row_limit=40)
    (run_dir / "profile.txt").write_text(table)
    log.info("profile: %s", run_dir / "profile.txt")


def source_of(
    config: Mapping[str, Any],
    settings: Settings,
    allow: tuple[str, ...],
    known: Mapping[str, Any] | None = None,
) -> Source:
    """The data: embedded where features are asked for, divided, and with a harder pool.

    Args:
        config: All settings.
        settings: Those of them that say where it is computed, and the seed.
        allow: Packages besides ``dal`` that settings may name.
        known: What the run recorded of its samples, for data functions that name it.

    Raises:
        PreemptedError: A signal came while features were computed; those that are done are kept.
    """
    embedding: Embedding = build(config["features"], "features", allow=allow)
    embedding.plugins = allow
    embedding.divide = lambda data: make_source(data, seed=settings.seed, **config["split"])
    pools = [build(options, "difficulty", allow=allow) for options in config["difficulty"].values()]
    load = factory(config["data"], "data", allow=allow)
    grows = "known" in inspect.signature(load).parameters
    dataset: Dataset = load(known=known) if grows else load()
    dataset = with_encoder_of(dataset, factory(config["model"], "model", allow=allow))
    device = current().local_device(pick_device(settings.device))
    with Interrupts() as interrupts:
        dataset = embedding(dataset, device, interrupts.check)
        source = embedding.divide(dataset)
        return harden(
            source,
            pools,
            seed=settings.seed,
            embed=lambda other: embedding.foreign(other, device, interrupts.check),
        )


def _oracle(make: partial[Oracle], run_dir: Path, source: Source, seed: int) -> Oracle:
    """The oracle, and those that it wraps, each given what its parameters name of this."""
    at_hand = {
        "targets": source.train.targets,
        "foreign": source.foreign,
        "folder": run_dir / "queries",
        "run_name": run_dir.name,
        "class_names": source.class_names,
        "positions": source.train.positions,
        "multilabel": source.task.kind == "multilabel",
        "seed": seed,
    }
    oracle: Oracle = call(make, at_hand)
    return oracle
