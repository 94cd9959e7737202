"""Starts a run with a page for every line on standard input: ``page_runs.py DIR QUESTIONS``.

Each is a process of its own, that may be killed; this one has imported everything before.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import torch

import dal
from dal.data import digits, initial_labels, make_source
from dal.data.source import Source
from dal.models import MLP
from dal.oracles import Oracle, PageOracle
from dal.query import Margin
from dal.training.trainer import Trainer
from dal.utils.signals import PreemptedError


def source_of() -> Source:
    """Few digits."""
    whole = digits()
    return make_source(
        dal.data.Dataset("few", whole.inputs[:400], whole.targets[:400], whole.class_names),
        seed=0,
    )


def go(run_dir: Path, source: Source, oracle: Oracle, questions: int) -> None:
    """Do the run, or go on with it."""
    torch.set_num_threads(1)
    dal.run(
        source,
        MLP,
        Margin(),
        initial=initial_labels(source.train.targets, seed=0, count=20),
        trainer=Trainer(epochs=3),
        oracle=oracle,
        settings=dal.Settings(query_size=25, budget=25 * questions, device="cpu", threads=1),
        run_dir=run_dir,
    )


def main(folder: str, questions: str) -> None:
    """Say ``pid NUMBER`` of each run, where its page is, and ``ended CODE``."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    source = source_of()
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            oracle = PageOracle(Path(folder) / "queries", source.class_names, open_browser=False)
            try:
                go(Path(folder), source, oracle, int(questions))
                code = 0
            except PreemptedError as end:
                code = 128 + end.signum
            sys.stdout.flush()
            os._exit(code)
        sys.stdout.write(f"pid {child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"ended {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
