"""`features=self_supervised`: an encoder that is learned from the training part, then frozen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from dal.data.dataset import Dataset
from dal.data.growth import parted
from dal.data.source import Split
from dal.export import network_state
from dal.features.network import Frozen, NetworkEmbedding, refuse_texts
from dal.features.self_supervised.encoders import SMALL, UNUSED, encoder_of, make_encoder
from dal.features.self_supervised.files import EncoderFile
from dal.features.self_supervised.learning import trained
from dal.features.self_supervised.pretraining import Plan, automatic_steps
from dal.features.self_supervised.views import IN_WORDS, NAMED, ViewsName, views_for
from dal.models.frozen import UnitLength
from dal.utils.inputs import one_shape
from dal.utils.ranges import check_number, check_whole

log = logging.getLogger(__name__)

LEAST_SAMPLES = 16


class SelfSupervised(NetworkEmbedding):
    """Features from an encoder that is trained without labels on the run's training part.

    Two random views of an image are to have like features, and no two images the same. Validation
    and test samples play no part, and so `dal.data.make_source` refuses a division that tests on
    samples the encoder has seen. Trained once for the same images, settings and seed: every run
    after that reads the encoder from ``cache_dir``, beside its TensorBoard curves. What a killed
    training has done is kept; it goes on to the same bits on a CPU. Costs a forward and a backward
    pass of two views for every sample of a step: for MNIST the small encoder takes three minutes of
    one core; ResNet-18 wants a GPU.

    It helps where labels are few and images are many, and choices need to cover the pool. The views
    say what the features are blind to: choose those that leave the classes as they are.

    Args:
        method: ``simclr`` compares with the other samples of a batch, ``vicreg`` with none.
        encoder: ``small``, three convolutions for 28 to 32 pixels; ``resnet18``; ``auto``: small
            for images of at most 32 pixels.
        views: What images are changed by: ``digits`` (pen strokes; no flips), ``signs`` (no flips),
            ``objects`` (gray), ``natural`` (colored); ``auto``: what the data set says of itself,
            else natural for 3 channels and signs for others.
        steps: Steps of training; None for 200 to 1,200, by the number of samples.
        batch: Samples of a step, at most; each is seen twice.
        lr: Highest learning rate.
        temperature: Of ``simclr``.
        seed: Of weights, order and views.
        cache_dir: See `NetworkEmbedding`.
        dtype: Likewise.
        standardize: Likewise.
        batch_size: Likewise.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is no number.
    """

    def __init__(
        self,
        method: Literal["simclr", "vicreg"] = "simclr",
        encoder: Literal["auto", "small", "resnet18"] = "auto",
        views: ViewsName = "auto",
        steps: int | None = None,
        batch: int = 256,
        lr: float = 0.002,
        temperature: float = 0.5,
        seed: int = 0,
        cache_dir: str = "~/.cache/dal/features",
        dtype: Literal["float16", "float32"] = "float16",
        standardize: bool = True,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(cache_dir, dtype, standardize, batch_size)
        _check_choice("method", method, ("simclr", "vicreg"))
        _check_choice("encoder", encoder, ("auto", "small", "resnet18"))
        _check_choice("views", views, ("auto", *NAMED))
        if steps is not None:
            check_whole("features.steps", steps, 1, " or null")
        check_whole("features.batch", batch, 2)
        check_number("features.lr", lr, positive=True)
        check_number("features.temperature", temperature, positive=True)
        check_whole("features.seed", seed, 0)
        self.method, self.encoder, self.views, self.steps = method, encoder, views, steps
        self.batch, self.lr, self.temperature, self.seed = batch, lr, temperature, seed
        self._frozen: Frozen | None = None

    def __call__(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """Train the encoder on the training part, or read it, and embed all parts.

        Raises:
            ValueError: The samples are no images, or too few or too small; or the features have
                collapsed.
            OSError: The cache cannot be written to.
        """
        refuse_texts(dataset)
        raw = dataset.store.spec
        if isinstance(raw, dict) or len(raw) != 3:
            raise ValueError(
                f"samples of {dataset.name} have shape {raw}, and features=self_supervised "
                "learns from images; set features=none"
            )
        split = self.divide(_begun(dataset)).train
        plan, name = self._plan(split, dataset)
        file = EncoderFile(Path(self.cache_dir).expanduser(), split, plan)
        with file.alone(check):
            state = known = file.read()
            if state is None:
                state = trained(split, plan, device, dataset.name, file, check)
            if known is None or not file.path("pth").is_file():
                file.write(state)
        with torch.random.fork_rng(devices=[]):  # the weights it starts from are replaced
            network = make_encoder(plan.encoder, one_shape(split.input_shape, dataset.name))
        network.load_state_dict(state["weights"])
        build = encoder_of(plan.encoder, one_shape(split.input_shape, dataset.name))
        saved = network_state(network, build, split.input_shape, UNUSED, split.prepare)
        log.info("features: %s", file.found(state, known is not None))
        self._frozen = Frozen(
            UnitLength(network),
            split.prepare,
            name,
            split.input_shape,
            [(dataset.digest(), split.positions)],
            {"model": saved, "unit_length": True},
        )
        return super().__call__(dataset, device, check)

    def foreign(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """Embed another data set by the encoder of the run's own."""
        return super().__call__(dataset, device, check)

    def network(self, device: torch.device) -> Frozen:
        """The encoder that was learned from the data set that was embedded.

        Raises:
            ValueError: None was embedded yet.
        """
        if self._frozen is None:
            raise ValueError(
                "this embedding has no encoder yet: give it the data set first, as in "
                "embedding(dataset, device), which trains one, or reads the one that was trained"
            )
        return replace(self._frozen, model=self._frozen.model.to(device))

    def _plan(self, split: Split, dataset: Dataset) -> tuple[Plan, str]:
        """What is done, and the encoder in words."""
        count, shape = len(split), one_shape(split.input_shape, "self_supervised")
        if count < LEAST_SAMPLES:
            raise ValueError(
                f"the training part of {dataset.name} has {count} samples, and "
                f"features=self_supervised learns from {LEAST_SAMPLES} or more; set features=none"
            )
        encoder = self.encoder
        if encoder == "auto":
            encoder = "small" if max(shape[1:]) <= SMALL else "resnet18"
        views, _ = views_for(self.views, shape, dataset.name, dataset.depicts)
        log.info(
            "features: views=%s (%s)%s",
            views,
            IN_WORDS[views],
            f"; there are {', '.join(NAMED)} to choose" if self.views == "auto" else "",
        )
        if count < self.batch:
            log.info("features: batches of all %d samples, as there are no more", count)
        steps = automatic_steps(count) if self.steps is None else self.steps
        plan = Plan(
            self.method,
            encoder,
            views,
            steps,
            min(self.batch, count),
            self.lr,
            self.temperature if self.method == "simclr" else 0.0,
            self.seed,
        )
        return plan, f"{encoder} encoder ({self.method}, {steps} steps, seed {self.seed})"


def _begun(dataset: Dataset) -> Dataset:
    """The samples that a run began with: those that came late teach nothing."""
    if not dataset.appended:
        return dataset
    return replace(
        dataset,
        inputs=parted(dataset.store, dataset.begun)[0],
        targets=dataset.targets[: dataset.begun],
        appended=0,
        contents=None,
        shown=None,
    )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"features.{name}={value!r}; choose {' or '.join(choices)}")
