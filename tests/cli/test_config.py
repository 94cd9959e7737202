import copy
import inspect
import json
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dal.cli.config import (
    check_groups,
    check_keys,
    suggestions,
)
from dal.cli.folders import LISTED
from dal.cli.running import complete_already
from dal.cli.schema import GROUPS, VERSION, Config, choices_of
from dal.data.dataset import Dataset
from dal.data.initial import check_initial
from dal.data.texts.stores import TextStore
from dal.features import Raw
from dal.runs import from_config as app
from dal.settings import UNNAMED, Choices, changed_defaults, differing, settled
from dal.utils.build import build, find

CONF = Path(__file__).parents[2] / "conf"
OURS = (path for path in CONF.rglob("*.yaml") if path.parent.name not in ("cluster", "local"))
FILES = sorted(path for path in OURS if path.name != "config.yaml")
GIVEN_AT_BUILD_TIME = {
    "data": {"known"},
    "model": {"input_shape", "num_classes", "vocab_size"},
    "oracle": {
        *("targets", "foreign", "folder", "class_names", "positions", "multilabel"),
        *("seed", "run_name"),
    },
    "initial": {"targets", "seed", "features", "num_classes"},
}


def option(path: Path) -> tuple[str, str]:
    """Group and option, e.g. ``trainer/optimizer`` and ``adam``."""
    relative = path.relative_to(CONF).with_suffix("")
    if relative.parts[0] in ("experiment", "debug"):
        return relative.parts[0], str(Path(*relative.parts[1:]))
    return str(relative.parent), relative.name


NUMBERED = {"strategy", "committee", "initial", *LISTED} | {
    f"trainer{group}" for group in ("", "/optimizer", "/scheduler")
}
"""Groups whose numbers are refused as soon as they are built."""

IDS = ["=".join(option(path)) for path in FILES]


@pytest.fixture(autouse=True)
def composing() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), **VERSION):
        yield


def compose(*overrides: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Resolved settings in plain containers, and the chosen options."""
    config = hydra.compose("config", list(overrides), return_hydra_config=True)
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    del config.hydra  # type: ignore[union-attr]
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    assert isinstance(choices, dict)
    return plain, choices  # type: ignore[return-value]


def name_of(*overrides: str) -> str:
    return named(*overrides)[0]


def chosen(*overrides: str) -> Choices:
    return named(*overrides)[1]


def named(*overrides: str) -> tuple[str, Choices]:
    """The name of a run, and what was chosen."""
    config = hydra.compose("config", list(overrides), return_hydra_config=True)
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    names = [str(name) for name in config if name != "hydra"]
    made = choices_of(OmegaConf.masked_copy(config, names), choices)  # type: ignore[arg-type]
    return made.run_name(config.seed), made


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_option_composes_with_resolved_values(path: Path) -> None:
    group, choice = option(path)
    below = {
        "data/encoder": "data=goemotions",
        "setting/manager": "setting=stream",
        "cooperative/teacher": "cooperative=fixed",
    }
    where = [below[group]] if group in below else []
    config, choices = compose(*where, f"{group}={choice}", f"seed={len(choice)}")
    settings = yaml.safe_load(path.read_text())
    part: Any = config
    for key in group.split("/") if group not in ("experiment", "debug") else []:
        part = part[key]
    part = part[choice] if group in LISTED else part  # a list of options, side by side
    for key, value in settings.items():
        if key not in ("defaults", "initial", "trainer", "split") and "$" not in str(value):
            holds = (
                isinstance(value, dict) and "_target_" not in value
            )  # a part of what it is made of
            assert (part[key] | value if holds else value) == part[key]
    assert choices[group] == choice


@pytest.mark.parametrize(
    "path", [path for path in FILES if "_target_" in path.read_text()], ids=lambda p: p.stem
)
def test_option_names_exactly_the_parameters_of_its_target(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    given = GIVEN_AT_BUILD_TIME.get(path.parent.name, set())
    if path.stem == "transformers":  # its tokenizer is given a size; its config comes of a folder
        given = {"input_shape", "num_classes", "architecture"}
    parameters = set(inspect.signature(find(settings["_target_"])).parameters) - given
    assert set(settings) - {"_target_", "defaults"} | composed_from_others(settings) == parameters
    for value in settings.values():
        if isinstance(value, dict) and "_target_" in value:
            nested = set(inspect.signature(find(value["_target_"])).parameters)
            assert set(value) - {"_target_"} == nested


@pytest.mark.parametrize(
    "path", [path for path in FILES if option(path)[0] in NUMBERED], ids=lambda path: path.stem
)
def test_numbers_out_of_range_are_refused_in_one_line_naming_the_key(path: Path) -> None:
    group, choice = option(path)
    part = group.partition("/")[0]
    settings = compose(f"{group}={choice}")[0][part]
    settings = settings[choice] if part in LISTED else settings
    make: Any = refuse_initial if part == "initial" else partial(build, part=part)
    for holder, key in list(numbers(settings)):
        number = holder[key]
        huge = 10**400 if isinstance(number, float) else math.inf  # whole ones: all there are
        for value in (math.nan, math.inf, -math.inf, -1, huge):
            holder[key] = value
            with pytest.raises((TypeError, ValueError), match=rf"\b{key}\b") as refusal:
                make(settings)
            assert "\n" not in str(refusal.value)
        holder[key] = number


def refuse_initial(settings: dict[str, Any]) -> None:
    check_initial(app.factory(settings, "initial"))


def numbers(settings: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where settings hold numbers: the container and the key."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield settings, key


def composed_from_others(settings: dict[str, Any]) -> set[str]:
    """Parameters that a defaults list fills: ``optimizer: adam``, ``/strategy@score: entropy``."""
    entries = [entry for entry in settings.get("defaults", []) if isinstance(entry, dict)]
    places = [next(iter(entry)).rpartition("@")[2] for entry in entries]
    return {place.partition(".")[0] for place in places}


def test_schema_knows_exactly_the_plain_settings() -> None:
    settings = yaml.safe_load((CONF / "config.yaml").read_text())
    assert set(settings) == {"defaults", "hydra"}
    listed = {group for entry in settings["defaults"] if isinstance(entry, dict) for group in entry}
    groups = {*GROUPS, *LISTED}
    assert groups == {group for group in listed if " " not in group} - {
        "cluster",
        "experiment",
        "debug",
    }
    assert groups < set(Config.__dataclass_fields__)


def arrays(dataset: dict[str, Any]) -> Dataset:
    """A small stand-in for any data set, of the right shape."""
    if dataset["_target_"] in ("dal.data.goemotions", "dal.data.text"):
        return texts(several="goemotions" in dataset["_target_"])
    shape = {"svhn": (3, 32, 32), "mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28)}
    kind = dataset["_target_"].rpartition(".")[2]
    rng = torch.Generator().manual_seed(0)
    count, classes = 200, 10
    size = (count, *shape.get(kind, (1, 28, 28)))
    inputs = torch.randint(0, 256, size, generator=rng, dtype=torch.uint8)
    names = tuple(map(str, range(classes)))
    targets = torch.arange(count) % classes
    return Dataset(kind, inputs, targets, names, inputs[:40], targets[:40])


def texts(several: bool) -> Dataset:
    """Texts of words that their labels decide, and a test part of the same."""
    rng = torch.Generator().manual_seed(0)
    words, labels = torch.randint(0, 10, (400, 4), generator=rng), torch.arange(400) % 4
    held = torch.stack([(words == label).any(1) for label in range(4)], 1).long()
    written = TextStore([" ".join(f"word{n}" for n in row) for row in words.tolist()])
    targets = held if several else labels
    names = ("a", "b", "c", "d")
    return Dataset("texts", written, targets, names, TextStore(written.texts[:40]), targets[:40])


@pytest.mark.parametrize(
    "choice", ["=".join(option(p)) for p in FILES if option(p)[0] in ("experiment", "debug")]
)
def test_experiment_and_debug_options_run(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, factory = app.build, app.factory

    def data(settings: Any, part: str, **arguments: Any) -> Any:
        if part == "data":
            return lambda: arrays(settings)
        return factory(settings, part, **arguments)

    def stand_in(settings: Any, part: str, **arguments: Any) -> Any:
        if settings["_target_"].startswith("dal.features."):
            return Raw()
        return build(settings, part, **arguments)

    monkeypatch.setattr(app, "build", stand_in)
    monkeypatch.setattr(app, "factory", data)
    small = ["trainer.epochs=1", "batch_size=20", "seed=3", "profile=false", "figures=false"]
    if choice.startswith("experiment"):
        small += ["max_rounds=0", "split.validation=20"]
    if choice == "experiment=text":
        small += ["data.path=mine.csv", "data.target=label"]
    config, _ = compose(choice, *small)
    expected = {"debug=fast": 3}.get(choice, 2 if choice == "debug=profile" else 1)
    assert len(app.execute(config, tmp_path).rows) == expected


def test_name_is_stable_and_readable() -> None:
    name = name_of("data=iris", "model=mlp", "strategy=margin", "seed=3")
    assert re.fullmatch(r"iris-mlp-margin-s3-[0-9a-f]{8}", name)
    assert name == name_of("seed=3", "strategy=margin", "data=iris", "model=mlp")


def test_name_knows_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    first = name_of()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert name_of() == first


HASHED = [
    "seed=1",
    "query_size=11",
    "split.kind=merged",
    "split.validation=0.1",
    "split.test_fraction=0.2",
    "split.stratified=false",
    "data=iris",
    "data.size=32",
    "model=mlp",
    "strategy=margin",
    "strategy.window=4",
    "trainer.epochs=3",
    "trainer.restart=cold",
    "trainer.precision=bfloat16",
    "trainer.ema=0.99",
    "trainer/augment=light",
    "trainer.early_stopping=null",
    "trainer.early_stopping.patience=3",
    "trainer/optimizer=sgd",
    "trainer.optimizer.lr=0.02",
    "trainer/scheduler=cosine",
    "oracle=files",
    "initial=per_class",
    "initial.count=21",
]
NOT_HASHED = {
    "budget": "7",
    "headline": "macro_f1",
    "max_rounds": "3",
    "device": "cpu",
    "threads": "2",
    "batch_size": "64",
    "data_dir": "elsewhere",
    "saved_dir": "elsewhere",
    "keep_models": "true",
    "record_epochs": "false",
    "figures": "false",
    "keep_history": "true",
    "save_every": "5",
    "profile": "true",
    "plugins": "[mine]",
    "replicas": "2",
    "replica_strategies": "[random]",
    "lockstep": "false",
    "stopping": "[plateau]",
    "budget_in": "cost",
    "stopping_when": "all",
    "stop_set": "0",
}


def test_every_hashed_setting_changes_the_name() -> None:
    names = [name_of(), *(name_of(setting) for setting in HASHED)]
    assert len(set(names)) == len(names)


def test_unhashed_settings_are_all_tried() -> None:
    assert set(NOT_HASHED) == set(UNNAMED)


@pytest.mark.parametrize("key", UNNAMED)
@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_unhashed_setting_keeps_the_name(key: str, data: str) -> None:
    assert name_of(f"data={data}", f"{key}={NOT_HASHED[key]}") == name_of(f"data={data}")


def test_place_of_the_data_keeps_the_name() -> None:
    assert name_of("data=mnist", "data.root=elsewhere") == name_of("data=mnist")


def test_environment_sets_the_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAL_SAVED_DIR", "one")
    monkeypatch.setenv("DAL_DATA_DIR", "two")
    config, _ = compose("data=mnist")
    assert (config["saved_dir"], config["data"]["root"]) == ("one", "two")
    monkeypatch.delenv("DAL_SAVED_DIR")
    monkeypatch.delenv("DAL_DATA_DIR")
    config, _ = compose("data=mnist")
    assert (config["saved_dir"], config["data"]["root"]) == ("saved", "~/.cache/dal")


COMPLETE = {"status": "complete", "reason": "budget", "queried": 20, "round": 4}


@pytest.mark.parametrize(
    ("status", "budget", "max_rounds", "expected"),
    [
        ({}, 20, None, True),
        ({"status": "running"}, 10, None, False),
        ({"status": "failed"}, 10, None, False),
        ({"status": "preempted"}, 10, None, False),
        ({"status": "waiting"}, 10, None, False),
        ({}, 19, None, True),
        ({}, 21, None, False),
        ({}, 21, 4, True),
        ({}, 21, 3, True),
        ({}, 21, 5, False),
        ({}, 20, 9, True),
        ({"reason": "max_rounds"}, 40, None, False),
        ({"reason": "max_rounds"}, 40, 4, True),
        ({"reason": "pool_exhausted"}, 4000, None, True),
    ],
)
def test_complete_already_asks_whether_anything_is_left(
    status: dict[str, Any], budget: int, max_rounds: int | None, expected: bool
) -> None:
    found = COMPLETE | status
    settings = {"budget": budget, "max_rounds": max_rounds}
    before = copy.deepcopy(found)
    assert complete_already(found, settings) is expected
    assert found == before


def test_complete_already_is_false_without_a_status() -> None:
    assert not complete_already({}, {"budget": 1, "max_rounds": None})


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["strategy=instabilty"], ["did you mean strategy=instability?"]),
        (["strategy=random,entrpy"], ["did you mean strategy=entropy?"]),
        (["trainer/optimizer=adamm"], ["did you mean trainer/optimizer=adam?"]),
        (["trainer/optimiser=adam"], ["did you mean trainer/optimizer=adam?"]),
        (["stratgy=entropy"], ["did you mean strategy=entropy?"]),
        (["experiment=instability/mnst"], ["did you mean experiment=instability/mnist?"]),
        (["budgt=3"], ["did you mean budget=3?"]),
        (["+budgt=3"], ["did you mean budget=3?"]),
        (["strategy.windw=3"], ["did you mean strategy.window=3?"]),
        (["strategy@strategy.score=margin", "strategy=density_weighted"], []),
        (["strategy@strategy.score=margn"], ["did you mean strategy@strategy.score=margin?"]),
        (["trainer.lr=3"], ["did you mean trainer.optimizer.lr=3?"]),
        (
            ["trainer.augment.flip=true"],
            ["did you mean trainer/augment=light trainer.augment.flip=true?"],
        ),
        (["window=3"], ["did you mean strategy.window=3?"]),
        (["model=mlp", "model.hiden=[3]"], ["did you mean model.hidden=[3]?"]),
        (["strategy=random", "strategy.window=3"], []),
        (["data=iris", "data.root=/tmp"], []),
        (["trainer.early_stoping=null"], ["did you mean trainer.early_stopping=null?"]),
        (["budget=3", "data=mnist", "-m", "hydra.verbose=true", "--cfg", "job"], []),
        (["sed=1", "budgt=2"], ["did you mean seed=1?", "did you mean budget=2?"]),
        (["", "=", "zzzzzz=1", "/etc=1", "zzzzzz=[]"], []),
        (["pool=[noisy]"], ["did you mean difficulty=[noisy]?"]),
        (["pool=[noisy,ood]"], ["did you mean difficulty=[noisy,ood]?"]),
    ],
)
def test_suggestions_for_mistyped_settings(arguments: list[str], lines: list[str]) -> None:
    singleton = GlobalHydra.instance().hydra
    try:
        assert list(suggestions(arguments, [CONF])) == lines
    finally:
        GlobalHydra.instance().clear()
        if singleton is not None:
            GlobalHydra.instance().initialize(singleton)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+foo=1"], "no setting foo"),
        (["+query_sizes=1"], "did you mean query_size"),
        (["data=npz"], "data.path is missing"),
        (["~seed"], "~seed takes away a setting that every run has; leave it out"),
        (["seed=${seed}"], r"^error: Recursive interpolation detected \(seed\); correct this"),
        (["saved_dir=${nope}"], r"^error: Interpolation key 'nope' not found \(saved_dir\); corr"),
    ],
)
def test_settings_unread_or_missing_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        check_keys(hydra.compose("config", overrides))


def test_settings_of_every_group_are_known() -> None:
    check_keys(hydra.compose("config", ["experiment=instability/mnist", "debug=fast"]))


@pytest.mark.parametrize("argument", ["initial=50", "trainer/optimizer=0.1", "committee=null"])
def test_number_for_a_group_is_refused_with_its_options(argument: str) -> None:
    with pytest.raises(SystemExit, match="is a group: choose one of"):
        check_groups([argument], [CONF])
    check_groups(["seed=3", "strategy=entropy", "experiment=null", "--help"], [CONF])


@pytest.mark.parametrize("argument", ["data=[digits,iris]", "trainer/optimizer=[sgd,adam]"])
def test_list_for_a_group_is_refused_with_its_options(argument: str) -> None:
    with pytest.raises(SystemExit, match=r"one option is taken: choose one of .*; a sweep .*: -m"):
        check_groups([argument], [CONF])
    check_groups(["difficulty=[noisy,ood]", "trainer.optimizer.betas=[0.9,0.99]"], [CONF])


def test_what_is_the_default_anyway_leaves_the_name_as_it_was() -> None:
    said = ("features=none", "difficulty=[]", "trainer/optimizer=adam", "trainer.epochs=200")
    assert name_of(*said, "trainer.early_stopping.min_delta=1e-3") == name_of()
    assert name_of("features=torchvision") != name_of()


def test_an_experiment_is_what_it_sets() -> None:
    experiment = chosen("experiment=iris_demo")
    same = [f"{group}={option}" for group, option in experiment.options.items()]
    same += [f"{key}={json.dumps(value)}" for key, value in experiment.values.items()]
    assert {"data=iris", "query_size=1"} < set(same)
    assert chosen(*same) == experiment


def test_what_was_chosen_is_said() -> None:
    overrides = ("strategy=density_weighted", "strategy@strategy.score=margin", "data=mnist")
    found = chosen(*overrides, "trainer/scheduler=cosine", "trainer.epochs=10", "budget=3")
    assert found.options == {
        "data": "mnist",
        "model": "lenet5",
        "strategy": "density_weighted",
        "strategy@strategy.score": "margin",
        "trainer/scheduler": "cosine",
    }
    assert found.values == {"trainer.epochs": 10}  # the schedule's epochs follow from it


def test_oracles_within_oracles_are_choices_on_every_level() -> None:
    dan = "+oracle@oracle.people.dan=noisy"
    choices = chosen(
        "oracle=several",
        dan,
        "oracle@oracle.people.bob=abstaining",
        "oracle.people.dan.accuracy=0.5",
    )
    assert (
        choices.options.items()
        >= {
            "oracle": "several",
            "oracle@oracle.people.bob": "abstaining",
            "oracle@oracle.people.dan": "noisy",
        }.items()
    )
    assert choices.values == {"oracle.people.dan.accuracy": 0.5}
    around = chosen(
        "oracle=costly", "oracle@oracle.of=several", "oracle.of.annotators_per_sample=3"
    )
    nested = {key: value for key, value in around.options.items() if key.startswith("oracle")}
    assert nested == {"oracle": "costly", "oracle@oracle.of": "several"}
    assert around.values == {"oracle.of.annotators_per_sample": 3}


def test_names_do_not_know_classes_nor_settings_left_at_their_defaults() -> None:
    config, _ = compose("strategy.window=4")
    defaults, _ = compose()
    before = differing(config, defaults)
    for settings in (config, defaults):
        settings["strategy"]["_target_"] = "somewhere.else.Instability"
        settings["strategy"]["new"] = 3
        settings["brand_new"] = {"also": True}
    assert differing(config, defaults) == before == {"strategy.window": 4}


def test_spelling_of_a_path_leaves_the_name_as_it_was() -> None:
    names = [name_of("data=npz", f"data.path={x}") for x in ("a/m.npz", "./a/m.npz", "a//m.npz")]
    assert len({*names, name_of("data=npz", "data.path=m.npz")}) == 2
    of_run = [name_of("features=run", f"features.path={x}") for x in ("saved/x", "saved/x/")]
    assert len(set(of_run)) == 1


def test_a_class_of_ones_own_is_a_choice() -> None:
    assert chosen("model._target_=mine.Net").values == {"model._target_": "mine.Net"}


def test_part_that_is_off_or_deleted_is_one_choice() -> None:
    assert chosen("trainer.early_stopping=null").values == {"trainer.early_stopping": None}
    assert chosen("~trainer.early_stopping.patience").values == {
        "trainer.early_stopping.patience": None
    }


def test_only_a_default_of_another_meaning_is_a_change() -> None:
    then, _ = compose("data=mnist")
    now = copy.deepcopy(then)
    now["model"]["_target_"] = "somewhere.else.LeNet5"
    now["trainer"] |= {"new": 1, "epochs": 200.0}
    now |= {"budget": 7, "saved_dir": "elsewhere", "device": "cuda", "another": 3}
    now["data"]["root"] = "elsewhere"
    del now["strategy"]["window"]
    assert changed_defaults(then, now) == {}
    now["trainer"]["epochs"] = 100
    now["split"]["kind"] = "merged"
    assert changed_defaults(then, now) == {"trainer.epochs": 200, "split.kind": "auto"}


def test_place_of_the_cache_leaves_the_name_as_it_was() -> None:
    one, other = (name_of("features=torchvision", f"features.cache_dir=/{x}") for x in "ab")
    assert one == other
    assert one != name_of("features=torchvision", "features.size=64")


def test_what_people_are_shown_leaves_the_name_as_it_was() -> None:
    shown = ("oracle.guess=false", "oracle.pictures=true")
    assert name_of("oracle=files", *shown) == name_of("oracle=files")
    assert name_of("oracle=files") != name_of()


def test_pool_options_compose_in_any_order_to_one_name() -> None:
    one, other = (
        name_of(f"difficulty=[{x}]", "difficulty.noisy.rate=0.2")
        for x in ("noisy,ood", "ood,noisy")
    )
    assert one == other
    assert one not in (name_of("difficulty=noisy", "difficulty.noisy.rate=0.2"), name_of())


def test_place_of_foreign_data_leaves_the_name_as_it_was() -> None:
    overrides = ("difficulty=[ood]", "data@difficulty.ood.data=fashion_mnist")
    assert name_of(*overrides, "data_dir=/a") == name_of(*overrides, "data_dir=/b")


def test_suggestions_read_lists_of_options() -> None:
    found = list(suggestions(["difficulty=[noisy,od]", "difficulty.noisy.rat=0.2"], [CONF]))
    assert "did you mean difficulty=ood?" in found
    found = list(suggestions(["difficulty=[noisy,ood]", "difficulty.noisy.rat=0.2"], [CONF]))
    assert found == ["did you mean difficulty.noisy.rate=0.2?"]


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        ([], "min"),
        (["trainer.early_stopping.monitor=val/accuracy"], "max"),
        (["trainer.early_stopping.monitor=val/macro_f1"], "max"),
        (["trainer.early_stopping.monitor=val/ece"], "min"),
        (["experiment=strategies/batchbald"], "max"),
    ],
)
def test_direction_of_early_stopping_follows_from_the_metric(
    overrides: list[str], mode: str
) -> None:
    config, _ = compose(*overrides)
    assert settled(config)["trainer"]["early_stopping"]["mode"] == mode
    assert name_of(*overrides) == name_of(*overrides, f"trainer.early_stopping.mode={mode}")
