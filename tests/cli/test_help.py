"""``--help`` says something about every setting, and is Hydra's in how it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from dal.cli import help
from dal.cli.config import compose

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("data", "model", "strategy", "trainer", "oracle", "committee", "initial", "features")
OPTIONS = [
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for group in GROUPS
    for path in sorted((CONF / group).rglob("*.yaml"))
]


def lines(*overrides: str) -> list[str]:
    """What the help says of the settings, a line each."""
    text = help.text(compose(CONF, overrides, whole=True), [CONF])
    return text.partition("\n\nseed: ")[2].splitlines()


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAL_DATA_DIR", "/where/data/are")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_setting_of_an_option_has_a_comment(option: str) -> None:
    group, _, name = option.partition("=")
    key = group.replace("/", ".")
    where = ["data=goemotions"] if group == "data/encoder" else []  # of texts alone
    own = [line for line in lines(*where, option) if line.startswith((f"{key}:", f"{key}."))]
    assert own[0].startswith(f"{key}: {name} ")
    assert [line for line in own if " # " not in line] == []


def test_every_plain_setting_and_pool_option_has_a_comment() -> None:
    found = lines("difficulty=[imbalanced,noisy,ood,repeated]", "data@difficulty.ood.data=mnist")
    assert [line for line in found if " # " not in line] == []
    assert any(line.startswith("difficulty.noisy.rate: 0.1  ") for line in found)
    assert any(line.startswith("difficulty.ood.data: mnist  ") for line in found)
    assert "difficulty.ood.data.root: /where/data/are # where the files are" in "\n".join(found)


def test_settings_are_those_of_the_command_line() -> None:
    found = "\n".join(lines("experiment=iris_demo", "strategy=power_bald", "strategy.beta=2.5"))
    for setting, comment in (
        ("strategy: power_bald", "drawn without replacement by weights"),
        ("strategy.score: bald", "H(mean p) - mean H(p)"),
        ("strategy.beta: 2.5", "coldness"),
        ("query_size: 1", "labels asked"),
        ("experiment: iris_demo", "A first look"),
    ):
        assert f"\n{setting:<40} # {comment}" in found
    assert "_target_:" not in found


def test_groups_are_listed_with_what_they_are() -> None:
    text = help.text(compose(CONF, [], whole=True), [CONF])
    assert "\ncommittee: dropout, ensemble, rounds  # who the members are" in text
    of_rate = (
        "trainer/scheduler: constant, cosine, milestones, step  # how the learning rate changes"
    )
    assert f"\n{of_rate}" in text
    assert "\nexperiment/strategies: batchbald, fashion_mnist, mnist  # a whole set of" in text
    without = [group for group, _, comment in help.listed([CONF]) if not comment]
    assert without == []
    assert "local" not in [line.partition(":")[0] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["--help"], True),
        (["strategy=badge", "-h"], True),
        (["--help", "-m", "seed=0,1"], True),
        (["seed=1"], False),
        (["--help", "--config-dir", "mine"], True),
        (["--help", "--config-dir=mine"], True),
        (["--help", "--config-name", "mine"], False),
        (["--hydra-help"], False),
    ],
)
def test_help_that_is_asked_otherwise_is_left_to_hydra(arguments: list[str], ours: bool) -> None:
    assert help.asked(arguments) is ours


def test_help_of_a_sweep_is_that_of_its_first_job() -> None:
    arguments = ["--help", "-m", "strategy=badge,bald", "difficulty=[noisy,ood]", "seed=3"]
    assert help.overrides(arguments) == ["strategy=badge", "difficulty=[noisy,ood]", "seed=3"]
    assert isinstance(compose(CONF, help.overrides(arguments), whole=True), DictConfig)
