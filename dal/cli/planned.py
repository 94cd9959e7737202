"""Which runs one command means: seeds times strategies, each as if it were started by itself."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dal.settings import Choices, PlannedRun, settled

MOST = 10_000
"""Runs in one process; each takes about a megabyte besides its network, and a thread."""

_OTHER_FILES = 32
"""Files that the process has open besides those of its runs, about."""

Composed = tuple[DictConfig, Mapping[str, str]]


def runs_of(
    settings: DictConfig,
    choices: Mapping[str, str],
    compose_with: Callable[[str], Composed],
    choices_of: Callable[[DictConfig, Mapping[str, str]], Choices],
) -> list[PlannedRun]:
    """The runs that one job is.

    Args:
        settings: The job's settings.
        choices: The chosen option of each group.
        compose_with: Gives settings and choices with another strategy.
        choices_of: Gives what was chosen, which names the run directory.

    Raises:
        SystemExit: Settings do not go together, with code 1.
    """
    check(settings)
    strategies = list(settings.replica_strategies)
    groups = [compose_with(name) for name in strategies] or [(settings, choices)]
    runs = []
    for composed, chosen in groups:
        made = choices_of(composed, chosen)
        for seed in range(settings.seed, settings.seed + settings.replicas):
            alone = {"seed": seed, "replicas": 1, "replica_strategies": []}
            plain: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
                OmegaConf.merge(composed, alone), resolve=True
            )
            config = settled(plain) | {"choices": made.as_dict()}
            run_dir = Path(config["saved_dir"]).expanduser() / made.run_name(seed)
            runs.append(PlannedRun(f"{chosen['strategy']} s{seed}", config, run_dir))
    return runs


def check(settings: DictConfig) -> None:
    """Refuse settings of several runs that do not go together.

    Raises:
        SystemExit: Naming the setting, and with code 1.
    """
    names, count = list(settings.replica_strategies), settings.replicas
    if count < 1:
        raise SystemExit(f"error: replicas={count}; give at least 1")
    if settings.lockstep.lower() not in ("auto", "true", "false"):
        raise SystemExit(f"error: lockstep={settings.lockstep}; choose auto, true or false")
    if len(set(names)) != len(names):
        raise SystemExit(f"error: replica_strategies={names} names one twice; name each once")
    if count * max(len(names), 1) == 1:
        return
    _check_number(settings)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SystemExit(
            "error: replicas share one process, and torchrun has started several; give the "
            "command without torchrun, or set replicas=1"
        )
    if settings.profile:
        raise SystemExit("error: profile=true profiles one run; set replicas=1")


def _check_number(settings: DictConfig) -> None:
    """Refuse more runs than may have their files open at one time: lock, log and TensorBoard's."""
    each = 3 + settings.record_epochs
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST if limit < 0 else min(MOST, max(limit - _OTHER_FILES, 0) // each)
    strategies = max(len(settings.replica_strategies), 1)
    of = f" of {strategies} strategies" if strategies > 1 else ""
    if (runs := settings.replicas * strategies) > allowed:
        raise SystemExit(
            f"error: replicas={settings.replicas}{of} asks for {runs:,} "
            f"runs in one process; each keeps {each} files open, which allows {allowed:,} "
            f"(`ulimit -n` is {limit if limit >= 0 else 'unlimited'}, and {MOST:,} the most); "
            "lower replicas, or raise that limit"
        )
