"""Which settings make a run what it is, and the name that they give it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dal.utils.direction import direction

UNHASHED = (
    "budget",
    "max_rounds",
    "device",
    "threads",
    "batch_size",
    "data_dir",
    "saved_dir",
    "keep_history",
    "keep_models",
    "record_epochs",
    "save_every",
    "profile",
    "plugins",
    "replicas",
    "replica_strategies",
    "lockstep",
)
"""Settings that do not make another run: how far it goes, where and how it is computed."""

OFF: Mapping[str, Any] = {"features": {"_target_": "dal.features.Raw"}, "pool": {}}
"""Groups that make no other run while they are off, so that older runs keep their names."""

PLACES = ("root", "cache_dir")
"""Settings of groups that say where files are."""

SHOWN = ("guess", "pictures")
"""Settings of an oracle that say what people are shown."""

APART: Mapping[str, Sequence[str]] = {
    "data": PLACES,
    "features": PLACES,
    "pool": PLACES,
    "oracle": SHOWN,
}
"""Settings of each group that make no other run."""


def run_name(config: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """Name of the run directory: a pure function of the settings that make the run.

    Args:
        config: Resolved settings in plain containers.
        choices: The chosen option of each group.

    Returns:
        ``<data>-<model>-<strategy>-s<seed>-<hash8>``.
    """
    hashed = {
        key: without(value, APART.get(key, ()))
        for key, value in settled(config).items()
        if key not in UNHASHED and not (key in OFF and value == OFF[key])
    }
    text = json.dumps(hashed, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    parts = [choices[group] for group in ("data", "model", "strategy")]
    return "-".join([*parts, f"s{config['seed']}", digest])


def settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those filled in that follow from others.

    The direction of early stopping; so a run has one name, whether it is given or not.
    """
    trainer = config.get("trainer")
    rule = trainer.get("early_stopping") if isinstance(trainer, Mapping) else None
    if not isinstance(rule, Mapping) or rule.get("mode") is not None:
        return dict(config)
    rule = {**rule, "mode": direction(rule.get("monitor"))}
    return {**config, "trainer": {**trainer, "early_stopping": rule}}  # type: ignore[dict-item]


def without(settings: Any, names: Sequence[str]) -> Any:
    """Settings without those of some names, on whatever level they stand."""
    if not isinstance(settings, Mapping):
        return settings
    return {key: without(part, names) for key, part in settings.items() if key not in names}
