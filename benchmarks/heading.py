"""What the numbers were measured with."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from benchmarks.setup import Setup
from dal.utils.numerics import environment


def hardware(device: torch.device) -> str:
    """The processor, and the GPU where one is measured."""
    found = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text())
    cpu = f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores"
    return f"{torch.cuda.get_device_name(device)}; {cpu}" if device.type == "cuda" else cpu


def heading(setup: Setup) -> dict[str, str]:
    """What the numbers were measured with."""
    found = environment()
    return {
        "data": setup.data,
        "hardware": f"{hardware(setup.device)}; {torch.backends.cpu.get_cpu_capability()}",
        "versions": f"torch {torch.__version__}, Python {found['python']}, "
        f"{torch.get_num_threads()} threads",
        "repetitions": f"{setup.repeat}, alternatives in turn; medians, range of the ratios",
        "commit": str(found["git_commit"]) + (", changed" if found["git_dirty"] else ""),
    }
