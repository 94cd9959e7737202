"""What decides the bits of a result, besides the settings: device, versions, threads, sizes."""

from __future__ import annotations

import json
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: There is no such device here, or it is neither a CPU nor a CUDA device.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name} is not there ({reason}); there is {_found()}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device={name} is not supported, only cpu and cuda are; there is {_found()}"
        )
    return device


@contextmanager
def own_threads() -> Iterator[None]:
    """Give back torch's number of threads after a block."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _found() -> str:
    """The supported devices of this machine."""
    return "cpu" + "".join(f", cuda:{i}" for i in range(torch.cuda.device_count()))


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Float32 with all its bits for the time of a block: no TF32 on CUDA; elsewhere no effect."""
    with ExitStack() as stack:
        if device.type == "cuda":
            with _quiet():
                for switch in _switches():
                    _turn_off(switch, stack)
        try:
            yield
        finally:
            with _quiet():
                stack.close()


class _Switch(NamedTuple):
    """One of torch's settings that decide about TF32, and its value without TF32."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    off: Any


def _switches() -> list[_Switch]:
    """The old settings first, because they set the newer ones along, which torch < 2.9 lacks."""
    precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    return [
        _Switch(*precision, "highest"),
        _switch(torch.backends.cudnn, "allow_tf32", False),
        *(_switch(holder, "fp32_precision", "ieee") for holder in _newer().values()),
    ]


def _switch(holder: Any, name: str, off: Any) -> _Switch:
    return _Switch(lambda: getattr(holder, name), lambda value: setattr(holder, name, value), off)


def _newer() -> dict[str, Any]:
    """What carries ``fp32_precision`` by kind of operation; empty before torch 2.9."""
    cudnn: Any = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):
        return {}
    return {"matmul": torch.backends.cuda.matmul, "conv": cudnn.conv, "rnn": cudnn.rnn}


def _turn_off(switch: _Switch, stack: ExitStack) -> None:
    try:
        before = switch.read()
    except RuntimeError:  # an old setting, where the caller has set the newer ones otherwise
        return
    if before != switch.off:
        stack.callback(switch.write, before)
        switch.write(switch.off)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides that some versions of torch call the old settings deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings")
        yield


def _tf32() -> dict[str, bool]:
    """Whether CUDA may use TF32, for matrix products and for convolutions."""
    if newer := _newer():
        kinds = ("matmul", "conv")
        return {f"tf32_{kind}": newer[kind].fp32_precision == "tf32" for kind in kinds}
    return {
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_conv": torch.backends.cudnn.allow_tf32,
    }


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
        **(_tf32() if on_gpu else {}),
        **settings,
    }


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, host and git commit, for the record.

    Args:
        device: Where the run computes: ``gpu`` is its name, or None on a CPU. Without it, ``gpu``
            is the name of the current CUDA device, if there is one.
    """
    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
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
