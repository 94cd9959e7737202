from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from dal.models import MLP
from dal.query import Parallel, Query
from dal.training.early_stopping import EarlyStopping
from dal.training.trainer import Trainer
from dal.utils.build import TARGET, build, call, check_arguments, factory, find, fits, spec_of

HERE = __name__


@dataclass
class Part:
    number: float = 1.0


@dataclass
class Whole:
    name: str
    part: Part = field(default_factory=Part)
    extra: int | None = None

    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (1.5, float, True),
        (True, float, False),
        ("1", float, False),
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        ("1", int, False),
        (True, bool, True),
        (1, bool, False),
        ("a", str, True),
        (1, str, False),
        (None, int | None, True),
        (1, int | None, True),
        ("1", int | None, False),
        (None, int, False),
        ([1, 2], Sequence[int], True),
        ((1, 2), list[int], True),
        ([1, "2"], Sequence[int], False),
        ([], Sequence[int], True),
        (5, Sequence[int], False),
        ("ab", Sequence[str], False),
        ([0.9, 1], tuple[float, float], True),
        ([0.9, "1"], tuple[float, float], False),
        ([1, 2], tuple[int, ...], True),
        ({"a": 1, "b": 0.5}, Mapping[str, float], True),
        ({"a": "1"}, Mapping[str, float], False),
        (None, Mapping[str, float], False),
        ("any", Literal["one", "two"], True),
        (object(), Any, True),
        (3, str | Iterable[Any], False),
        ([3], Iterable[Any], True),
        ("quantile", EarlyStopping, False),
        (None, EarlyStopping, False),
        (None, EarlyStopping | None, True),
        (EarlyStopping(), EarlyStopping, True),
        (object(), EarlyStopping, True),  # may do as well
    ],
)
def test_fits_checks_plain_types(value: object, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"epoch": 3}, "no setting epoch; did you mean epochs?"),
        ({"zzz": 3}, "no setting zzz; it takes epochs, batch_size"),
        ({"epochs": "3"}, "epochs='3' is not of type int"),
        ({"epochs": True}, "epochs=True is not of type int"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], fact: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_arguments(Trainer, arguments, "dal.training.trainer.Trainer")
    assert fact in str(caught.value)
    assert "dal.training.trainer.Trainer" in str(caught.value)


def test_numbers_that_shall_be_texts_are_given_in_quotes() -> None:
    settings = {"_target_": "dal.data.table", "path": "a.csv", "target": 7}
    with pytest.raises(TypeError, match=r"""texts stand in quotes: "data\.target='7'"$"""):
        build(settings, "data")
    settings = settings | {"target": "y", "class_names": [1, 2]}
    with pytest.raises(TypeError, match=r"""quotes: "data\.class_names=\['1','2'\]"$"""):
        build(settings, "data")
    with pytest.raises(TypeError, match=r"""quotes: "data\.drop=\['1'\]"$"""):
        build(settings | {"class_names": ["1"], "drop": [1]}, "data")


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"weights=.*'abc'.* is not of type Mapping .* to float"):
        check_arguments(Parallel, {"weights": {"first": "abc"}}, "dal.query.Parallel")


def test_build_makes_nested_targets_first() -> None:
    settings = {
        TARGET: "dal.training.trainer.Trainer",
        "epochs": 3,
        "early_stopping": {TARGET: "dal.training.trainer.EarlyStopping", "patience": None},
        "optimizer": {TARGET: "dal.training.optim.adam", "lr": 1},
    }
    trainer = build(settings)
    assert isinstance(trainer, Trainer)
    assert trainer.epochs == 3
    assert trainer.early_stopping == EarlyStopping(patience=None)


def test_build_makes_targets_in_lists_and_dicts() -> None:
    part = {TARGET: f"{HERE}.Part", "number": 2}
    mixed = {"one": part, "rest": [part, 3, {"deep": part}]}
    whole = build(
        {TARGET: f"{HERE}.Whole", "name": "a", "extra": None, "part": mixed}, allow=[HERE]
    )
    assert whole.part == {"one": Part(2), "rest": [Part(2), 3, {"deep": Part(2)}]}
    assert part == {TARGET: f"{HERE}.Part", "number": 2}


def test_mistakes_in_lists_name_the_nested_target() -> None:
    settings = {TARGET: f"{HERE}.Whole", "name": "a", "part": [{TARGET: f"{HERE}.Part", "nr": 2}]}
    with pytest.raises(TypeError, match="Part has no setting nr"):
        build(settings, allow=[HERE])


def test_nested_mistakes_name_the_nested_target() -> None:
    nested = {TARGET: "dal.training.trainer.EarlyStopping", "patients": 3}
    with pytest.raises(TypeError, match=r"EarlyStopping has no setting patients.*patience"):
        build({TARGET: "dal.training.trainer.Trainer", "early_stopping": nested})


def test_factory_waits_for_the_extra_arguments() -> None:
    make = factory({TARGET: "dal.models.MLP", "hidden": [4]})
    assert make(input_shape=(3,), num_classes=2).head.in_features == 4


def test_packages_must_be_allowed() -> None:
    settings = {TARGET: f"{HERE}.Whole", "name": "a", "part": {TARGET: f"{HERE}.Part", "number": 2}}
    with pytest.raises(ValueError, match=rf"outside the packages.*add {HERE} to plugins"):
        build(settings)
    assert build(settings, allow=[HERE]) == Whole("a", Part(2))
    assert build(settings, allow=[HERE], extra=3).extra == 3


@pytest.mark.parametrize("name", ["os.system", "dalx.models.MLP", "builtins.eval", ""])
def test_find_refuses_other_packages(name: str) -> None:
    with pytest.raises(ValueError, match="outside the packages"):
        find(name)


@pytest.mark.parametrize(
    "name",
    ["dal.models.Nope", "dal.nope.MLP", "dal", "dal.", "dal.query", "dal.training.trainer.DTYPES"],
)
def test_find_refuses_what_is_no_class_or_function(name: str) -> None:
    with pytest.raises(ValueError, match="check the _target_"):
        find(name)


@pytest.mark.parametrize(
    "make", [MLP, partial(MLP, hidden=[4, 5]), partial(partial(MLP, hidden=[4]), dropout=0.1)]
)
def test_spec_of_round_trips(make: Any) -> None:
    spec = spec_of(make)
    assert spec is not None
    rebuilt = factory(spec)
    assert rebuilt.func is MLP
    assert rebuilt.keywords == getattr(make, "keywords", {})


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        Whole("a").method,
        Whole.method,
        partial(MLP, (3,)),
        partial(MLP, hidden=Part()),
        Whole("a"),
    ],
)
def test_spec_of_what_no_module_names_is_none(make: Any) -> None:
    assert spec_of(make) is None


def test_spec_of_a_local_function_is_none() -> None:
    def local() -> None: ...

    assert spec_of(local) is None
    assert spec_of(partial(local)) is None


@pytest.mark.parametrize("settings", [{}, {"window": 3}, [1, 2], None, "margin"])
def test_settings_without_a_target_are_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match=r"settings of strategy are .*; name a class or function"):
        build(settings, "strategy")


def test_nested_oracles_are_each_given_what_they_name() -> None:
    settings = {
        "_target_": "dal.oracles.Several",
        "annotators_per_sample": 1,
        "people": {
            "ann": {
                "_target_": "dal.oracles.Noisy",
                "accuracy": 0.0,
                "of": {"_target_": "dal.oracles.SimulatedOracle"},
            }
        },
    }
    make = factory(settings, "oracle", deep=True)
    at_hand = {
        "targets": torch.tensor([0, 1, 1]),
        "class_names": ("a", "b"),
        "multilabel": False,
        "seed": 3,
        "folder": Path("unused"),
    }
    oracle = call(make, at_hand)
    assert oracle.seed == 3
    assert oracle.people["ann"].name == "ann"
    ticket = oracle.submit(Query(torch.arange(3), torch.zeros(3)), 0)
    answers = oracle.collect(ticket)  # in a drawn order
    found = dict(zip(answers.indices.tolist(), answers.targets.tolist(), strict=True))
    assert found == {0: 1, 1: 0, 2: 0}


def test_nested_targets_are_checked_before_anything_is_made() -> None:
    inner = {"_target_": "dal.oracles.SimulatedOracle", "foriegn": 1}
    settings = {"_target_": "dal.oracles.Noisy", "of": inner}
    with pytest.raises(TypeError, match="did you mean foreign"):
        factory(settings, "oracle", deep=True)
    inner["_target_"] = "dal.runs.loop.run"
    with pytest.raises(ValueError, match="may not be built"):
        factory(settings, "oracle", deep=True)
