"""What was chosen for a run: what tells its strategy, and what runs compared must share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dal.settings import named_leaves

OWN = "strategy."
"""Settings that may differ between runs that are compared."""


def strategy_name(option: str, config: Mapping[str, Any]) -> str:
    """The option of a strategy, with the settings chosen for it where they are not the defaults."""
    chosen = config.get("choices") or {"options": {}, "values": {}}
    parts = [(key.rpartition("@")[2], value) for key, value in chosen["options"].items()]
    parts += list(chosen["values"].items())
    changed = [f"{k.removeprefix(OWN)}={v}" for k, v in parts if k.startswith(OWN)]
    return f"{option} ({', '.join(changed)})" if changed else option


def shared_settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that runs compared must share, by dotted name."""
    return ((key, value) for key, value in named_leaves(config) if not key.startswith(OWN))


def without_own_seed(
    settings: Mapping[str, Any], seed: int, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings but for seeds that follow the run's own (``data.seed: ${seed}``).

    ``config.yaml`` has them resolved, so they differ where nothing but the seed does.
    """
    return {
        key: value
        for key, value in settings.items()
        if not key.endswith(".seed") or value != seed or key in chosen
    }


def chosen_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and values that runs compared must share; empty where they were not recorded."""
    chosen = config.get("choices") or {"options": {}, "values": {}}
    options = {
        key: value
        for key, value in chosen["options"].items()
        if key != "strategy" and not key.rpartition("@")[2].startswith(OWN)
    }
    return options, {k: v for k, v in chosen["values"].items() if not k.startswith(OWN)}
