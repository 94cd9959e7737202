"""The command line: the only room that knows Hydra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dal.cli.apart import Apart
    from dal.cli.sweep import Outcomes

__all__ = ["Apart", "Outcomes"]


def __getattr__(name: str) -> Any:
    if name == "Outcomes":
        from dal.cli.sweep import Outcomes  # imported when asked for: `dal --help` needs no Hydra

        return Outcomes
    if name == "Apart":
        from dal.cli.apart import Apart

        return Apart
    raise AttributeError(f"module 'dal.cli' has no attribute {name!r}")
