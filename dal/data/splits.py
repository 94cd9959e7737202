"""Dividing a data set into a training, a test and a validation part."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from dal.data.checks import check_dataset, check_split, refuse_second_validation
from dal.data.dataset import Dataset
from dal.data.draw import draw, share
from dal.data.growth import joined, parted
from dal.data.joined import JoinedStore
from dal.data.prepare import Prepare
from dal.data.source import Source, Split, is_known
from dal.data.store import update
from dal.data.texts.encoding import are_texts, encode_parts, recipe_of
from dal.data.texts.lsa import embed_of
from dal.utils.inputs import one_tensor
from dal.utils.kept import kept
from dal.utils.seeding import generator

_logger = logging.getLogger(__name__)


def make_source(
    dataset: Dataset,
    *,
    seed: int,
    kind: Literal["auto", "official", "merged", "none"] = "auto",
    test_fraction: float = 0.3,
    stratified: bool = True,
    validation: float | int = 0,
    validation_of_labels: float = 0,
) -> Source:
    """Divide a data set for one run.

    Samples whose target is `UNKNOWN` always stay in the training part, and so does, with
    ``stratified``, the only labeled sample of a class (a warning says so). Within each part,
    samples keep the order that they have in the data set. The test part does not depend on
    ``validation``. Samples that came after the run had begun (`Dataset.appended`) stand at the end
    of the training part, and decide nothing.

    Args:
        dataset: The data set.
        seed: Seed of the run; equal seeds give equal parts.
        kind: ``official`` keeps the data set's own test part; ``merged`` puts training and test
            part together and draws the test part from all (as papers with a "70/30" split do);
            ``auto`` is official where there is a test part, merged where there is none, and
            ``none`` where no label is known; ``none`` tests nothing, and leaves an official test
            part out.
        test_fraction: Share of the labeled samples that a merged split tests on, in (0, 1),
            rounded up.
        stratified: Draw test and validation part in class proportions rather than at random.
            Multi-label sets are divided at random either way: their classes overlap.
        validation: 0 for no validation part but the official one, if there is one; a fraction in
            (0, 1) of the labeled training samples, rounded up; or a number of samples, an int of at
            least 1.
        validation_of_labels: Share of the labels that each round of a run holds out to validate on,
            drawn anew from them, in [0, 0.5]; 0 for none.

    Returns:
        The parts, with the normalization of the data set; with ``dataset.standardize`` it is
        computed from the training part (a constant feature keeps the deviation 1).

    Raises:
        ValueError: If the data set contradicts itself, has no test part where one is asked for,
            or several validation parts, a part would be left without samples, or the test part
            holds samples on which a network was fitted that gives the inputs.
        TypeError: It is no `Dataset`.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"make_source divides a Dataset, not a {type(dataset).__name__}; give "
            'make_source(dal.data.Dataset("mine", inputs, targets), seed=0)'
        )
    check_split(kind, test_fraction, stratified, validation, validation_of_labels)
    if kind == "official" and dataset.test_inputs is None:
        raise ValueError(f"{dataset.name} has no official test part; use split.kind=auto or merged")
    check_dataset(dataset)
    refuse_second_validation(dataset, validation, validation_of_labels)
    stratified = stratified and dataset.targets.ndim == 1
    train, test = _divide(dataset, seed, kind, test_fraction, stratified)
    if test is None:
        _logger.info(
            "%s has no test part%s: this run cannot show how good its models are on samples that "
            "they have not seen, unless audit=0.1 or so asks for labels to measure by",
            dataset.name,
            "" if kind == "none" else " (no label is known, so none can be tested on)",
        )
    else:
        _refuse_seen(test.positions, dataset)
    held_out = _official(dataset, "validation")
    if validation:
        train, held_out = _take_out(
            train,
            validation,
            setting=f"split.validation={validation}",
            rng=generator(seed, "split", "validation"),
            stratified=stratified,
            class_names=dataset.class_names,
        )
    prepare = _prepare(dataset, train)
    learned_from = train
    if dataset.appended:
        train = _extended(train, dataset)
    encoder = None
    if are_texts(dataset.store):
        encoder, (encoded, test, held_out) = encode_parts(
            dataset.encoder, learned_from, [train, test, held_out]
        )
        train = encoded or train
    for split in (train, test, held_out):
        if split is not None:
            split.prepare = prepare
    return Source(
        name=dataset.name,
        train=train,
        test=test,
        validation=held_out,
        class_names=dataset.class_names,
        contents=_contents(dataset),
        digest=dataset.digest(),
        appended=dataset.appended,
        recipe=dataset.recipe if encoder is None else recipe_of(encoder, dataset.recipe),
        front=dataset.front,
        listing=dataset.listing,
        shown=dataset.shown,
        own_validation=dataset.validation_inputs is not None,
        validation_of_labels=validation_of_labels,
        vocab_size=None if encoder is None else encoder.vocab_size,
        embed=None if encoder is None else embed_of(train, encoder.vocab_size),
        truth=dataset.truth,
    )


def _refuse_seen(test_positions: Tensor, dataset: Dataset) -> None:
    """Refuse a test part that an earlier run learned from."""
    if dataset.seen is None:
        return
    known = int(torch.isin(test_positions, dataset.seen).sum())
    if known:
        raise ValueError(
            f"{known} of {len(test_positions)} test samples were in the training or validation "
            "part of the run whose network gives the features, so test results would be too good; "
            "give the seed and the split settings of that run, see its config.yaml; where "
            "SelfSupervised gave them in Python, set its divide to the division made here"
        )


def _divide(
    dataset: Dataset, seed: int, kind: str, test_fraction: float, stratified: bool
) -> tuple[Split, Split | None]:
    store, targets = dataset.store, dataset.targets[: dataset.begun]
    train = Split.of(parted(store, dataset.begun)[0] if dataset.appended else store, targets)
    test = _official(dataset, "test")
    if kind == "none" or (kind == "auto" and test is None and not is_known(targets).any()):
        return train, None
    if kind != "merged" and test is not None:
        return train, test
    if test is not None:
        store = JoinedStore([train.store, test.store])
        train = Split.of(store, torch.cat([train.targets, test.targets]))
    return _take_out(
        train,
        test_fraction,
        setting=f"split.test_fraction={test_fraction}",
        rng=generator(seed, "split"),
        stratified=stratified,
        class_names=dataset.class_names,
    )


def _official(dataset: Dataset, part: Literal["test", "validation"]) -> Split | None:
    """A part that the data set comes with; its samples are numbered behind those before it."""
    _, test, validation = dataset.stores
    store, targets, first = test, dataset.test_targets, dataset.begun
    if part == "validation":
        store, targets = validation, dataset.validation_targets
        first += 0 if test is None else len(test)
    if store is None or targets is None:
        return None
    rows = torch.arange(len(store))
    return Split(store, rows, targets, positions=first + rows)


def _extended(train: Split, dataset: Dataset) -> Split:
    """A training part with the samples behind it that came after the run had begun."""
    late, begun = parted(dataset.store, dataset.begun)[1], dataset.begun
    first_free = begun + sum(len(store) for store in dataset.stores[1:] if store is not None)
    rows = torch.arange(len(late))
    return Split(
        joined([train.store, late]),
        torch.cat([train.rows, len(train.store) + rows]),
        torch.cat([train.targets, dataset.targets[begun:]]),
        positions=torch.cat([train.positions, first_free + rows]),
    )


def _contents(dataset: Dataset) -> Sequence[str] | None:
    """What the samples are in words, by their positions."""
    told, begun, end = dataset.contents, dataset.begun, len(dataset.targets)
    if told is None or not dataset.appended:
        return told
    return [*told[:begun], *told[end:], *told[begun:end]]


def _take_out(
    part: Split,
    amount: float | int,
    *,
    setting: str,
    rng: torch.Generator,
    stratified: bool,
    class_names: tuple[str, ...],
) -> tuple[Split, Split]:
    """Draw labeled samples from a part; gives what is left of it and what was drawn."""
    candidates = _drawable(part.targets, stratified, class_names)
    count = amount if isinstance(amount, int) else share(amount, len(candidates))
    if len(candidates) == 0 or count > len(candidates):
        remedy = ", or split.kind=none to test on none" if "test_fraction" in setting else ""
        raise ValueError(
            f"{setting} asks for {count} labeled samples but {len(candidates)} can be drawn from; "
            "label more samples, ask for fewer, or (classes of one sample) use "
            f"split.stratified=false{remedy}"
        )
    if count < 1:
        raise ValueError(f"{setting} makes no sample of {len(candidates)}; raise it")
    if count >= len(part.targets):
        raise ValueError(
            f"{setting} takes all {len(part.targets)} samples and leaves none to train on; lower it"
        )
    drawn = draw(part.targets, candidates, count, rng, stratified)
    del candidates  # as large as the data set
    is_left = torch.ones(len(part.targets), dtype=torch.bool)
    is_left[drawn] = False
    return part.part(torch.nonzero(is_left).flatten()), part.part(drawn)


def _drawable(targets: Tensor, stratified: bool, class_names: tuple[str, ...]) -> Tensor:
    known = torch.nonzero(is_known(targets)).flatten()
    if not stratified or len(known) == 0:
        return known
    counts = torch.bincount(targets[known], minlength=len(class_names))
    for label in torch.nonzero(counts == 1).flatten().tolist():
        _logger.warning(
            "class %s has a single labeled sample; it stays in the training part",
            class_names[label],
        )
    return known[counts[targets[known]] > 1]


def _prepare(dataset: Dataset, train: Split) -> Prepare:
    if not dataset.standardize:
        return Prepare(dataset.size, dataset.mean, dataset.std)
    if train.store.resident("cpu"):
        mean, std = _as_lists(train)
    else:
        digest = hashlib.sha256()
        update(digest, train.store, train.rows)
        mean, std = kept(repr(("moments", digest.hexdigest())), lambda: _as_lists(train))
    if not isinstance(dataset.standardize, bool):
        meant = set(dataset.standardize)
        mean = [value if number in meant else 0.0 for number, value in enumerate(mean)]
        std = [value if number in meant else 1.0 for number, value in enumerate(std)]
    return Prepare(dataset.size, tuple(mean), tuple(std))


def _as_lists(train: Split) -> list[list[float]]:
    return [values.tolist() for values in _moments(train)]


def _moments(train: Split) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature or channel, float64, as `Prepare` wants them."""
    sums, number = torch.zeros(()), 0
    low, high = torch.tensor(math.inf), torch.tensor(-math.inf)
    for rows in _rows(train):
        sums, number = sums + _sum(rows.double()), number + len(rows)
        low, high = torch.minimum(low, rows.amin(0)), torch.maximum(high, rows.amax(0))
    mean = sums / number
    squares = (_sum((rows.double() - mean).square()) for rows in _rows(train))
    variance = sum(squares, torch.zeros(())) / number
    # torch.sqrt is off by a last bit on some processors; that of Python is the nearest number.
    std = torch.tensor([math.sqrt(value) for value in variance.tolist()], dtype=torch.float64)
    # Compared rather than tested for std == 0: rounding gives constants a deviation near 1e-17.
    std[low == high] = 1.0
    scale = 255 if next(_rows(train)).dtype == torch.uint8 else 1
    return mean / scale, std / scale


def _rows(train: Split) -> Iterator[Tensor]:
    """Numbers of some samples at a time, features or channels last: (rows, D)."""
    for block in train.blocks():
        yield one_tensor(block, "standardize").movedim(1, -1).flatten(0, -2)


def _sum(rows: Tensor) -> Tensor:
    """Sum over the first dimension, by halves: an order, and so bits, that no processor decides.

    Runs on unlike machines then begin with equal data, as `Source.fingerprint` has them.
    """
    while len(rows) > 1:
        half = len(rows) // 2
        rows = torch.cat([rows[:half] + rows[half : 2 * half], rows[2 * half :]])
    return rows[0]
