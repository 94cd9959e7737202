"""The page for a lecture: every strategy has its sentence, all runs their pictures."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from html_found import Found

from dal.cli.config import strategy_settings
from dal.cli.folders import options
from dal.cli.gallery import main, planned_run
from dal.gallery.lecture import RUNS, Shown, Told, files, principal_plane, write_lecture
from dal.gallery.sheet import PICKS, Scene, choices_of_all, words
from dal.gallery.why import WHY
from dal.query import Entropy, Random
from dal.runs.looking import is_field
from dal.settings import PlannedRun
from dal.utils.signals import PreemptedError

CONF = Path(__file__).parents[2] / "conf"
NAMES = [name for name in options([CONF], "strategy") if "/" not in name]
SOME = ("badge", "density", "entropy", "hyperplane", "instability", "multilabel_margin", "random")


def test_every_strategy_of_one_class_a_sample_has_a_sentence() -> None:
    assert set(NAMES) == {*WHY, *(name for name in NAMES if name.startswith("multilabel_"))}
    for sentence in WHY.values():
        assert sentence[0].isupper()
        assert sentence[-1] == "."
        assert len(sentence) < 150


def test_sheet_shows_what_strategies_pick_of_one_pool() -> None:
    found, left_out = choices_of_all({name: strategy_settings([CONF], name) for name in SOME})
    assert [chosen.name for chosen in found] == sorted({*SOME} - {"multilabel_margin"})
    assert "multilabel" in left_out["multilabel_margin"]
    for chosen in found:
        assert len(set(chosen.query.indices.tolist())) == PICKS
    assert len({chosen.tile.shape for chosen in found}) == 1
    assert len({chosen.tile.tobytes() for chosen in found}) == len(found)


def test_scene_is_the_same_for_all_and_entropy_picks_at_the_boundary() -> None:
    scene = Scene.made()
    first, again = scene.chosen("entropy", Entropy()), scene.chosen("entropy", Entropy())
    assert torch.equal(first.query.indices, again.query.indices)
    scores = first.query.pool_scores
    assert scores is not None
    assert first.query.scores.min() >= scores.topk(PICKS).values.min()
    assert not is_field(Random())


def test_sentences_are_lines_that_fit() -> None:
    short, long = words("A sentence."), words("word " * 100)
    assert short.shape == long.shape
    assert (long != short).any()
    assert (short[:, -4:] == 255).all()


@pytest.mark.parametrize("told", RUNS, ids=lambda told: told.title)
def test_commands_of_the_page_compose(told: Told, tmp_path: Path) -> None:
    for shown in told.runs:
        run = planned_run(CONF, [*shown.settings.split(), f"saved_dir={tmp_path}"])
        assert run.run_dir.parent == tmp_path


def lecture(folder: Path, told: tuple[Told, ...], strategies: tuple[str, ...]) -> Found:
    def plan(overrides: list[str]) -> PlannedRun:
        return planned_run(CONF, [*overrides, f"saved_dir={folder / 'runs'}"])

    settings = {name: strategy_settings([CONF], name) for name in strategies}
    said: list[str] = []
    page = write_lecture(folder, settings, plan, said.append, told)  # type: ignore[arg-type]
    assert len(said) == 1 + sum(len(each.runs) for each in told)
    found = Found(page.read_text())
    assert found.pictures
    assert all((folder / name).stat().st_size > 1000 for name in found.pictures)
    return found


def test_page_has_all_its_pictures_and_commands(tmp_path: Path) -> None:
    quick = "data=moons data.n_samples=60 model=knn initial.count=4 query_size=2 budget=4"
    told = Told(
        "Quick",
        ("Text.",),
        (
            Shown(f"{quick} strategy=margin", files(plane_png="Panels.", plane_gif="Frames.")),
            Shown(f"{quick} strategy=random keep_models=true", principal_plane),
        ),
    )
    found = lecture(tmp_path, (told,), ("random", "entropy"))
    assert {"strategies.png", "02_1_plane.png", "02_1_plane.gif", "02_2_pca_plane.png"} <= {
        *found.pictures
    }
    assert f"dal train {quick} strategy=margin" in found.text
    assert WHY["entropy"] in found.text


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (PreemptedError(signal.SIGTERM), 143, "ended by SIGTERM; run the same command to go on\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_signal_ends_the_command_with_a_line(
    end: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ended(*_: object) -> None:
        raise end

    monkeypatch.setattr("sys.argv", ["dal gallery"])
    monkeypatch.setattr("dal.gallery.lecture.write_lecture", ended)
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == code
    assert capsys.readouterr().err == said


@pytest.mark.slow
def test_whole_page_is_made_in_minutes(tmp_path: Path) -> None:
    found = lecture(tmp_path, RUNS, tuple(NAMES))
    assert len(found.pictures) > 10
