from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

from dal.cli.config import compose
from dal.cli.schema import VERSION, choices_of, composed
from dal.data import UNKNOWN, Source, digits, initial_by_strategy, make_source
from dal.data.initial import ColdStart, start_of
from dal.data.source import Split
from dal.query import KMeans, Margin, MaxHerding, ProbCover, Random, Strategy, TypiClust
from dal.runs.from_config import execute

STRATEGIES = [TypiClust(), KMeans("cosine"), MaxHerding(), ProbCover()]


def clusters(known: bool = True) -> Source:
    """Six clusters of very different sizes, each a class."""
    sizes = torch.tensor([200, 100, 60, 40, 30, 20])
    targets = torch.arange(6).repeat_interleave(sizes)
    rng = torch.Generator().manual_seed(0)
    inputs = torch.eye(6)[targets] * 8 + torch.randn(450, 6, generator=rng)
    split = Split.of(inputs, targets if known else torch.full_like(targets, UNKNOWN))
    return Source("clusters", split, split, None, tuple("abcdef"))


CONF = Path(__file__).parents[2] / "conf"


def settings(overrides: list[str]) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(compose(CONF, overrides), resolve=True)
    GlobalHydra.instance().clear()
    return config


def start(source: Source, strategy: Strategy, count: int = 6, seed: int = 0) -> Tensor:
    found = start_of(partial(initial_by_strategy, strategy=strategy, count=count), source, seed)
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_as_many_samples_as_there_are_clusters_meet_every_class(strategy: Strategy) -> None:
    source = clusters()
    for seed in range(3):
        found = start(source, strategy, seed=seed)
        assert found.dtype == torch.int64
        assert torch.equal(found, found.unique())
        assert sorted(source.train.targets[found].tolist()) == list(range(6))
        assert torch.equal(start(source, strategy, seed=seed), found)


def test_no_label_is_looked_at() -> None:
    source = clusters()
    other = replace(source, train=source.train.with_targets(source.train.targets.flip(0)))
    assert torch.equal(start(source, TypiClust()), start(other, TypiClust()))


def test_only_known_samples_are_chosen_where_there_are_such() -> None:
    source = clusters()
    targets = source.train.targets.clone()
    targets[::2] = UNKNOWN
    found = start(replace(source, train=source.train.with_targets(targets)), KMeans(), 20)
    assert len(found) == 20
    assert bool((found % 2 == 1).all())


def test_people_are_asked_about_the_chosen_ones_where_none_is_known() -> None:
    make = partial(initial_by_strategy, strategy=TypiClust(), count=6)
    cold = start_of(make, clusters(known=False), 0)
    assert isinstance(cold, ColdStart)
    assert cold.per_class is None
    assert torch.equal(cold.indices, start(clusters(), TypiClust()))


def test_samples_that_came_late_are_not_chosen() -> None:
    source = replace(clusters(), appended=100)
    found = start(source, Random(), 350)
    assert found.tolist() == list(range(350))


def test_what_chooses_nothing_is_refused() -> None:
    source = clusters()
    with pytest.raises(ValueError, match=r"initial\.count=451 but there are 450 samples whose"):
        start(source, TypiClust(), 451)
    with pytest.raises(ValueError, match=r"initial\.count=0"):
        start(source, TypiClust(), 0)
    with pytest.raises(ValueError, match=r"initial\.strategy=Margin needs Probs\(\)"):
        start(source, Margin())
    with pytest.raises(TypeError, match="no strategy"):
        start(source, "typiclust")  # type: ignore[arg-type]


def test_pixels_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(start(make_source(digits(), seed=0), KMeans(), 5)) == 5
    assert "chosen by pixels" in caplog.text


@pytest.mark.parametrize("option", ["typiclust", "centroids", "herding", "probcover"])
def test_runs_start_so(option: str, tmp_path: Path) -> None:
    given = ["data=wine", "model=knn", "strategy=margin", f"initial={option}", "initial.count=7"]
    result = execute(settings([*given, "max_rounds=0"]), tmp_path / "run")
    assert result.rows[-1]["labels"] == 7


def test_a_setting_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    given = ["data=wine", "model=knn", "initial=typiclust", "strategy@initial.strategy=margin"]
    with pytest.raises(ValueError, match=r"initial\.strategy=Margin"):
        execute(settings([*given, "strategy=margin"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_option_names_a_run_once() -> None:
    names = []
    for given in (["initial=typiclust"], ["initial=typiclust", "initial.strategy.neighbors=9"], []):
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONF), **VERSION):
            config, chosen = composed(["data=wine", "model=knn", "strategy=margin", *given])
            names.append(choices_of(config, chosen))
    GlobalHydra.instance().clear()
    assert names[0].options == names[2].options | {"initial": "typiclust"}
    assert names[0].values == names[2].values
    assert names[1].values == {"initial.strategy.neighbors": 9}
