"""A labeling page without a run: ``python tests/helpers/page_demo.py FOLDER [SETTING=VALUE ...]``.

Shows rounds of digits one after the other; for trying the page and for tests in a browser.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch

from dal.data import digits, make_source
from dal.data.source import Source
from dal.oracles import PageOracle
from dal.query.base import Query


def rounds(oracle: PageOracle, source: Source, count: int, size: int, train_s: float) -> None:
    """Ask so many questions, with something told of training in between."""
    probs = torch.softmax(torch.randn(size, source.num_classes), 1)
    for number in range(count):
        indices = torch.arange(number * size, (number + 1) * size)
        ticket = oracle.submit(Query(indices, torch.ones(size), probs=probs), number)
        while oracle.collect(ticket) is None:
            oracle.wait(ticket, 0.5)
        for epoch in range(10):
            values = {"train/loss": 2.0 / (epoch + 1), "val/accuracy": 0.5 + epoch / 20}
            oracle.tell({"round": number + 1, "epoch": epoch, "values": values})
            time.sleep(train_s / 10)
        row = {"round": number + 1, "labels": (number + 1) * size, "test/accuracy": 0.6}
        oracle.tell({"round": number + 1, "row": row})
    oracle.tell({"status": "complete", "reason": "budget"})


def main(folder: str, *settings: str) -> None:
    """Serve until the rounds are done."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given: dict[str, Any] = {"rounds": 3, "size": 20, "train_s": 2.0, "open_browser": False}
    for pair in settings:
        key, _, text = pair.partition("=")
        number = float(text) if "." in text else int(text) if text.isdecimal() else text
        given[key] = {"true": True, "false": False}.get(text, number)
    count, size, train_s = given.pop("rounds"), given.pop("size"), given.pop("train_s")
    source = make_source(digits(), seed=0)
    oracle = PageOracle(Path(folder) / "queries", source.class_names, run_name="demo", **given)
    oracle.open(source)
    try:
        rounds(oracle, source, count, size, train_s)
    finally:
        oracle.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
