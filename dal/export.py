"""The model of a run, saved and loaded to predict, without Hydra and without the data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dal import checkpoint
from dal.data.prepare import Prepare
from dal.data.reading import check_recipe
from dal.data.source import Source
from dal.data.texts.predicting import encoder_for
from dal.models.backbone import LARGEST, Preprocess, kept_front
from dal.models.base import MakeModel, build_model, numel_in
from dal.models.estimators.fitted import EstimatorModule, as_floats, fit_estimator, torch_threads
from dal.models.frozen import DTYPES, Behind, UnitLength
from dal.models.weights import no_larger_than
from dal.predictor import Predictor
from dal.recording.run_directory import MODEL
from dal.task import task_named
from dal.train_set import TrainSet
from dal.utils.build import TARGET, check_arguments, find, spec_of
from dal.utils.inputs import InputSpec, numel_of, shapes_of
from dal.utils.numerics import pick_device
from dal.utils.ranges import check_whole
from dal.utils.unfolded import check_unfolded

FILE = MODEL
MOST = 2**27
"""Numbers of a sample at most, where a network stands in front of the model."""
TRIED = 2**20
"""Numbers of a sample up to which such networks are run once as they are loaded."""


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
        return {name: _shape(shape) for name, shape in saved.items()}
    return _shape(saved)


def _shape(saved: Any) -> tuple[int, ...]:
    if not all(type(size) is int and size >= 0 for size in saved):
        raise TypeError(f"{saved!r:.80} is no shape of a sample")
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
        "front": source.front,
    }


def network_state(
    network: nn.Module,
    build: MakeModel,
    input_shape: InputSpec,
    num_classes: int,
    prepare: Prepare | Preprocess,
) -> dict[str, Any]:
    """A network that no run has trained, as ``model.pt`` would hold it.

    Args:
        network: On the CPU.
        build: Builds it.
        input_shape: Shape of a prepared sample.
        num_classes: Of its head.
        prepare: How raw inputs are prepared.
    """
    return {
        "spec": spec_of(build),
        "weights": network.state_dict(),
        "input_shape": input_shape,
        "class_names": [str(number) for number in range(num_classes)],
        "prepare": asdict(prepare),
    }


def model_state(run_dir: str | Path) -> dict[str, Any]:
    """The network of a run as its ``model.pt`` holds it."""
    return checkpoint.load(Path(run_dir).expanduser() / FILE)


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
    weights: str | None = None,
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
        weights: A file of the pretrained weights of ``features=torchvision``, which a run does not
            keep, where it is not where it was; or their name.

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
        check_unfolded(state)
        if weights is not None:
            _elsewhere(state, weights)
        return _predictor(state, model, path, where, allow)
    except ValueError as error:
        fact = " ".join(str(error).split())
        if str(error).startswith(str(path)) and str(error) == fact:
            raise
        raise ValueError(f"{path}: {fact.removeprefix(f'{path}: '):.600}") from error
    except _UNFIT as error:
        fact = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not fit its model ({type(error).__name__}: {fact:.300}); it is of "
            "another version of dal, or altered: restore it"
        ) from error


_UNFIT = (TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)
"""What may be raised where a file does not hold what its model takes."""


def _predictor(
    state: dict[str, Any], model: Any, path: Path, device: torch.device, allow: Sequence[str]
) -> Predictor:
    names = tuple(state["class_names"])
    if not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise TypeError(f"{names!r:.80} are no names of classes")
    shape, recipe = _spec(state["input_shape"]), state.get("recipe")
    check_recipe(recipe)
    encoder = encoder_for(recipe, state.get("vocab_size"), shape)
    if model is None:
        model = _build(state, path, allow)
    elif callable(model) and not isinstance(model, nn.Module):
        model = build_model(model, *_arguments(state))
    prepare = _prepare(**state["prepare"])
    if "fitted_on" in state:
        model = _refit(model, state["fitted_on"], prepare, len(names))
    else:
        model.load_state_dict(state["weights"])
    kind, limits = state.get("task", "multiclass"), state.get("thresholds", ())  # once without
    task = task_named(kind, len(names), limits)
    seen = _rows(state.get("seen"))
    own = Predictor(
        model, names, prepare, shape, device, task, state.get("data", ""), seen, recipe, encoder
    )
    return own if state.get("front") is None else _behind(own, state["front"], path, allow)


def _prepare(size: Any, mean: Any, std: Any) -> Prepare:
    """How inputs are prepared, of plain values that may be anybody's."""
    if size is not None:
        check_whole("the size of its images", size, 1, most=LARGEST)
    return Prepare(size, *(tuple(float(number) for number in values) for values in (mean, std)))


def _behind(own: Predictor, front: dict[str, Any], path: Path, allow: Sequence[str]) -> Predictor:
    """A predictor of what the features were made of, from one of features."""
    network: nn.Module
    prepare: Prepare | Preprocess
    check_recipe(front["recipe"])
    earlier: list[tuple[str, Tensor]] = []
    if "torchvision" in front:
        network, prepare = kept_front(path, **front["torchvision"])
    elif "fitted_on" in front["model"]:
        raise TypeError("what stands in front of its model has no features")
    else:
        before = _predictor(front["model"], None, path, own.device, allow)
        network, prepare, earlier = before.model, before.prepare, before.fitted_to
    if front.get("unit_length"):
        network = UnitLength(network)
    raw, dtype = _spec(front["input_shape"]), DTYPES[front["dtype"]]
    prepared = raw if isinstance(raw, dict) else _prepared_shape(raw, prepare)
    behind = Behind(network, dtype, own.prepare, own.model, numel_in(network, prepared))
    tokens = front.get("model", {}).get("vocab_size") is not None
    if isinstance(prepared, tuple) and not tokens and numel_of(prepared) <= TRIED:
        _try(behind.to(own.device).eval(), prepared, own)
    return Predictor(
        behind,
        own.class_names,
        prepare,
        raw,
        own.device,
        own.task,
        front["data"],
        own.seen,
        front["recipe"],
        of_features=own,
        earlier=earlier,
    )


def _prepared_shape(raw: tuple[int, ...], prepare: Prepare | Preprocess) -> InputSpec:
    """The shape of a sample of a shape once it is prepared."""
    if numel_of(raw) > MOST:
        raise ValueError(f"its samples of shape {raw} have more than {MOST:,} numbers; restore it")
    return shapes_of(prepare(torch.zeros(1, *raw)))


def _try(behind: Behind, prepared: tuple[int, ...], own: Predictor) -> None:
    """Run a model and what stands in front of it once, of which one may be another's.

    Raises:
        TypeError, RuntimeError: They do not fit each other, or the samples.
    """
    with torch.no_grad():
        logits = behind(torch.zeros(1, *prepared, device=own.device)).logits
    if logits.shape != (1, len(own.class_names)):
        raise TypeError(f"it gives {tuple(logits.shape)} for {len(own.class_names)} classes")


def _elsewhere(state: Any, weights: str) -> None:
    """Let what stands in front of a model have its pretrained weights from another file.

    Raises:
        ValueError: There is no pretrained network in front of it.
    """
    front = state.get("front")
    while front is not None and "torchvision" not in front:
        front = front["model"].get("front")
    if front is None:
        raise ValueError(f"weights={weights}: the run keeps its own; leave them out")
    front["torchvision"]["weights"] = weights


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
    name, given = spec[TARGET], {key: spec[key] for key in spec if key != TARGET}
    if not isinstance(name, str):
        raise TypeError(f"{TARGET} is a {type(name).__name__}, which names no model")
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
    arguments, tensors = _arguments(state), state.get("weights", {}).values()
    with no_larger_than(
        sum(tensor.numel() for tensor in tensors),
        f"{path} does not fit its model: a larger network than it has weights for; restore it",
    ):
        return build_model(partial(target, **given), *arguments)


def _arguments(state: Mapping[str, Any]) -> tuple[InputSpec, int, int | None]:
    """What a model is built for: shapes of a sample, C, and how many tokens there are."""
    size = state.get("vocab_size")
    if size is not None and (type(size) is not int or size < 1):
        raise TypeError(f"vocab_size={size!r:.40} is no number of tokens")
    return _spec(state["input_shape"]), len(state["class_names"]), size
