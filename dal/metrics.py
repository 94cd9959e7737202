"""Metrics as pure functions of probabilities and targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def confusion(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Count pairs of true and predicted class.

    Args:
        predicted: int64, (N,), in [0, C).
        targets: int64, (N,), in [0, C).
        num_classes: C.

    Returns:
        int64, (C, C); row: true class, column: predicted class.
    """
    cells = targets * num_classes + predicted
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


def accuracy(confusion_CC: Tensor) -> float:
    """Share of correct predictions, in [0, 1]."""
    return int(confusion_CC.diagonal().sum()) / int(confusion_CC.sum())


def f1_per_class(confusion_CC: Tensor) -> Tensor:
    """F1 of every class: float64, (C,), in [0, 1]; 0 where a class neither occurs nor is predicted.

    F1 = 2 TP / (2 TP + FP + FN), TP the diagonal, FP and FN the rest of column and row.
    """
    true_positive = confusion_CC.diagonal().double()
    occurrences = (confusion_CC.sum(0) + confusion_CC.sum(1)).double()
    return 2 * true_positive / occurrences.clamp(min=1)


def label_outcomes(predicted: Tensor, targets: Tensor) -> Tensor:
    """Count the outcomes of every label of a multi-label prediction.

    Args:
        predicted: bool or int64, (N, L), 0 or 1.
        targets: int64, (N, L), 0 or 1.

    Returns:
        int64, (L, 2, 2), ``[[TN, FP], [FN, TP]]`` of each label: row: true, column: predicted, as
        scikit-learn's ``multilabel_confusion_matrix``.
    """
    said, true = predicted.bool(), targets.bool()
    rows = [(~true & ~said).sum(0), (~true & said).sum(0), (true & ~said).sum(0)]
    return torch.stack([*rows, (true & said).sum(0)], dim=1).view(-1, 2, 2)


def outcomes_of_classes(confusion_CC: Tensor) -> Tensor:
    """The outcomes of each class against all others, as `label_outcomes`: int64, (C, 2, 2)."""
    hit = confusion_CC.diagonal()
    false_positive, missed = confusion_CC.sum(0) - hit, confusion_CC.sum(1) - hit
    rest = confusion_CC.sum() - hit - false_positive - missed
    return torch.stack([rest, false_positive, missed, hit], dim=1).view(-1, 2, 2)


def scores(outcomes_L22: Tensor) -> dict[str, Tensor]:
    """Precision, recall, F1 and support of each label, from `label_outcomes`.

    Returns:
        ``precision``, ``recall``, ``f1``: float64, (L,), in [0, 1], 0 where nothing is predicted,
        nothing occurs, or neither, as scikit-learn with ``zero_division=0``; ``support``: int64,
        (L,), how many samples have the label.
    """
    hit, support = outcomes_L22[:, 1, 1], outcomes_L22[:, 1].sum(1)
    return {
        "precision": hit.double() / outcomes_L22[:, :, 1].sum(1).clamp(min=1),
        "recall": hit.double() / support.clamp(min=1),
        "f1": f1_per_label(outcomes_L22),
        "support": support,
    }


def average_precision(scores_NL: Tensor, targets_NL: Tensor) -> Tensor:
    """Average precision of every label: the mean precision at the recall that each cut adds.

    ``sum_k (R_k - R_{k-1}) P_k`` over the cuts k between different scores, from the highest down,
    without interpolation, as scikit-learn's ``average_precision_score``: samples of equal score
    come in together.

    Args:
        scores_NL: float, (N, L): logits or probabilities; NaN counts as the lowest.
        targets_NL: int64, (N, L), 0 or 1.

    Returns:
        float64, (L,), in [0, 1]; NaN for a label that no sample has.
    """
    falling, order = scores_NL.nan_to_num(-torch.inf).sort(0, descending=True)
    hits = targets_NL.gather(0, order).cumsum(0).double()
    said = torch.arange(1, len(hits) + 1, dtype=torch.float64, device=hits.device).unsqueeze(1)
    # A sample takes the precision of the last one of its score: that of the cut after all of them.
    last = torch.ones_like(falling, dtype=torch.bool)
    last[:-1] = falling[:-1] != falling[1:]
    places = torch.arange(len(hits), device=hits.device).unsqueeze(1).expand_as(hits)
    ends = places.masked_fill(~last, len(hits)).flip(0).cummin(0).values.flip(0)
    precision = (hits / said).gather(0, ends)
    held = targets_NL.gather(0, order).double()
    return (precision * held).sum(0) / held.sum(0)


def mean_average_precision(scores_NL: Tensor, targets_NL: Tensor) -> float:
    """Mean over the labels that occur of `average_precision`, in [0, 1]; 0 where none occurs."""
    found = average_precision(scores_NL, targets_NL)
    found = found[~found.isnan()]
    return float(found.mean()) if len(found) else 0.0


def hamming_loss(outcomes_L22: Tensor) -> float:
    """Share of the N L single decisions that are wrong, in [0, 1], from `label_outcomes`."""
    wrong = outcomes_L22[:, 0, 1] + outcomes_L22[:, 1, 0]
    return int(wrong.sum()) / int(outcomes_L22.sum())


def f1_per_label(outcomes_L22: Tensor) -> Tensor:
    """F1 of every label: float64, (L,), in [0, 1]; 0 where a label neither occurs nor is predicted.

    Their mean is the macro F1.
    """
    true_positive = outcomes_L22[:, 1, 1].double()
    occurrences = (outcomes_L22[:, 1].sum(1) + outcomes_L22[:, :, 1].sum(1)).double()
    return 2 * true_positive / occurrences.clamp(min=1)


def micro_f1(outcomes_L22: Tensor) -> float:
    """F1 of all N L decisions taken together, in [0, 1]: frequent labels weigh more.

    0 where no label occurs and none is predicted.
    """
    return float(f1_per_label(outcomes_L22.sum(0, keepdim=True)))


def sample_f1(predicted: Tensor, targets: Tensor) -> float:
    """Mean over samples of the F1 between predicted and true set of labels, in [0, 1].

    A sample without any label, for which none is predicted, counts 0, as in scikit-learn with
    ``zero_division=0``.

    Args:
        predicted: bool or int64, (N, L), 0 or 1.
        targets: int64, (N, L), 0 or 1.
    """
    said, true = predicted.bool(), targets.bool()
    both = (said & true).sum(1).double()
    sizes = (said.sum(1) + true.sum(1)).double()
    return float((2 * both / sizes.clamp(min=1)).mean())


def subset_accuracy(predicted: Tensor, targets: Tensor) -> float:
    """Share of samples of which every label is right, in [0, 1]; see `sample_f1`."""
    return float((predicted.bool() == targets.bool()).all(1).double().mean())


def nll(log_probs: Tensor, targets: Tensor) -> float:
    """Mean negative log-likelihood in nats.

    Args:
        log_probs: float, (N, C), log of the class probabilities.
        targets: int64, (N,).
    """
    return float(-log_probs.gather(1, targets.unsqueeze(1)).double().mean())


def expected_calibration_error(probs: Tensor, targets: Tensor, bins: int = 15) -> float:
    """Expected calibration error of the top-label confidence, in [0, 1].

    The weighted mean over equal-width bins of |accuracy - mean confidence|.

    Args:
        probs: float, (N, C).
        targets: int64, (N,).
        bins: Number of bins on [0, 1]; a confidence on an edge falls into the lower bin.

    Reference:
        C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger. On calibration of modern neural networks.
        ICML 2017, equation 3.
    """
    confidence, predicted = probs.double().max(1)
    correct = (predicted == targets).double()
    position = (torch.ceil(confidence * bins).long() - 1).clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=probs.device)
    gap.index_add_(0, position, correct - confidence)
    return float(gap.abs().sum() / len(targets))


def aubc(labels: Sequence[float], values: Sequence[float]) -> float:
    """Area under the budget curve: trapezoids of the metric over labels, by the label range.

    Args:
        labels: Labels paid for at each point, not decreasing.
        values: The metric at each point, e.g. test accuracy in [0, 1].

    Returns:
        A mean of the metric, in its own units; the value itself where the range is a point.

    Raises:
        ValueError: The lengths differ or are zero.

    Reference:
        X. Zhan, Q. Wang, K. Huang, H. Xiong, D. Dou and A. B. Chan. A comparative survey of deep
        active learning. arXiv:2203.13450, 2022, section 4.
    """
    if not labels or len(labels) != len(values):
        raise ValueError(f"aubc needs as many labels as values, got {len(labels)}, {len(values)}")
    if labels[-1] == labels[0]:
        return float(values[-1])
    area = torch.trapezoid(
        torch.tensor(values, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    )
    return float(area) / (labels[-1] - labels[0])


def classification_report(confusion: Tensor, class_names: Sequence[str]) -> str:
    """scikit-learn's report of precision, recall, F1 and support by class.

    Args:
        confusion: int64, (C, C), rows true, columns predicted.
        class_names: The C class names.
    """
    from sklearn.metrics import classification_report as report

    classes = torch.arange(len(class_names))
    rows, columns = confusion.nonzero().unbind(1)
    counts = confusion[rows, columns]
    text: str = report(
        rows.repeat_interleave(counts).numpy(),
        columns.repeat_interleave(counts).numpy(),
        labels=classes.numpy(),
        target_names=class_names,
        digits=4,
        zero_division=0.0,
    )
    return text


def multilabel_report(outcomes: Tensor, class_names: Sequence[str]) -> str:
    """scikit-learn's report of precision, recall, F1 and support by label.

    Without its line of averages over samples: counts by label do not tell them.

    Args:
        outcomes: int64, (C, 2, 2), ``[[TN, FP], [FN, TP]]`` of each label.
        class_names: The C names of the labels.
    """
    from sklearn.metrics import classification_report as report

    # What counts is how often each pair occurs within a column, so every column is made by itself.
    pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    columns = [pairs.repeat_interleave(counts.flatten(), dim=0) for counts in outcomes]
    true, predicted = torch.stack(columns, dim=1).unbind(2)
    text: str = report(
        true.numpy(), predicted.numpy(), target_names=class_names, digits=4, zero_division=0.0
    )
    return "".join(line for line in text.splitlines(True) if "samples avg" not in line)
