"""The experiment with baal, as its documentation writes it.

Data in a ``TensorDataset``, no worker processes (they would copy the data and share the two
cores), weights put back to the first ones before every fit.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import structlog
import torch
from baal.active import ActiveLearningDataset, ActiveLearningLoop
from baal.active.heuristics import Entropy
from baal.modelwrapper import ModelWrapper, TrainingArgs
from torch.utils.data import TensorDataset

from benchmarks.systems.experiment import Experiment, Network, Outcome, prepared


def experiment(spec: Experiment) -> Outcome:
    """Run it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    source, _ = spec.load()
    train_x, train_y, test_x, test_y = prepared(source)
    test = TensorDataset(test_x, test_y)
    outcome = Outcome()
    with outcome.whole():
        torch.manual_seed(spec.seed)
        mask = np.zeros(len(train_x), dtype=bool)
        mask[spec.first(source).numpy()] = True
        labeled = ActiveLearningDataset(TensorDataset(train_x, train_y), labelled=mask)
        model = Network().to(spec.device)
        args = TrainingArgs(
            epoch=spec.epochs,
            batch_size=spec.batch_size,
            criterion=torch.nn.CrossEntropyLoss(),
            use_cuda=spec.device == "cuda",
            workers=0,
        )
        wrapper = ModelWrapper(model, args)
        first_weights = copy.deepcopy(wrapper.state_dict())

        def predict(dataset: Any, part: str = "predict") -> Any:
            with outcome.clock(part):
                args.batch_size = spec.predict_batch_size
                return wrapper.predict_on_dataset(dataset, iterations=1, verbose=False)

        loop = ActiveLearningLoop(labeled, predict, Entropy(), query_size=spec.query_size)
        for number in range(spec.rounds + 1):
            with outcome.clock("train"):
                wrapper.load_state_dict(first_weights)
                args.optimizer = torch.optim.SGD(
                    model.parameters(), lr=spec.lr, momentum=spec.momentum
                )
                args.batch_size = spec.batch_size
                wrapper.train_on_dataset(labeled)
            outcome.steps += spec.epochs * -(-len(labeled) // spec.batch_size)
            logits = torch.from_numpy(predict(test, "test")[..., 0])
            outcome.scored(len(labeled), logits.argmax(1), test_y)
            if number < spec.rounds:
                before = outcome.parts["predict"]
                with outcome.clock("select"):
                    loop.step()
                outcome.parts["select"] -= outcome.parts["predict"] - before
    return outcome
