"""The model of a run, exported and loaded to predict, without Hydra and without the data."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dal import checkpoint
from dal.data.faults import naming
from dal.data.inputs import as_inputs, as_named
from dal.data.mapped import MappedStore, checked, is_mapped
from dal.data.prepare import Prepare
from dal.data.reading import PathLike, Samples, inputs_like
from dal.data.source import UNKNOWN, Source, Split
from dal.data.store import ArrayStore, Store, store_of
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.predicting import encoded_like, encoder_for
from dal.inference.pool_pass import auto_batch_size, predict_logits
from dal.models.base import MakeModel, build_model, numel_in
from dal.models.estimators.fitted import EstimatorModule, as_floats, fit_estimator, torch_threads
from dal.pool import TrainSet
from dal.recording.run_directory import MODEL
from dal.task import Multiclass, Task, task_named
from dal.utils.build import TARGET, check_arguments, find, spec_of
from dal.utils.inputs import InputSpec, to_device
from dal.utils.numerics import pick_device

FILE = MODEL

Raw = np.ndarray[Any, Any] | Tensor | dict[str, Any] | Sequence[str]
"""Raw inputs: an array or a tensor, or several by name; or texts."""
BATCHES = 4
"""Batches of a block of files."""


@dataclass(frozen=True)
class Predicted:
    """What a model says of some samples of a file.

    Attributes:
        names: What people know the n samples by: files, ids, or numbers of rows from 0.
        probs: float32, (n, C), class probabilities on the CPU; NaN where a sample cannot be read.
        faults: Why these cannot, by their place among the names.
    """

    names: Sequence[str]
    probs: Tensor
    faults: Mapping[int, str]


class Predictor:
    """A trained network with all it takes to use it on raw data.

    Attributes:
        model: The network, in evaluation mode; or a `dal.models.estimators.fitted.EstimatorModule`.
        class_names: The C class names.
        prepare: How raw inputs are prepared.
        input_shape: Shape of one prepared sample, (channels, H, W) or (D,); or shapes by name.
        task: What the outputs mean: one class a sample, or any number of labels.
        data: See `dal.data.Dataset.digest`, of the data of its run; empty where nothing tells.
        seen: See `dal.data.Source.seen`; None where nothing tells.
        recipe: How a file of samples becomes inputs, see `dal.data.Dataset.recipe`; None where that
            is reading an array.
        encoder: Makes inputs of texts, where the model learned from such.
    """

    def __init__(
        self,
        model: nn.Module,
        class_names: tuple[str, ...],
        prepare: Prepare,
        input_shape: InputSpec,
        device: torch.device,
        task: Task | None = None,
        data: str = "",
        seen: Tensor | None = None,
        recipe: Mapping[str, Any] | None = None,
        encoder: TextEncoder | None = None,
    ) -> None:
        self.encoder = encoder
        self.model = model.to(device).eval()
        self.class_names, self.prepare, self.device = class_names, prepare, device
        self.input_shape = input_shape
        self.task = task or Multiclass(len(class_names))
        self.data, self.seen, self.recipe = data, seen, recipe

    def predict_proba(self, inputs: Raw) -> Tensor:
        """Class probabilities; of each label by itself, where a sample may have several.

        Args:
            inputs: Raw inputs as in the training data, in memory or opened with
                ``numpy.load(path, mmap_mode="r")``: uint8 images (N, H, W),
                (N, H, W, channels) or (N, channels, H, W), or features (N, D); a tensor may be on
                any device. Or arrays (N, ...) by name. Or N texts, for a model that learned from
                such: a list, an array or a column of them.

        Returns:
            float32, (N, C), on the CPU. They are those of the run up to rounding: batches and
            lengths of rows may be others than there.

        Raises:
            ValueError, TypeError: They are of no such shape, not finite, or no texts; says which.
        """
        split = self.split(inputs)
        numel = numel_in(self.model, split.store.spec)
        size = min(auto_batch_size(numel, self.device), len(split))
        return self._probs(split, size)

    def _probs(self, split: Split, batch_size: int) -> Tensor:
        logits = predict_logits(
            self.model,
            split.take,
            len(split),
            device=self.device,
            batch_size=batch_size,
            expect=split.expect,
            buckets=split.buckets,
        )
        return self.task.probs(logits).cpu()

    def predict_files(self, files: Samples | PathLike | Sequence[PathLike]) -> Iterator[Predicted]:
        """Class probabilities of what lies in files, of any size, block by block.

        Args:
            files: See `dal.data.reading.inputs_like`: an ``.npz`` or ``.npy`` file of inputs; a
                table, or pictures, where the model learned from such.

        Yields:
            All samples in their order.

        Raises:
            FileNotFoundError: There is nothing at the path.
            ValueError: It is nothing that the model takes, or cannot be read.
        """
        samples = files if isinstance(files, Samples) else inputs_like(self.recipe, files)
        size = auto_batch_size(numel_in(self.model, self.input_shape), self.device)
        for number, block in enumerate(samples.read(BATCHES * size)):
            probs = torch.full((len(block.names), len(self.class_names)), torch.nan)
            if block.inputs is not None:
                some = block.inputs
                split = self.split(some if isinstance(some, list) else store_of(some))
                size = min(size, len(split)) if number == 0 else size
                sound = [row for row in range(len(probs)) if row not in block.faults]
                probs[sound] = self._probs(split, size)
            yield Predicted(block.names, probs, block.faults)

    def split(self, inputs: Raw | Store) -> Split:
        """Raw inputs (see `predict_proba`), checked, as samples that are prepared batch by batch.

        Raises:
            ValueError: See `predict_proba`.
        """
        encoded = encoded_like(self.encoder, inputs, self.input_shape)
        store = _store(inputs) if encoded is None else encoded
        own, trained_on = store.spec, self.input_shape
        if encoded is not None and isinstance(own, dict) and isinstance(trained_on, dict):
            own = {name: trained_on.get(name, own[name]) for name in own}  # of any length
        if isinstance(own, tuple) and isinstance(trained_on, tuple):
            compared = 1 if len(own) == 3 and self.prepare.size is not None else None
            own, trained_on = own[:compared], trained_on[:compared]
        if own != trained_on:
            raise ValueError(
                f"a sample has shape {store.spec}, but the model was trained on "
                f"{self.input_shape}; give inputs like those of the training data"
            )
        unknown = torch.full((), UNKNOWN).expand(len(store))
        return Split.of(store, unknown, self.prepare)

    def predict(self, inputs: Raw) -> list[str] | list[list[str]]:
        """The name of the most probable class of each input; see `predict_proba`.

        Where a sample may have several labels: the names of those more probable than one half, or
        than their thresholds where the run fitted them; a list for each input, empty where there
        is none.
        """
        return self.task.names(self.predict_proba(inputs), self.class_names)


def _store(inputs: Any) -> Store:
    if isinstance(inputs, Store):
        return inputs
    if isinstance(inputs, dict):
        return ArrayStore(to_device(as_named(inputs, "inputs"), "cpu"))
    if is_mapped(inputs):
        return checked(MappedStore(inputs, "inputs"))
    if isinstance(inputs, Tensor):
        inputs = inputs.detach().cpu().numpy()
    return ArrayStore(as_inputs(np.asarray(inputs), "inputs"))


def _packed(rows: Tensor) -> dict[str, Tensor]:
    """Which rows they are, one bit each: of ten million a file of one megabyte."""
    mask = torch.zeros(int(rows.max()) + 1 if len(rows) else 0, dtype=torch.bool)
    mask[rows] = True
    return {"bits": torch.from_numpy(np.packbits(mask.numpy()))}


def _rows(saved: Any) -> Tensor | None:
    """The rows that `_packed` made smaller, or that an earlier version wrote as they are."""
    if not isinstance(saved, dict):
        return saved if isinstance(saved, Tensor) else None
    return torch.from_numpy(np.unpackbits(saved["bits"].numpy())).nonzero().squeeze(1)


def _spec(saved: Any) -> InputSpec:
    """The shape of a sample, or shapes by name, as ``model.pt`` holds them."""
    if isinstance(saved, dict):
        return {name: tuple(shape) for name, shape in saved.items()}
    return tuple(saved)


def save_model(
    run_dir: Path,
    model: nn.Module,
    make_model: MakeModel,
    source: Source,
    thresholds: Sequence[float] = (),
) -> None:
    """Write ``model.pt`` into the run directory: weights, how to build the network, preparation.

    Args:
        run_dir: The run directory.
        model: The network.
        make_model: Builds it.
        source: The data.
        thresholds: Above which probability each of several labels is predicted; none for one half.

    Raises:
        OSError: The disk is full or not writable.
    """
    state = _described(make_model, source) | {
        "weights": model.state_dict(),
        "thresholds": list(thresholds),
    }
    if state["spec"] is not None:  # what the network read of a folder is kept with its weights
        state["spec"] |= getattr(model, "arguments", {})
    checkpoint.save(run_dir / FILE, state)


def _described(make_model: MakeModel, source: Source) -> dict[str, Any]:
    """How to build a model, what it takes, and which rows of which data decided it."""
    return {
        "spec": spec_of(make_model),
        "task": source.task.kind,
        "input_shape": source.input_shape,
        "vocab_size": source.vocab_size,
        "class_names": list(source.class_names),
        "prepare": asdict(source.train.prepare),
        "data": source.digest,
        "seen": _packed(source.seen),
        "recipe": None if source.recipe is None else dict(source.recipe),
    }


def save_estimator(
    run_dir: Path, make_model: MakeModel, source: Source, train_set: TrainSet, seed: int
) -> None:
    """Write ``model.pt`` for a scikit-learn model: what it was fitted on, and how to build it.

    It is fitted again when it is loaded, to the same bits, instead of being pickled. The file is as
    large as the raw inputs of the labeled samples: 0.8 MB for 1,000 gray images of 28 pixels.

    Args:
        run_dir: The run directory.
        make_model: Gives the unfitted estimator.
        source: The data.
        train_set: The labeled samples it was fitted on.
        seed: Of the fit; see `dal.models.estimators.fitted.fit_estimator`.

    Raises:
        OSError: The disk is full or not writable.
    """
    state = _described(make_model, source) | {
        "fitted_on": {
            "inputs": source.train.raw(train_set.indices),
            "targets": train_set.targets,
            "weights": train_set.weights,
            "seed": seed,
        },
    }
    checkpoint.save(run_dir / FILE, state)


def load(
    run_dir: str | Path,
    *,
    model: Any = None,
    device: str = "cpu",
    allow: Sequence[str] = (),
) -> Predictor:
    """Load the model of a run: the best weights of its last fitted round.

    A scikit-learn model is fitted again on the labels of that round, which takes as long as then.

    Args:
        run_dir: The run directory.
        model: A network to load the weights into, the class or function that builds it, or an
            unfitted estimator; needed only if it was a module, or built by a class or function
            that cannot be found again by name, such as one of a notebook.
        device: Where to predict: ``cpu``, ``cuda``, ``cuda:1`` or ``auto`` (CUDA if there).
        allow: Packages besides ``dal`` that the network's class may come from.

    Returns:
        A predictor.

    Raises:
        FileNotFoundError: The directory is none of a run, or holds no model.
        ValueError: The file is damaged or does not fit its model, the network cannot be built
            without ``model``, or there is no such device.
    """
    where = pick_device(device)
    path = Path(run_dir).expanduser() / FILE
    if not path.is_file():
        if not (path.parent / "status.json").exists():
            raise FileNotFoundError(f"{path.parent} holds no run; give the directory of one")
        raise FileNotFoundError(
            f"{path} is not there: the run has fitted no model yet, or the file was removed; give "
            "the run's command (again), which writes it"
        )
    state = checkpoint.load(path)
    try:
        return _predictor(state, model, path, where, allow)
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        fact = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not fit its model ({type(error).__name__}: {fact:.300}); it is of "
            "another version of dal, or altered: restore it"
        ) from error


def _predictor(
    state: dict[str, Any], model: Any, path: Path, device: torch.device, allow: Sequence[str]
) -> Predictor:
    names = tuple(state["class_names"])
    if model is None:
        model = _build(state, path, allow)
    elif callable(model) and not isinstance(model, nn.Module):
        model = build_model(model, *_arguments(state))
    prepare = Prepare(
        state["prepare"]["size"], tuple(state["prepare"]["mean"]), tuple(state["prepare"]["std"])
    )
    if "fitted_on" in state:
        model = _refit(model, state["fitted_on"], prepare, len(names))
    else:
        model.load_state_dict(state["weights"])
    kind, limits = state.get("task", "multiclass"), state.get("thresholds", ())  # once without
    task = task_named(kind, len(names), limits)
    shape, on = _spec(state["input_shape"]), (state.get("data", ""), _rows(state.get("seen")))
    with naming(str(path)):
        encoder = encoder_for(recipe := state.get("recipe"), state.get("vocab_size"))
    return Predictor(model, names, prepare, shape, device, task, *on, recipe, encoder)


def _refit(template: Any, on: dict[str, Any], prepare: Prepare, classes: int) -> EstimatorModule:
    equal = bool((on["weights"] == 1).all())
    with torch_threads():
        fitted = fit_estimator(
            template,
            as_floats(prepare(on["inputs"])),
            on["targets"].numpy(),
            None if equal else on["weights"].double().numpy(),
            classes,
            on["seed"],
        )
    return EstimatorModule(fitted)


def _build(state: dict[str, Any], path: Path, allow: Sequence[str]) -> Any:
    """The untrained model that a file names, which may be anybody's: a model, and nothing else.

    Its arguments are plain values: what they name is not built, and no other file is read.
    """
    spec = state["spec"]
    if spec is None:
        raise ValueError(
            f"{path} does not say how its model is built, which was a module, or a class or "
            "function of a notebook or script; pass it as model=..."
        )
    name, given = str(spec[TARGET]), {key: spec[key] for key in spec if key != TARGET}
    target = find(name, "model", allow)
    network = inspect.isclass(target) and issubclass(target, nn.Module)
    if network != ("weights" in state) and name.startswith("dal."):
        raise ValueError(f"{path} names {name}, which is no model for what it holds; restore it")
    if "weights" in state and "weights" in given:  # fine-tuned from; its own weights follow
        given["weights"] = None
        if name.startswith("dal.") and "trainable" in given:  # nothing is trained here
            given["trainable"] = "all"
    if name.startswith("dal.") and "path" in given:
        given["path"] = None
    check_arguments(target, given, name)
    return build_model(partial(target, **given), *_arguments(state))


def _arguments(state: Mapping[str, Any]) -> tuple[InputSpec, int, int | None]:
    """What a model is built for: shapes of a sample, C, and how many tokens there are."""
    return _spec(state["input_shape"]), len(state["class_names"]), state.get("vocab_size")
