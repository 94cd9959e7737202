"""Every conf/data file names a data function and gives each of its parameters its default."""

import inspect
import sys
from pathlib import Path

import pytest
import yaml
from waiting import completed

import dal.data
from dal.utils.build import build

CONF = Path(__file__).parents[2] / "conf" / "data"
FILES = sorted(CONF.glob("*.yaml"))
INTERPOLATED = {
    "root": "${data_dir}",
    "seed": "${seed}",
    "path": "???",
    "cache_dir": '${oc.env:DAL_CACHE_DIR,"~/.cache/dal"}',
}
WRITTEN = {inspect.Parameter.empty: "???", (): []}
"""How YAML writes what a default is."""
OPTIONS = {("encoder", "model"): None}
"""What the options build that are chosen below a data set."""
OF_THE_RUN = "known"
"""A parameter that is no setting: what the run itself recorded."""


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def function_of(config):
    return getattr(dal.data, config["_target_"].removeprefix("dal.data."))


def test_configs_cover_every_data_function():
    targets = {function_of(read(path)) for path in FILES}
    functions = {
        value
        for name in dal.data.__all__
        if inspect.isfunction(value := getattr(dal.data, name))
        and inspect.signature(value).return_annotation == "Dataset"
    }
    assert targets == functions


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_keys_and_defaults_equal_signature(path):
    config = read(path)
    parameters = inspect.signature(function_of(config)).parameters
    expected = {
        name: INTERPOLATED.get(name, WRITTEN.get(p.default, p.default))
        for name, p in parameters.items()
        if name != OF_THE_RUN
    }
    chosen = {pair[0]: OPTIONS[pair] for pair in chosen_of(config)}
    own = {key: value for key, value in config.items() if key not in ("_target_", "defaults")}
    assert own | chosen == expected


def chosen_of(config):
    return [pair for one in config.get("defaults", ()) for pair in one.items()]


def test_options_below_data_build_the_defaults_they_stand_for():
    for (group, option), value in OPTIONS.items():
        assert build(read(CONF / group / f"{option}.yaml"), "data") == value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_starts_with_a_comment_and_has_no_package_line(path):
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert len(first) <= 100
    assert not any(line.startswith("#") for line in rest)
    assert "@package" not in first


def test_importing_data_leaves_heavy_packages_alone():
    code = (
        "import sys, dal.data; "
        "print([m for m in ('sklearn', 'torchvision', 'scipy', 'hydra') if m in sys.modules])"
    )
    run = completed(
        [sys.executable, "-c", code],
        cwd=CONF.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
