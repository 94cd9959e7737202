"""Run directories from elsewhere execute nothing: what may be built is public and named."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import runpy
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from waiting import completed

import dal
from dal import checkpoint
from dal.cli.config import compose
from dal.data import digits, make_source
from dal.export import FILE, save_model
from dal.models import LeNet5
from dal.runs.from_config import execute
from dal.runs.replay import Replay
from dal.utils.build import PUBLIC, build, find, spec_of
from dal.utils.safe_files import DamagedError

ROOT = Path(__file__).parents[2]
SMALL = (
    "query_size=5",
    "budget=5",
    "trainer.epochs=2",
    "threads=1",
    "keep_models=true",
    "figures=false",
)
CLOSED = ("dal.utils.build.build", "dal.utils.build.find", "dal.load", "dal.utils.build.partial")


@pytest.fixture(autouse=True)
def no_hydra() -> None:
    HydraConfig.instance().cfg = None


def settings(*overrides: str) -> dict[str, Any]:
    plain = OmegaConf.to_container(compose(ROOT / "conf", [*SMALL, *overrides]), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def attacks(victim: Path) -> dict[str, dict[str, Any]]:
    """Settings that would make a file if what they name were called."""
    command = f"touch {victim}"
    find_system = {"_target_": "dal.utils.build.find", "name": "os.system", "allow": ["os"]}
    spec = {"_target_": "dal.utils.build.spec_of", "function": find_system}
    helped = {"settings": spec, "allow": ["posix"], "command": command}
    return {
        "helper": {"_target_": "dal.utils.build.build", **helped},
        "factory": {"_target_": "dal.utils.build.factory", **helped},
        "nested": {"_target_": "dal.models.MLP", "hidden": {"_target_": "os.system"}},
        "nested helper": {
            "_target_": "dal.models.MLP",
            "hidden": [{"_target_": "dal.utils.build.build", **helped}],
        },
        "direct": {"_target_": "os.system", "command": command},
        "subprocess": {"_target_": "dal.utils.numerics.subprocess.run", "args": command},
        "attribute": {"_target_": "dal.export.Path.touch", "self": str(victim)},
        "writer": {
            "_target_": "dal.utils.safe_files.write_text_atomically",
            "path": {"_target_": "dal.export.Path", "args": str(victim)},
            "text": "",
        },
        "strategy": {"_target_": "dal.query.PredictionHistory", "folder": str(victim)},
        "oracle": {"_target_": "dal.oracles.FilesOracle", "folder": str(victim)},
    }


NAMES = list(attacks(Path("victim")))


def reachable() -> Iterator[tuple[str, Any]]:
    """Every name below the package, private ones and imported ones too, with what it stands for."""
    for info in pkgutil.walk_packages(dal.__path__, "dal."):
        module = importlib.import_module(info.name)
        yield from ((f"{info.name}.{name}", value) for name, value in vars(module).items())
    yield from ((f"dal.{name}", getattr(dal, name)) for name in (*vars(dal), *dal.__all__))


def public(parts: Iterable[str] = PUBLIC) -> list[Any]:
    names = dict.fromkeys(name for part in parts for name in PUBLIC[part])
    modules = map(importlib.import_module, names)
    return [getattr(module, name) for module in modules for name in module.__all__]


def test_every_reachable_name_is_public_or_refused() -> None:
    allowed, seen, found = public(), 0, set()
    for name, value in reachable():
        seen += 1
        try:
            assert find(name) is value
        except ValueError:
            continue
        assert any(value is known for known in allowed), name
        assert inspect.isclass(value) or inspect.isfunction(value), name
        found.add(value)
    assert seen > 1500
    assert {LeNet5, dal.data.mnist, dal.query.Entropy} <= found
    for value in found:
        assert value.__module__.startswith("dal.")
        assert not value.__module__.startswith("dal.utils.")
        takes = set(inspect.signature(value).parameters)
        assert not takes & {"allow", "plugins", "settings", "config", "make", "function"}, value


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("allow", [(), ("dal",), ("os", "dal.utils")])
def test_trust_in_packages_opens_nothing_of_dal_itself(name: str, allow: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="check the _target_"):
        find(name, allow=allow)


def test_parts_are_told_apart() -> None:
    for part, name in (("strategy", "dal.data.mnist"), ("model", "dal.query.Entropy")):
        with pytest.raises(ValueError, match=f"{name} may not be built: it is no public name of"):
            find(name, part)
    assert find("dal.query.uncertainty.Entropy", "strategy") is dal.query.Entropy


def test_trusted_packages_give_what_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they import for their own use is not theirs to give."""
    code = "from os import system\nfrom dal.models import MLP\nfrom dal.utils.build import build\n"
    code += "from math import sqrt\n__all__ = ['sqrt']\ndef own(): return 1\n"
    (tmp_path / "trusted_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    allow = ("trusted_package",)
    assert build({"_target_": "trusted_package.own"}, allow=allow) == 1
    assert find("trusted_package.sqrt", allow=allow)(4) == 2
    assert find("trusted_package.MLP", allow=allow) is dal.models.MLP
    for name in ("system", "build"):
        with pytest.raises(ValueError, match="only imports it; name the package it is from"):
            find(f"trusted_package.{name}", allow=allow)
    with pytest.raises(ValueError, match="outside the packages"):
        find("trusted_package_too.own", allow=allow)


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from targets(value)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: "/".join(path.parts[-2:])
)
def test_every_target_of_the_configuration_may_be_built(path: Path) -> None:
    part = path.relative_to(ROOT / "conf").parts[0]
    content = yaml.safe_load(path.read_text()) or {}
    content.pop("hydra", None)  # Hydra's own, which it builds itself
    for name in () if part == "cluster" else targets(content):
        assert find(name, part if part in PUBLIC else None)


def foreign_model(folder: Path, spec: Any, **others: Any) -> Path:
    """A whole ``model.pt`` that names whatever somebody wrote into it."""
    source = make_source(digits(size=28), seed=0)
    save_model(folder, LeNet5(source.input_shape, 10), LeNet5, source)
    checkpoint.save(folder / FILE, checkpoint.load(folder / FILE) | {"spec": spec, **others})
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_loading_a_foreign_model_executes_nothing(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    folder = foreign_model(tmp_path, attacks(victim)[name])
    for allow in ((), ("torchvision",)):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            dal.load(folder, allow=allow)
    assert not victim.exists()


def test_loading_a_foreign_model_reads_no_other_file(tmp_path: Path) -> None:
    """A fresh network would look for the file that it is to be fine-tuned from."""
    resnet = {"_target_": "dal.models.ResNet18", "weights": str(tmp_path / "missing.pt")}
    for spec, others in (
        (resnet, {"weights": LeNet5((1, 28, 28), 10).state_dict()}),
        ({"_target_": "dal.models.MLP", "hidden": resnet}, {}),
    ):
        with pytest.raises(ValueError, match="does not fit its model"):
            dal.load(foreign_model(tmp_path, spec, **others))
    state = checkpoint.load(foreign_model(tmp_path, resnet) / FILE)
    on = {"inputs": torch.zeros(2, 1), "targets": torch.arange(2), "weights": torch.ones(2)}
    state |= {"fitted_on": on | {"seed": 0}}
    del state["weights"]
    checkpoint.save(tmp_path / FILE, state)
    with pytest.raises(ValueError, match="which is no model for what it holds"):
        dal.load(tmp_path)


@pytest.mark.parametrize(
    "spec",
    [5, [], {}, {"_target_": 3}, {"_target_": "dal.models.Output"}, {"_target_": "dal.models.MLP"}],
)
def test_altered_models_are_one_line(tmp_path: Path, spec: Any) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        dal.load(foreign_model(tmp_path, spec))


@pytest.mark.parametrize(
    "spec",
    [
        {"_target_": "dal.models.MLP", "hidden": [50_000, 50_000]},
        {"_target_": "dal.models.MLP", "hidden": [2] * 1_000_000},
        {"_target_": "dal.models.TextTransformer", "layers": 10**9},
    ],
)
def test_networks_larger_than_their_weights_are_not_built(tmp_path: Path, spec: Any) -> None:
    others: dict[str, Any] = {}
    if spec["_target_"] == "dal.models.TextTransformer":
        others = {"vocab_size": 9, "input_shape": {"tokens": [8], "mask": [8]}}
    with pytest.raises(ValueError, match="larger network than it has weights for; restore it"):
        dal.load(foreign_model(tmp_path, spec, **others))


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["a"] * 10},
        {"class_names": list(range(10))},
        {"input_shape": [1, -28, 28]},
        {"input_shape": {"tokens": "x"}},
        {"vocab_size": 0},
        {"vocab_size": 2.5},
        {"recipe": 3},
    ],
)
def test_altered_facts_of_a_model_are_one_line_that_names_it(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    spec = {"_target_": "dal.models.LeNet5"}
    with pytest.raises(ValueError, match=r"^\S+/model\.pt does not fit its model[^\n]+$"):
        dal.load(foreign_model(tmp_path, spec, **change))


@pytest.mark.parametrize("model", public(("model",)))
def test_specs_that_runs_have_written_are_found(model: Any) -> None:
    """They name modules, as ``dal.models.lenet5.LeNet5``."""
    spec = spec_of(model) if inspect.isclass(model) or inspect.isfunction(model) else None
    assert spec is None or find(spec["_target_"], "model") is model


class Touch:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_files_with_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    checkpoint.save(tmp_path / FILE, {"spec": Touch(victim)})
    with pytest.raises(ValueError, match="something else than tensors"):
        dal.load(tmp_path)
    np.save(tmp_path / "round_0000.npy", np.array([Touch(victim)]), allow_pickle=True)
    with pytest.raises(DamagedError):
        dal.query.PredictionHistory.read(tmp_path)
    arguments = {"labels": np.arange(2), "inputs": np.array([Touch(victim)] * 2)}
    np.savez(tmp_path / "data.npz", **arguments)
    with pytest.raises(ValueError, match=r"data\.npz"):
        dal.data.npz(str(tmp_path / "data.npz"))
    assert not victim.exists()


@pytest.mark.parametrize("name", NAMES)
def test_features_of_a_foreign_run_execute_nothing(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    foreign = foreign_model(tmp_path, attacks(victim)[name])
    own = ("features=run", f"features.path={foreign}", f"features.cache_dir={tmp_path / 'cache'}")
    with pytest.raises((ValueError, TypeError)):
        execute(settings("data=digits", "data.size=28", "model=mlp", *own), tmp_path / "run")
    assert not victim.exists()


class Custom(LeNet5):
    """A network of a package of one's own."""


def test_features_trust_the_plugins_of_the_command(tmp_path: Path) -> None:
    foreign = foreign_model(tmp_path, {"_target_": f"{__name__}.Custom"})
    own = ("features=run", f"features.path={foreign}", f"features.cache_dir={tmp_path / 'cache'}")
    asked = settings("data=digits", "data.size=28", "model=mlp", *own)
    with pytest.raises(ValueError, match=f"add {__name__} to plugins"):
        execute(asked, tmp_path / "run")
    with pytest.raises(TypeError, match="no setting plugins"):
        execute(asked | {"features": asked["features"] | {"plugins": [__name__]}}, tmp_path / "run")
    execute(asked | {"plugins": [__name__]}, tmp_path / "run")
    assert (tmp_path / "run" / FILE).is_file()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    HydraConfig.instance().cfg = None
    folder = tmp_path_factory.mktemp("runs") / "run"
    execute(settings("data=iris", "model=mlp", "strategy=margin"), folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["model", "strategy", "data", "trainer", "features", "difficulty"])
def test_replaying_a_foreign_run_executes_nothing(
    tmp_path: Path, finished: Path, name: str, part: str
) -> None:
    victim, config = tmp_path / "victim", yaml.safe_load((finished / "config.yaml").read_text())
    attack = attacks(victim)[name]
    config |= {"plugins": ["os", "posix", "dal"], part: {"a": attack} if part == "pool" else attack}
    text = (finished / "config.yaml").read_text()
    try:
        (finished / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises((ValueError, TypeError, AttributeError)):
            Replay(finished)
    finally:
        (finished / "config.yaml").write_text(text)
    assert not victim.exists()


def test_replay_trusts_the_plugins_of_its_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, own = tmp_path / "run", {"_target_": f"{__name__}.Custom"}
    asked = settings("data=digits", "data.size=28", "strategy=margin")
    execute(asked | {"model": own, "plugins": [__name__]}, folder)
    with pytest.raises(ValueError, match=f"add {__name__} to plugins"):
        Replay(folder)
    assert [r.confirmed for r in Replay(folder, plugins=[__name__]).rounds()] == [5]
    arguments = ["replay.py", str(folder), "--against", "entropy", "--plugins", __name__]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(ROOT / "scripts" / "replay.py"), run_name="__main__")
    assert (folder / "replay" / "replay.md").is_file()


def test_reports_only_read(tmp_path: Path, finished: Path) -> None:
    victim = tmp_path / "victim"
    text = (finished / "config.yaml").read_text()
    evil = f"!!python/object/apply:os.system ['touch {victim}']"
    try:
        (finished / "config.yaml").write_text(f"{text}\nevil: {evil}\n")
        for script in ("report", "status"):
            out = ["--out", str(tmp_path / "out")] if script == "report" else []
            command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), str(finished), *out]
            done = completed(command, capture_output=True, text=True, check=False)
            assert "Traceback" not in done.stderr
    finally:
        (finished / "config.yaml").write_text(text)
    assert not victim.exists()


def test_nothing_is_read_by_pickle() -> None:
    """Every reader says so itself, whatever the defaults of the libraries are."""
    wanted = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
    for path in (ROOT / "dal").rglob("*.py"):
        text = path.read_text()
        for call, safe in wanted.items():
            for rest in text.split(f"{call}(")[1:]:
                assert safe in rest.partition("\n")[0] + rest.partition("\n")[2][:120], path
        for forbidden in ("pickle.load", "yaml.load(", "joblib.load", "eval(compile", "exec("):
            assert forbidden not in text, f"{path}: {forbidden}"
