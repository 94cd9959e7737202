"""What is wrong with a data set, or with the settings of its division, in words."""

from __future__ import annotations

from torch import Tensor

from dal.data.class_names import check_class_names
from dal.data.dataset import Dataset
from dal.data.source import UNKNOWN
from dal.utils.inputs import one_shape
from dal.utils.memory import check_memory
from dal.utils.ranges import check_whole


def check_split(
    kind: str = "auto",
    test_fraction: float = 0.3,
    stratified: bool = True,
    validation: float | int = 0,
    validation_of_labels: float = 0,
) -> None:
    """Refuse settings of `make_source` that no data set can be divided by.

    Raises:
        ValueError: Naming the setting.
    """
    if kind not in ("auto", "official", "merged", "none"):
        raise ValueError(f"split.kind={kind!r} is unknown; use auto, official, merged or none")
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
    share_of = validation_of_labels
    if (
        isinstance(share_of, bool)
        or not isinstance(share_of, int | float)
        or not 0 <= share_of <= 0.5
    ):
        raise ValueError(
            f"split.validation_of_labels={share_of} must be 0 (none) or a share of the labels up "
            "to 0.5, such as 0.1"
        )


def check_dataset(dataset: Dataset) -> None:
    """Refuse a data set that contradicts itself.

    Raises:
        ValueError: Naming what does not fit.
    """
    if len(dataset.class_names) < 2:
        raise ValueError(
            f"{dataset.name} has {len(dataset.class_names)} class; classification needs at least 2"
        )
    for part in ("test", "validation"):
        ends = (getattr(dataset, f"{part}_{end}") is None for end in ("inputs", "targets"))
        if len({*ends}) > 1:
            raise ValueError(
                f"{dataset.name} has {part}_inputs or {part}_targets without the other; give both "
                "or none"
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
    check_whole("appended", dataset.appended, 0)
    if dataset.begun < 1:
        raise ValueError(
            f"all {count} training samples of {dataset.name} are appended ones; a run begins with "
            "at least one"
        )
    others = {"test": dataset.test_targets, "validation": dataset.validation_targets}
    for (part, targets), store in zip(others.items(), dataset.stores[1:], strict=True):
        if store is not None and targets is not None:
            _check_part(dataset, part, len(store), targets, 0)
            count += len(store)
    if dataset.contents is not None and len(dataset.contents) != count:
        raise ValueError(
            f"{dataset.name} has contents of {len(dataset.contents)} samples and {count} samples; "
            "give one a sample: the training samples, the test samples, the validation samples"
        )


def refuse_second_validation(
    dataset: Dataset, validation: float | int, validation_of_labels: float
) -> None:
    """Refuse to validate on two parts.

    Raises:
        ValueError: Naming both.
    """
    asked = {"split.validation": validation, "split.validation_of_labels": validation_of_labels}
    given = [f"{name}={value}" for name, value in asked.items() if value]
    if dataset.validation_inputs is not None and given:
        raise ValueError(
            f"{dataset.name} has a validation part of its own, and {given[0]} asks for another; "
            f"set {given[0].partition('=')[0]}=0"
        )
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} ask for two validation parts; set one of them")


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
