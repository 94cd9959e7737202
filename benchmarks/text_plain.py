"""GoEmotions with all labels by scikit-learn alone: what dal's linear default is held against.

``python -m benchmarks.text_plain FOLDER`` with the folder that holds train.tsv, dev.tsv, test.tsv.
Words and pairs of words, one logistic regression a label, thresholds by label on the dev part.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

LABELS = 28
Array = np.ndarray[Any, Any]


def read(path: Path) -> tuple[list[str], Array]:
    """Texts, and 0 or 1 for each of their labels."""
    texts, numbers = [], []
    for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
        text, labels, _ = line.split("\t")
        texts.append(text)
        numbers.append([int(label) for label in labels.split(",")])
    targets = np.zeros((len(texts), LABELS), dtype=int)
    for row, found in zip(targets, numbers, strict=True):
        row[found] = 1
    return texts, targets


def threshold(probs: Array, targets: Array) -> float:
    """Between two probabilities, where F1 is highest."""
    order = np.argsort(-probs)
    hits = np.cumsum(targets[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + targets.sum())
    best = int(f1.argmax())
    return float(probs[order[best : best + 2]].mean())


def main(folder: Path) -> None:
    """Fit, and print macro and micro F1 and seconds of the processor."""
    (train, y_train), (dev, y_dev), (test, y_test) = (
        read(folder / f"{part}.tsv") for part in ("train", "dev", "test")
    )
    begun = time.process_time()
    terms = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\w+|[!?]"
    )
    x_train, x_dev, x_test = terms.fit_transform(train), terms.transform(dev), terms.transform(test)
    predicted = np.zeros_like(y_test)
    for label in range(LABELS):
        model = LogisticRegression(class_weight="balanced", solver="liblinear", max_iter=200)
        model.fit(x_train, y_train[:, label])
        above = threshold(model.predict_proba(x_dev)[:, 1], y_dev[:, label])
        predicted[:, label] = model.predict_proba(x_test)[:, 1] > above
    macro, micro = (f1_score(y_test, predicted, average=kind) for kind in ("macro", "micro"))
    seconds = time.process_time() - begun
    print(f"macro F1 {macro:.4f}, micro F1 {micro:.4f}, {seconds:.0f} s of the processor")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
