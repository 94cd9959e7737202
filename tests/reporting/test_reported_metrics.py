"""Reports of the metrics that somebody wants to see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from scipy import stats
from written_runs import write_run

from dal.reporting.compare import areas, lines, needed, targets_of, wins
from dal.reporting.figures import panels_of
from dal.reporting.measures import is_share, measured, sign
from dal.reporting.records import RunError, read_run
from dal.reporting.report import Options, collect, write
from dal.reporting.tables import label_table, ordered


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    return folder


def with_column(folder: Path, column: str, values: Sequence[float]) -> Path:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row, value in zip(rows, values, strict=True):
        row[column] = value
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def with_headline(folder: Path, metric: str) -> Path:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"headline": metric}))
    return folder


LOSSES = {
    "margin": [(0.9, 0.5, 0.3), (0.8, 0.45, 0.33), (0.95, 0.5, 0.29)],
    "random": [(0.9, 0.7, 0.6), (0.8, 0.66, 0.61), (0.95, 0.71, 0.58)],
}


def losing(root: Path) -> None:
    """Margin has the lower loss and the lower accuracy."""
    for strategy, seeds in LOSSES.items():
        for seed, losses in enumerate(seeds):
            values = [0.5, 0.6, 0.6 if strategy == "margin" else 0.8]
            folder = write_run(root, strategy, seed, values)
            with_column(with_column(folder, "val/loss", losses), "test/macro_f1", values)


def test_lower_is_better_where_it_is(runs: Path) -> None:
    losing(runs)
    (group,) = collect([runs], Options(metrics=("val/loss",))).groups
    assert group.metric == "val/loss"
    assert ordered(group) == ["margin", "random"]
    assert panels_of(group, "random") == [["margin", "random"]]
    found = areas(group)
    means = {n: [100 * (a + 2 * b + c) / 4 for a, b, c in s] for n, s in LOSSES.items()}
    for name, values in means.items():
        assert list(found[name].values()) == pytest.approx(values)
    best, other = lines(group, "random", 0.5)
    assert (best.strategy, other.strategy) == ("margin", "random")
    assert best.gain is not None
    assert best.gain.mean < 0
    assert best.gain.p == pytest.approx(stats.ttest_rel(*means.values()).pvalue)
    assert wins([group]) == {("margin", "random"): 1.0, ("random", "margin"): 0.0}
    assert targets_of(group) == (0.6, 0.3)
    run = group.curves["margin"][0]
    assert [needed(run, value) for value in (0.9, 0.6, 0.3, 0.1)] == [10, 20, 30, float("inf")]
    table = label_table(group, "random", targets_of(group))
    assert "| labels to 0.6 | labels to 0.3 |" in table
    assert "| margin | 20, 33% saved | 30 (2 of 3) |" in table


def test_every_metric_has_sections_of_its_own(runs: Path, tmp_path: Path) -> None:
    losing(runs)
    options = Options(metrics=("test/macro_f1", "val/loss", "macro_f1"))
    collection = collect([runs], options)
    assert [group.metric for group in collection.groups] == ["macro_f1", "val/loss"]
    text = write(collection, tmp_path / "out", options).read_text()
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        "# Report",
        "## digits, mlp",
        "## digits, mlp: Validation loss",
        "## Wins",
        "## Wins: Validation loss",
    ]
    assert "\n\n6 runs. " in text
    assert "Test macro F1. 10 to 30 labels" in text
    assert "Validation loss, the lower the better. 10 to 30 labels" in text
    assert text.count("| strategy | seeds | area") == 2
    assert "| strategy | seeds | area × 100 |" in text
    figures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert {"wins.png", "wins-val_loss.png"} <= figures
    assert sum("val_loss" in name for name in figures) == 2
    stored = tmp_path / "out" / "results.csv"
    again = write(collect([stored], options), tmp_path / "again", options).read_text()
    same = text.index("Recall of")
    assert again[:same] == text[:same]
    assert (tmp_path / "again" / "results.csv").read_bytes() == stored.read_bytes()
    (group,) = collect([stored], Options()).groups
    assert group.metric == "macro_f1"
    assert not collect([stored, runs], options).left_out


def test_a_metric_that_no_run_has_is_an_error_that_names_those_there_are(
    runs: Path, tmp_path: Path
) -> None:
    losing(runs)
    with pytest.raises(RunError) as caught:
        collect([runs], Options(metrics=("macro_f1", "macro_f")))
    text = str(caught.value)
    assert text.startswith("no run shows test/macro_f: ")
    assert "there are test/accuracy, test/ece, test/loss, val/loss, test/macro_f1" in text
    assert "fit_s" not in text
    write(collect([runs], Options()), tmp_path / "out", Options())
    with pytest.raises(RunError, match=r"no run shows val/loss: .*there are test/accuracy"):
        collect([tmp_path / "out" / "results.csv"], Options(metrics=("val/loss",)))


def test_runs_without_the_metric_are_left_out_by_name(runs: Path) -> None:
    with_column(write_run(runs, "random", 0, [0.5, 0.6]), "test/map", [0.1, 0.2])
    odd = write_run(runs, "margin", 0, [0.5, 0.6])
    collection = collect([runs], Options(metrics=("map",)))
    assert [run.values for run in collection.runs] == [[0.1, 0.2]]
    (line,) = collection.left_out
    assert line.startswith(f"{odd} has no test/map; there are test/accuracy")


def test_a_run_shows_the_headline_that_it_chose(runs: Path) -> None:
    folder = with_column(write_run(runs, "random", 0, [0.5, 0.6]), "test/macro_f1", [0.1, 0.2])
    assert (read_run(folder).metric, read_run(folder).values) == ("accuracy", [0.5, 0.6])
    with_headline(folder, "macro_f1")
    assert (read_run(folder).metric, read_run(folder).values) == ("macro_f1", [0.1, 0.2])
    other = with_column(write_run(runs, "margin", 0, [0.5, 0.6]), "test/macro_f1", [0.1, 0.2])
    with pytest.raises(RunError) as caught:
        collect([runs], Options())
    shown = sorted([(str(folder), "Test macro F1"), (str(other), "Test accuracy")], reverse=True)
    assert all(f"{where} " in str(caught.value) for where, _ in shown)
    assert "give --metric test/" in str(caught.value)
    (group,) = collect([runs], Options(metrics=("macro_f1",))).groups
    assert set(group.curves) == {"random", "margin"}


def test_a_metric_beyond_its_range_is_damage(runs: Path) -> None:
    folder = with_column(write_run(runs, "random", 0, [0.5, 0.6]), "test/micro_f1", [0.1, 1.2])
    with pytest.raises(RunError, match=r"is damaged: 1\.2 at 20 labels is no metric in \[0, 1\]"):
        read_run(folder, "micro_f1")
    with_column(folder, "train/loss", [3.0, float("nan")])
    with pytest.raises(RunError, match=r"is damaged: nan at 20 labels is not finite"):
        read_run(folder, "train/loss")


def test_names_of_metrics() -> None:
    assert [measured(name) for name in ("macro_f1", "val/loss", "test/hamming_loss")] == [
        "Test macro F1",
        "Validation loss",
        "Test hamming loss",
    ]
    names = ("accuracy", "val/loss", "ece", "hamming_loss", "train/macro_f1")
    assert [sign(name) for name in names] == [1, -1, -1, -1, 1]
    assert [is_share(name) for name in names] == [True, False, True, True, True]
