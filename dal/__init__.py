"""dal: deep active learning in PyTorch.

Importing the package is cheap; torch is imported with the first name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dal.export import load
    from dal.predictor import Predictor
    from dal.runs.loop import Result, run
    from dal.runs.scoring import score
    from dal.settings import Settings

__all__ = ["Predictor", "Result", "Settings", "__version__", "load", "run", "score"]

_HOMES = {
    "Predictor": "dal.predictor",
    "load": "dal.export",
    "Settings": "dal.settings",
    "Result": "dal.runs.loop",
    "run": "dal.runs.loop",
    "score": "dal.runs.scoring",
}

_ROOMS = ("data", "features", "learners", "models", "oracles", "query", "stopping", "training")
"""Packages that ``import dal`` alone makes known, as ``dal.data``."""


def __getattr__(name: str) -> Any:
    import importlib

    if name in _ROOMS:
        return importlib.import_module(f"dal.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'dal' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
