"""The page of a run of one's own: what it shows, and what it refuses in one line."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from html_found import Found

from dal.cli.gallery import main, planned_run
from dal.gallery.kept import KeptRun, part_of
from dal.gallery.of_run import Options, plane_section, write_run_page
from dal.runs.from_config import execute

CONF = Path(__file__).parents[2] / "conf"


def made(folder: Path, settings: str) -> Path:
    run = planned_run(CONF, [*settings.split(), f"saved_dir={folder}", "threads=1"])
    execute(run.config, run.run_dir)
    return run.run_dir


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    iris = "data=iris strategy=margin initial.count=6 query_size=2 budget=6 figures=false"
    digits = "data=digits model=mlp strategy=instability initial.count=20 query_size=5 budget=10"
    return {
        "models": made(folder / "a", f"{iris} model=svm keep_models=true"),
        "both": made(
            folder / "d", f"{iris} model=svm keep_models=true query_size=1 strategy=instability"
        ),
        "nothing": made(folder / "b", f"{iris} model=knn"),
        "pictures": made(
            folder / "c", f"{digits} keep_history=true trainer.epochs=3 model.hidden=[8]"
        ),
    }


def page_of(run_dir: Path, folder: Path, **options: object) -> Found:
    path = write_run_page(run_dir, folder, Options(**options))  # type: ignore[arg-type]
    found = Found(path.read_text())
    assert all((path.parent / name).is_file() for name in found.pictures)
    return found


def test_pictures_of_digits_are_sheets_with_guesses(runs: dict[str, Path], tmp_path: Path) -> None:
    found = page_of(runs["pictures"], tmp_path)
    names = {*found.pictures}
    assert {"curve.png", "map_pca.png", "pca_plane.png", "picks_0000.png"} <= names
    assert sum(name.startswith("sample_") for name in names) == 3
    assert "Only the last model" in found.text


def test_tables_are_listed_and_models_predict_again(runs: dict[str, Path], tmp_path: Path) -> None:
    run = KeptRun(runs["models"])
    history = run.history()
    assert history is not None
    assert history.rounds == [0, 1, 2, 3]
    (index, _, target), *_ = run.picks[1]
    assert history.of_sample(index).isnan().all(1).tolist() == [False, False, True, True]
    found = page_of(runs["models"], tmp_path, how="tsne")
    assert {"map_tsne.png", "pca_plane.gif"} <= {*found.pictures}
    assert "guess" in found.text
    assert run.source.target_name(target) in found.text


def test_models_predict_again_where_the_last_rounds_alone_were_kept(runs: dict[str, Path]) -> None:
    assert len([*(runs["both"] / "history").glob("round_*.npy")]) < 6
    history = KeptRun(runs["both"]).history()
    assert history is not None
    assert history.rounds == [0, 1, 2, 3, 4, 5, 6]


def test_events_are_numbered_anew() -> None:
    numbers = [(5, None), (90, None), (5, 0), (90, 1), (5, 2)]
    events = [{"index": index, "supersedes": earlier} for index, earlier in numbers]
    found = part_of(events, lambda event: event["index"] < 50)
    assert [event["supersedes"] for event in found] == [None, 0, 1]


def test_pages_of_made_samples_streams_and_guesses_are_made(tmp_path: Path) -> None:
    quick = "data=moons data.n_samples=80 initial.count=6 query_size=2 budget=6 keep_models=true"
    for name, options in {
        "made": "model=knn strategy=random setting=synthesis setting.how=between",
        "stream": "model=knn strategy=margin setting=stream",
        "guesses": "model=naive_bayes strategy=margin cooperative=fixed cooperative.weight=1",
    }.items():
        found = page_of(made(tmp_path / name, f"{quick} {options}"), tmp_path / f"{name}_page")
        assert {"plane.png", "pca_plane.png", "map_pca.png"} <= {*found.pictures}
        assert ("curve_over_seen.png" in found.pictures) == (name == "stream")
        assert "3 of 3 rounds, up to 16 picks each" in found.text


def test_made_samples_are_picks_numbered_as_in_the_run(tmp_path: Path) -> None:
    run_dir = made(
        tmp_path, "data=moons data.n_samples=80 initial.count=6 query_size=2 budget=4 seed=1 "
        "model=knn strategy=random setting=synthesis setting.how=between"
    )  # fmt: skip
    with (run_dir / "queries.csv").open() as file:
        expected = [(int(row["index"]), int(row["sample"])) for row in csv.DictReader(file)]
    run = KeptRun(run_dir)
    indices = [pick[0] for picks in run.picks.values() for pick in picks]
    numbers = run.source.train.original(torch.tensor(indices))
    assert list(zip(indices, numbers, strict=True)) == expected
    assert int(run.source.train.positions.max()) < 79  # the last sample is in another part
    found = page_of(run_dir, tmp_path / "page")
    assert "60 of 60 samples" in found.text


def test_a_guess_is_no_label(tmp_path: Path) -> None:
    run_dir = made(
        tmp_path, "data=iris initial.count=6 query_size=2 budget=4 model=naive_bayes "
        "strategy=margin cooperative=fixed cooperative.weight=1 figures=false keep_models=true"
    )  # fmt: skip
    run = KeptRun(run_dir)
    answered = {event["index"] for event in run.events if event["origin"] != "pseudo"}
    guessed = {event["index"] for event in run.events if event["origin"] == "pseudo"}
    (number,) = run.source.train.original(torch.tensor([min(guessed - answered)]))
    found = page_of(run_dir, tmp_path / "page", samples=(number,))
    assert f"Sample {number}, not labeled" in found.text


def test_models_of_the_plane_predict_samples_that_lie_in_it(runs: dict[str, Path]) -> None:
    run = KeptRun(runs["models"])
    (picture, *_) = plane_section(run).parts
    assert "%" in getattr(picture, "caption", "")


def test_a_run_without_kept_predictions_says_so(runs: dict[str, Path], tmp_path: Path) -> None:
    found = page_of(runs["nothing"], tmp_path)
    assert (
        "kept no predictions of several rounds; make the run with keep_history=true" in found.text
    )
    with pytest.raises(ValueError, match=r"kept no predictions .* keep_history=true") as error:
        page_of(runs["nothing"], tmp_path, samples=(3,))
    assert "\n" not in str(error.value)


def test_samples_are_named_as_people_know_them(runs: dict[str, Path], tmp_path: Path) -> None:
    number = int(KeptRun(runs["models"]).source.train.positions[5])
    found = page_of(runs["models"], tmp_path, samples=(number,))
    assert f"sample_{number}.png" in found.pictures
    with pytest.raises(ValueError, match="--sample 100000: the training part of iris has no such"):
        page_of(runs["models"], tmp_path, samples=(100000,))


def test_a_thousand_classes_are_no_regions(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = KeptRun(runs["models"])
    names = tuple(f"class {c}" for c in range(1000))
    many = torch.arange(len(run.source.train)) % 1000
    source = run.source.__class__("many", run.source.train.with_targets(many), None, None, names)
    monkeypatch.setattr(KeptRun, "source", source)
    (text,) = plane_section(run).text
    assert text == "Left out: many has 1000 classes, and the plane shows up to 20."


@pytest.mark.parametrize(
    ("harm", "fact"),
    [
        ("no run", "holds no run"),
        ("config", "config.yaml is damaged"),
        ("ledger", "ledger.jsonl"),
        ("models", "round_0001.pt is damaged"),
    ],
)
def test_damaged_runs_are_refused_in_one_line(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: str,
    fact: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["models"], folder)
    if harm == "no run":
        shutil.rmtree(folder)
    elif harm == "config":
        (folder / "config.yaml").write_text("a: [")
    elif harm == "ledger":
        (folder / "ledger.jsonl").write_text("no ledger\n")
        shutil.rmtree(folder / "checkpoints")
    else:
        path = folder / "models" / "round_0001.pt"
        path.write_bytes(path.read_bytes()[:-10])
    monkeypatch.setattr("sys.argv", ["dal gallery", str(folder), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main()
    assert str(end.value.code).startswith("error: ")
    assert fact in str(end.value.code)
    assert "\n" not in str(end.value.code)
    assert not (tmp_path / "out").exists()
