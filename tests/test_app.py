"""The report at the end of a run against scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import classification_report as reference

from dal import metrics
from dal.app import classification_report, multilabel_report


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_report_equals_sklearn(classes: int) -> None:
    rng = torch.Generator().manual_seed(classes)
    true, predicted = torch.randint(classes, (2, 200), generator=rng)
    names = tuple(f"class {c}" for c in range(classes))
    counts = metrics.confusion(predicted, true, classes)
    want = reference(true, predicted, target_names=names, digits=4)
    assert classification_report(counts, names) == want


@pytest.mark.parametrize("labels", [2, 5])
def test_multilabel_report_equals_sklearn_but_for_averages_over_samples(labels: int) -> None:
    rng = torch.Generator().manual_seed(labels)
    true, predicted = (torch.rand(2, 200, labels, generator=rng) < 0.3).long()
    true[:, 1] = 0
    names = tuple(f"label {c}" for c in range(labels))
    want = reference(true, predicted, target_names=names, digits=4, zero_division=0.0)
    got = multilabel_report(metrics.label_outcomes(predicted, true), names)
    lines = want.splitlines()
    assert lines[-1].strip().startswith("samples avg")
    assert got.splitlines() == lines[:-1]
