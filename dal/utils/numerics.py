"""What decides the bits of a result, besides the settings: device, versions, threads, sizes."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        found = "cpu" + "".join(f", cuda:{i}" for i in range(torch.cuda.device_count()))
        raise ValueError(f"device={name} is not there ({reason}); there is {found}") from error
    return device


def signature(device: torch.device, **settings: Any) -> dict[str, Any]:
    """The numerics signature: runs with equal ones give equal bits on a CPU.

    Args:
        device: Where the run computes.
        **settings: Plain values that matter too: threads, batch size of the pass, precision.
    """
    on_gpu = device.type == "cuda"
    return {
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        **settings,
    }


def environment() -> dict[str, Any]:
    """Versions, host and git commit, for the record."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **_git(),
    }


def differences(saved: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two signatures, in words; empty where they are equal."""
    keys = [key for key in now if saved.get(key) != now[key]]
    return ", ".join(
        f"{key} {json.dumps(saved.get(key))} -> {json.dumps(now[key])}" for key in keys
    )


def _git() -> dict[str, Any]:
    """Commit of this package's checkout, and whether files differ from it."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(folder), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": None, "git_dirty": None}
