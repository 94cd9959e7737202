"""Dividing a data set into a training, a test and a validation part."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from dal.data.class_names import check_class_names
from dal.data.draw import draw, share
from dal.data.prepare import Prepare
from dal.data.source import UNKNOWN, Dataset, Source, Split, is_known
from dal.data.store import JoinedStore, update
from dal.utils.inputs import one_shape, one_tensor
from dal.utils.kept import kept
from dal.utils.memory import check_memory
from dal.utils.ranges import check_whole
from dal.utils.seeding import generator

_logger = logging.getLogger(__name__)


def make_source(
    dataset: Dataset,
    *,
    seed: int,
    kind: Literal["auto", "official", "merged"] = "auto",
    test_fraction: float = 0.3,
    stratified: bool = True,
    validation: float | int = 0,
) -> Source:
    """Divide a data set for one run.

    Samples whose target is `UNKNOWN` always stay in the training part, and so does, with
    ``stratified``, the only labeled sample of a class (a warning says so). Within each part,
    samples keep the order that they have in the data set. The test part does not depend on
    ``validation``.

    Args:
        dataset: The data set.
        seed: Seed of the run; equal seeds give equal parts.
        kind: ``official`` keeps the data set's own test part; ``merged`` puts training and test
            part together and draws the test part from all (as papers with a "70/30" split do);
            ``auto`` is official where there is a test part and merged where there is none.
        test_fraction: Share of the labeled samples that a merged split tests on, in (0, 1),
            rounded up.
        stratified: Draw test and validation part in class proportions rather than at random.
            Multi-label sets are divided at random either way: their classes overlap.
        validation: 0 for no validation part; a fraction in (0, 1) of the labeled training
            samples, rounded up; or a number of samples, an int of at least 1.

    Returns:
        The parts, with the normalization of the data set; with ``dataset.standardize`` it is
        computed from the training part (a constant feature keeps the deviation 1).

    Raises:
        ValueError: If the data set contradicts itself, has no test part where one is asked for,
            a part would be left without samples, or the test part holds samples on which a
            network was fitted that gives the inputs.
        TypeError: It is no `Dataset`.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"make_source divides a Dataset, not a {type(dataset).__name__}; give "
            'make_source(dal.data.Dataset("mine", inputs, targets), seed=0)'
        )
    check_split(kind, test_fraction, stratified, validation)
    if kind == "official" and dataset.test_inputs is None:
        raise ValueError(f"{dataset.name} has no official test part; use split.kind=auto or merged")
    _check_dataset(dataset)
    stratified = stratified and dataset.targets.ndim == 1
    train, test = _divide(dataset, seed, kind, test_fraction, stratified)
    _refuse_seen(test.positions, dataset)
    held_out: Split | None = None
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
    for split in (train, test, held_out):
        if split is not None:
            split.prepare = prepare
    return Source(
        name=dataset.name,
        train=train,
        test=test,
        validation=held_out,
        class_names=dataset.class_names,
        contents=dataset.contents,
        digest=dataset.digest(),
        recipe=dataset.recipe,
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
            "give the seed and the split settings of that run, see its config.yaml"
        )


def _divide(
    dataset: Dataset, seed: int, kind: str, test_fraction: float, stratified: bool
) -> tuple[Split, Split]:
    train, test = Split.of(dataset.store, dataset.targets), _official_test(dataset)
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


def _official_test(dataset: Dataset) -> Split | None:
    if dataset.test_store is None or dataset.test_targets is None:
        return None
    rows = torch.arange(len(dataset.test_store))
    positions = len(dataset.store) + rows
    return Split(dataset.test_store, rows, dataset.test_targets, positions=positions)


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
        raise ValueError(
            f"{setting} asks for {count} labeled samples but {len(candidates)} can be drawn from; "
            "label more samples, ask for fewer, or (classes of one sample) use "
            "split.stratified=false"
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


def check_split(
    kind: str = "auto",
    test_fraction: float = 0.3,
    stratified: bool = True,
    validation: float | int = 0,
) -> None:
    """Refuse settings of `make_source` that no data set can be divided by.

    Raises:
        ValueError: Naming the setting.
    """
    if kind not in ("auto", "official", "merged"):
        raise ValueError(f"split.kind={kind!r} is unknown; use auto, official or merged")
    if not 0 < test_fraction < 1:
        raise ValueError(
            f"split.test_fraction={test_fraction} must lie between 0 and 1, both excluded, such as "
            "0.3"
        )
    is_number = isinstance(validation, int | float) and not isinstance(validation, bool)
    # Negated, so that NaN is refused as well.
    if not is_number or not validation >= 0 or (isinstance(validation, float) and validation >= 1):
        raise ValueError(
            f"split.validation={validation} must be 0 (none), a fraction between 0 and 1, "
            "or a whole number of samples such as 500"
        )


def _check_dataset(dataset: Dataset) -> None:
    if len(dataset.class_names) < 2:
        raise ValueError(
            f"{dataset.name} has {len(dataset.class_names)} class; classification needs at least 2"
        )
    if (dataset.test_inputs is None) != (dataset.test_targets is None):
        raise ValueError(
            f"{dataset.name} has test_inputs or test_targets without the other; give both or none"
        )
    if dataset.standardize and dataset.mean:
        raise ValueError(
            f"{dataset.name} has a mean and data.standardize=true; drop one of the two, "
            "standardizing computes the mean itself"
        )
    if dataset.mean or dataset.std:
        one_shape(dataset.store.spec, "data.mean")  # those by name stay as they are
    if dataset.size is not None:
        check_whole("data.size", dataset.size, 1, ", or null for the size that images have")
        channels = one_shape(dataset.store.spec, "data.size")[0]
        of_one = 4 * dataset.size**2 * channels
        check_memory(of_one, f"data.size={dataset.size}, for one image")
    check_class_names(dataset.class_names, dataset.targets.ndim == 2, dataset.name)
    count = len(dataset.store)
    _check_part(dataset, "training", count, dataset.targets, UNKNOWN)
    if dataset.test_store is not None and dataset.test_targets is not None:
        tests = len(dataset.test_store)
        _check_part(dataset, "test", tests, dataset.test_targets, 0)
        count += tests
    if dataset.contents is not None and len(dataset.contents) != count:
        raise ValueError(
            f"{dataset.name} has contents of {len(dataset.contents)} samples and {count} samples; "
            "give one a sample, the training samples first"
        )


def _check_part(dataset: Dataset, what: str, inputs: int, targets: Tensor, lowest: int) -> None:
    if inputs != len(targets) or len(targets) == 0:
        raise ValueError(
            f"the {what} part of {dataset.name} has {inputs} inputs and {len(targets)} targets; it "
            "needs equally many of both, and at least one"
        )
    if dataset.targets.ndim != 1 or targets.ndim != 1:
        _check_rows(dataset, what, targets, lowest)
        return
    low, high = (int(value) for value in targets.aminmax())
    if low < lowest or high >= len(dataset.class_names):
        raise ValueError(
            f"the {what} part of {dataset.name} has targets from {low} to {high}; they must lie "
            f"in {lowest}..{len(dataset.class_names) - 1}"
        )


def _check_rows(dataset: Dataset, what: str, targets: Tensor, lowest: int) -> None:
    """Refuse multi-label targets that are not rows of 0 and 1, or of `UNKNOWN` in training."""
    expected = (len(targets), len(dataset.class_names))
    if dataset.targets.ndim != 2 or targets.shape != expected:
        raise ValueError(
            f"the {what} part of {dataset.name} has targets of shape {tuple(targets.shape)}; give "
            f"class numbers (N,) in all parts, or rows {expected} of 0 and 1 in all parts"
        )
    good = ((targets == 0) | (targets == 1)).all(1)
    if lowest == UNKNOWN:
        good |= (targets == UNKNOWN).all(1)
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(
            f"the {what} part of {dataset.name} has the target {targets[row].tolist()} in row "
            f"{row}; give 1 where a label holds and 0 where it does not"
            + (f", or {UNKNOWN} in the whole row where nothing is known" if lowest < 0 else "")
        )
