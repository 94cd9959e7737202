"""A whole experiment with dal, baal and scikit-activeml side by side.

``python -m benchmarks.whole_experiment`` prints a Markdown table. Every run has a process of its
own, the systems take turns; a process first runs a tiny experiment, so that imports and first
calls are not counted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = ("dal", "baal", "skactiveml")
SAME_ACCURACY = 0.02
"""Mean test accuracies this close count as the same experiment: orders and weights differ."""

Runs = dict[str, list[dict[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the systems in turn and print seconds side by side, or run one for its parent process."""
    options = parse(arguments)
    spec = settings(options)
    if options.only_child:
        sys.stdout.write(json.dumps(one(options.systems[0], spec)) + "\n")
        return
    runs: Runs = {name: [] for name in options.systems}
    for number in range(options.repeat):
        for name in options.systems:
            runs[name].append(child(name, spec))
            last = runs[name][-1]
            said = f"{number + 1}. {name}: {last['total']:.1f} s, {last['cpu']:.1f} s of CPU"
            print(said, file=sys.stderr, flush=True)
    check(runs)
    print(*heading(spec, options.repeat), "", *table(runs), sep="\n")
    if options.json:
        options.json.write_text(json.dumps({**asdict(spec), "runs": runs}, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options: one for every setting of the experiment, and which systems how often."""
    from benchmarks.systems.experiment import Experiment

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only-child", action="store_true", help=argparse.SUPPRESS)
    types = get_type_hints(Experiment)
    for field in fields(Experiment):
        kind = types[field.name] if types[field.name] in (int, float) else str
        default = os.environ.get("DAL_DATA_DIR") if field.name == "data_dir" else field.default
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=default)
    options = parser.parse_args(arguments)
    if options.repeat < 1:
        parser.error(f"--repeat {options.repeat}; give at least 1")
    return options


def settings(options: argparse.Namespace) -> Any:
    """The experiment that the options describe."""
    from benchmarks.systems.experiment import Experiment

    values = {field.name: getattr(options, field.name) for field in fields(Experiment)}
    if values["data_dir"]:
        values["data_dir"] = str(Path(values["data_dir"]).resolve())
    return Experiment(**values)


def one(name: str, spec: Any) -> dict[str, Any]:
    """Run one system here, after a tiny run of it."""
    import torch

    torch.set_num_threads(spec.threads)
    system = importlib.import_module(f"benchmarks.systems.with_{name}")
    system.experiment(replace(spec, pool=min(spec.pool, 2_000), rounds=1, epochs=1))
    outcome = system.experiment(spec)
    return outcome.as_dict() | {"rest": outcome.rest, "mean_accuracy": outcome.mean_accuracy}


def child(name: str, spec: Any) -> dict[str, Any]:
    """Run one system in a process of its own."""
    values = asdict(spec).items()
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in values if value is not None]
    command = [sys.executable, "-m", "benchmarks.whole_experiment", "--only-child"]
    done = subprocess.run(
        [*command, *flags, "--systems", name],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(spec.threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the experiment with {name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(runs: Runs) -> None:
    """Refuse to compare systems that did not do the same.

    Raises:
        RuntimeError: Label counts or optimizer steps differ, or mean accuracies by more than
            `SAME_ACCURACY`.
    """
    firsts = {name: repeats[0] for name, repeats in runs.items()}
    for what in ("labels", "steps"):
        if len({json.dumps(first[what]) for first in firsts.values()}) > 1:
            found = {name: first[what] for name, first in firsts.items()}
            raise RuntimeError(f"the systems' {what} differ: {found}")
    means = {name: first["mean_accuracy"] for name, first in firsts.items()}
    if max(means.values()) - min(means.values()) > SAME_ACCURACY:
        raise RuntimeError(f"the systems' mean test accuracies differ too much: {means}")


def table(runs: Runs) -> list[str]:
    """Median seconds of every system, its parts, and its ratio to dal within the repetitions."""
    from benchmarks.systems.experiment import PARTS

    lines = [
        "| system | whole, s | times dal's (range) | CPU s | "
        + " | ".join((*PARTS, "rest"))
        + " | mean and last test accuracy |",
        "|" + "---|" * (len(PARTS) + 6),
    ]
    for name, repeats in runs.items():
        ratio = "-"
        if "dal" in runs:
            pairs = zip(repeats, runs["dal"], strict=True)
            ratios = [mine["total"] / ours["total"] for mine, ours in pairs]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        parts = [median([run["parts"][part] for run in repeats]) for part in PARTS]
        parts.append(median([run["rest"] for run in repeats]))
        whole, cpu = (median([run[key] for run in repeats]) for key in ("total", "cpu"))
        accuracy = f"{repeats[0]['mean_accuracy']:.4f}, {repeats[0]['accuracy'][-1]:.4f}"
        lines.append(f"| {' | '.join((name, whole, ratio, cpu, *parts, accuracy))} |")
    return lines


def median(seconds: list[float]) -> str:
    """Median, as written in the table."""
    return f"{statistics.median(seconds):.2f}"


def heading(spec: Any, repeat: int) -> list[str]:
    """What the numbers were measured with."""
    import torch

    from benchmarks.heading import hardware
    from dal.utils.numerics import environment

    found, load = environment(), os.getloadavg()[0]
    machine = hardware(torch.device(spec.device))
    labels = spec.initial + spec.rounds * spec.query_size
    dirty = ", changed" if found["git_dirty"] else ""
    return [
        f"- experiment: {spec.load()[1]}; {spec.initial} to {labels} labels in {spec.rounds} "
        f"queries, {spec.epochs} epochs a fit, batch {spec.batch_size}",
        f"- hardware: {machine}; threads: {spec.threads}; load {load:.1f}",
        f"- versions: torch {torch.__version__}, Python {found['python']}",
        f"- repetitions: {repeat}, systems in turn, a process each; medians",
        f"- commit: {found['git_commit']}{dirty}",
    ]


if __name__ == "__main__":
    main()
