"""A training without labels from the first step, or where a killed one stood, to the last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from dal.data.source import Split
from dal.features.self_supervised.curves import Curves
from dal.features.self_supervised.files import EncoderFile
from dal.features.self_supervised.pretraining import Plan, Pretraining
from dal.features.self_supervised.probe import refuse_collapsed
from dal.features.self_supervised.views import NAMED
from dal.utils.ranks import current

log = logging.getLogger(__name__)

SAVED_EVERY = 30.0
"""Seconds of training that a kill loses at most; a signal loses none."""
PROBES = 10
"""How often features are looked at, evenly over the training."""


def trained(
    split: Split,
    plan: Plan,
    device: torch.device,
    name: str,
    file: EncoderFile,
    check: Callable[[], None],
) -> dict[str, Any]:
    """Train an encoder, from where an earlier process was ended.

    Raises:
        ValueError: The loss is not finite, or the features have collapsed.
    """
    training = Pretraining(split, NAMED[plan.views], plan, device, name)
    kept, seconds = file.read("training.pt"), 0.0
    if kept is not None:
        training.restore(kept)
        seconds = kept["seconds"]
        log.info("features: going on after step %d of %d", training.step, plan.steps)
    log.info(
        "features: training %s on %s images by %s: %d steps of %d, rate %g, seed %d",
        plan.encoder,
        f"{len(split):,}",
        plan.method,
        plan.steps,
        plan.batch,
        plan.lr,
        plan.seed,
    )
    if plan.encoder == "resnet18" and device.type == "cpu":
        log.warning(
            "features: resnet18 is slow on a CPU, hours for larger images; features.encoder=small "
            "goes with images of any size, best of about 32 pixels, as data.size=32 makes them"
        )
    clock = _Clock(seconds)

    def save() -> None:
        file.save(training.state() | {"seconds": clock.seconds})

    def stop() -> None:
        try:
            check()
        except BaseException:  # between two steps, so that nothing is half done
            save()
            raise

    with closing(Curves(file.path("tb"), split)) as curves:
        _run(training, curves, save, stop)
        measured = curves.measure(training, stop)
    features = training.features(curves.probed, stop)
    refuse_collapsed(features, f"{name} by {plan.method}")
    weights = {key: value.cpu() for key, value in training.model.encoder.state_dict().items()}
    return {
        "weights": weights,
        "plan": asdict(plan),
        "seconds": clock.seconds,
        "probe": measured.get("probe/neighbors", -1.0),
        "rank": measured["probe/effective_rank"],
    }


def _run(
    training: Pretraining,
    curves: Curves,
    save: Callable[[], None],
    check: Callable[[], None],
) -> None:
    """Train to the last step; ``check`` is called before each."""
    steps, saved = training.plan.steps, time.monotonic()
    every = max(1, steps // PROBES)
    hidden = None if current().is_main else True
    with tqdm(
        desc="features: train", total=steps, initial=training.step, leave=False, disable=hidden
    ) as bar:
        while training.step < steps:
            check()
            loss = training.run_step()
            curves.step(training, loss)
            if training.step % every == 0 and training.step < steps:
                curves.measure(training, check)
            if time.monotonic() - saved > SAVED_EVERY:
                save()
                saved = time.monotonic()
            bar.update()


class _Clock:
    """Seconds of a training, those of earlier processes included."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
