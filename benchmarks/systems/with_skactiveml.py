"""The experiment with scikit-activeml and skorch, as their documentation writes it.

All images in one float32 array, labels NaN where unknown; ``fit`` starts from fresh weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skactiveml.classifier import SkorchClassifier
from skactiveml.pool import UncertaintySampling

from benchmarks.systems.experiment import Experiment, Network, Outcome, prepared


class TimedClassifier(SkorchClassifier):  # type: ignore[misc]
    """Notes the seconds of the predictions that a query asks for."""

    outcome = Outcome()

    def predict_proba(self, *args: Any, **options: Any) -> Any:
        """Class probabilities."""
        with self.outcome.clock("predict"):
            return super().predict_proba(*args, **options)


def experiment(spec: Experiment) -> Outcome:
    """Run it."""
    source, _ = spec.load()
    train_x, train_y, test_x, test_y = prepared(source)
    pool_x, pool_y, test_images = train_x.numpy(), train_y.numpy(), test_x.numpy()
    outcome = TimedClassifier.outcome = Outcome()
    with outcome.whole():
        torch.manual_seed(spec.seed)
        known = np.full(len(pool_y), np.nan)
        first = spec.first(source).numpy()
        known[first] = pool_y[first]
        classifier = TimedClassifier(
            module=Network,
            criterion=torch.nn.CrossEntropyLoss,
            classes=np.arange(source.num_classes),
            random_state=spec.seed,
            neural_net_param_dict={
                "device": spec.device,
                "optimizer": torch.optim.SGD,
                "optimizer__momentum": spec.momentum,
                "lr": spec.lr,
                "max_epochs": spec.epochs,
                "batch_size": spec.batch_size,
                "iterator_train__shuffle": True,
                "iterator_valid__batch_size": spec.predict_batch_size,
                "train_split": None,
                "verbose": 0,
            },
        )
        strategy = UncertaintySampling(method="entropy", random_state=spec.seed)
        for number in range(spec.rounds + 1):
            with outcome.clock("train"):
                classifier.fit(pool_x, known)
            count = int((~np.isnan(known)).sum())
            outcome.steps += spec.epochs * -(-count // spec.batch_size)
            before = outcome.parts["predict"]
            with outcome.clock("test"):
                predicted = torch.from_numpy(classifier.predict(test_images).astype(np.int64))
            outcome.parts["predict"] = before
            outcome.scored(count, predicted, test_y)
            if number < spec.rounds:
                with outcome.clock("select"):
                    picked = strategy.query(
                        pool_x, known, classifier, fit_clf=False, batch_size=spec.query_size
                    )
                outcome.parts["select"] -= outcome.parts["predict"] - before
                known[picked] = pool_y[picked]
    return outcome
