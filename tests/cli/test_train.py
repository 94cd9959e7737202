import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from waiting import completed

from dal.cli import config
from dal.utils.lock import RunLock

ROOT = Path(__file__).parents[2]
SMALL = (
    "data=iris",
    "model=logistic_regression",
    "strategy=margin",
    "query_size=5",
    "budget=10",
    "trainer.epochs=3",
    "batch_size=64",
    "figures=false",
)
FILES = {
    "checkpoints",
    "config.yaml",
    "curve.png",
    "env.json",
    "metrics.jsonl",
    "model.pt",
    "queries.csv",
    "status.json",
    "tb",
    "train.log",
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "saved"


@pytest.fixture
def cli(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """Runs a command line in this process."""
    monkeypatch.setenv("DAL_SAVED_DIR", str(saved))
    monkeypatch.setenv("DAL_DATA_DIR", str(saved.parent / "data"))
    loggers = [logging.getLogger(name) for name in (None, "hydra")]
    levels = [(logger, logger.level, list(logger.handlers)) for logger in loggers]

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        monkeypatch.setattr(config.Jobs, "begun", 0)
        monkeypatch.setattr(config.Jobs, "failed", False)
        GlobalHydra.instance().clear()
        code: Any = 0
        capsys.readouterr()
        try:
            config.main(ROOT / "conf")
        except SystemExit as end:
            code = end.code or 0
        shown = capsys.readouterr()
        if isinstance(code, str):  # the interpreter writes it, and ends with 1
            return Ended(1, shown.out, f"{shown.err}{code}\n")
        return Ended(code, shown.out, shown.err)

    yield run
    GlobalHydra.instance().clear()
    for logger, level, handlers in levels:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def only(saved: Path) -> Path:
    (run_dir,) = [path for path in saved.iterdir() if path.name != "multirun"]
    return run_dir


def status(run_dir: Path) -> dict[str, Any]:
    return dict(json.loads((run_dir / "status.json").read_text()))


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of every round, but for measured seconds."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if not k.endswith("_s")} for x in lines]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder of run directories after one small run, and what the run said."""
    saved = tmp_path_factory.mktemp("finished")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr("sys.argv", ["train.py", *SMALL, "figures=true", f"saved_dir={saved}"])
        patch.setattr(config.Jobs, "begun", 0)
        GlobalHydra.instance().clear()
        config.main(ROOT / "conf")
        GlobalHydra.instance().clear()
    return saved, Ended(0, said.getvalue(), "")


@pytest.fixture
def complete(finished: tuple[Path, Ended], saved: Path) -> Path:
    """A copy of the finished run, where the command line of this test finds it."""
    shutil.copytree(finished[0], saved)
    return only(saved)


def test_run_leaves_its_files_and_shows_a_table(finished: tuple[Path, Ended]) -> None:
    saved, ended = finished
    run_dir = only(saved)
    assert {path.name for path in run_dir.iterdir()} >= FILES
    assert not list(run_dir.rglob("*.tmp"))
    assert status(run_dir)["status"] == "complete"
    assert status(run_dir)["reason"] == "budget"
    assert [row["labels"] for row in rows(run_dir)] == [20, 25, 30]
    queries = (run_dir / "queries.csv").read_text().splitlines()
    assert queries[0] == "round,index,score,label,sample"
    assert len(queries) == 11
    assert len({line.split(",")[1] for line in queries[1:]}) == 10
    for text in ("round   2 |", "test accuracy", "area under", "versicolor", "macro avg"):
        assert text in ended.out
    assert str(run_dir) in ended.out
    assert "complete: budget" in (run_dir / "train.log").read_text()


def test_same_command_says_complete_without_torch(complete: Path, saved: Path) -> None:
    before = files(complete)
    code = (
        "import sys; sys.argv = ['train.py', *sys.argv[1:]]; from pathlib import Path\n"
        "from dal.cli.config import main\n"
        "try: main(Path('conf'))\n"
        "finally: print('torch' in sys.modules)\n"
    )
    environment = os.environ | {"DAL_SAVED_DIR": str(saved), "PYTHONPATH": str(ROOT)}

    def outside(*arguments: str) -> str:
        command = [sys.executable, "-c", code.replace("'conf'", repr(str(ROOT / "conf")))]
        done = completed(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "False"
        return done.stdout

    assert "complete already: 30 labels, test accuracy 0." in outside(*SMALL)
    assert "strategy: activelab, alfa_mix, badge" in outside("--help")
    assert files(complete) == before


def test_lowered_budget_reports_completion_and_deletes_nothing(cli: Cli, complete: Path) -> None:
    before = files(complete)
    ended = cli(*SMALL, "budget=5")
    assert ended.code == 0
    assert "complete already" in ended.out
    assert files(complete) == before


def test_raised_budget_goes_on_and_keeps_the_first_rounds(cli: Cli, complete: Path) -> None:
    before, queries = rows(complete), (complete / "queries.csv").read_text()
    assert cli(*SMALL, "budget=14").code == 0
    after = rows(complete)
    assert [row["labels"] for row in after] == [20, 25, 30, 34]
    assert after[:2] == before[:2]
    assert {k: after[2][k] for k in before[2]} == before[2]
    assert (complete / "queries.csv").read_text().startswith(queries)


def test_extended_run_equals_one_with_that_budget_from_the_start(
    cli: Cli, complete: Path, saved: Path, tmp_path: Path
) -> None:
    cli(*SMALL, "budget=14")
    cli(*SMALL, "budget=14", f"saved_dir={tmp_path / 'whole'}")
    assert rows(complete) == rows(only(tmp_path / "whole"))


def test_emptied_pool_ends_the_run_complete(cli: Cli, saved: Path) -> None:
    ended = cli(*SMALL, "budget=5000", "query_size=50")
    assert ended.code == 0
    assert status(only(saved))["reason"] == "pool_exhausted"
    assert rows(only(saved))[-1]["labels"] == 105
    assert "complete already" in cli(*SMALL, "budget=6000", "query_size=50").out


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (
            ["--help"],
            [
                "strategy: activelab, alfa_mix, badge",
                "trainer/optimizer: adam",
                "query_size: 10",
                "-m",
            ],
        ),
        (
            ["--help", "strategy=kmeans", "trainer=lbfgs"],
            ["strategy.iterations: 25 ", "# at most how many improvements", "trainer.l2: 1.0 "],
        ),
        (["--cfg", "job", "strategy=margin"], ["dal.query.Margin", "budget: 200"]),
    ],
)
def test_help_and_settings_are_shown_and_nothing_is_made(
    cli: Cli, saved: Path, arguments: list[str], texts: list[str]
) -> None:
    ended = cli(*arguments)
    assert ended.code == 0
    assert [text for text in texts if text not in ended.out] == []
    assert not saved.exists()


def test_threads_wait_without_spinning_unless_the_user_says_otherwise(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, found in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
        if given is None:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        assert cli("--cfg", "job").code == 0
        assert os.environ["OMP_WAIT_POLICY"] == found


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (["stopping=[stabilizing],[plateau]"], "stopping=[stabilizing] and stopping=[plateau]"),
        (["seed=0,1", "budget=20,30", "cluster=local"], "budget=20 and budget=30"),
        (["seed=0,1", "replicas=2"], "seed=0 and seed=1"),
        (["strategy=margin,random", "replica_strategies=[bald]"], ""),
        (["seed=0,0"], "equal jobs"),
    ],
)
def test_jobs_of_a_sweep_that_share_a_run_are_refused_before_the_first(
    cli: Cli, saved: Path, arguments: list[str], jobs: str
) -> None:
    ended = cli("-m", *SMALL, *arguments)
    check_refused(ended, f"{jobs} of this sweep would work in one run directory, ", "saved_dir")
    assert not saved.exists()


def test_sweep_goes_on_after_a_failed_job_and_ends_with_code_1(cli: Cli, saved: Path) -> None:
    ended = cli("-m", *SMALL, "max_rounds=0", "initial.count=20,5000,21")
    assert ended.code == 1
    ends = {status(p)["status"]: p for p in saved.iterdir() if (p / "status.json").is_file()}
    assert set(ends) == {"complete", "failed"}
    assert len([p for p in saved.iterdir() if (p / "status.json").is_file()]) == 3
    assert "ValueError: initial.count=5000" in status(ends["failed"])["reason"]
    assert "Traceback" in (ends["failed"] / "train.log").read_text()
    assert "Traceback" not in (ends["complete"] / "train.log").read_text()
    said, lines = ended.out.splitlines()[:-3], ended.out.splitlines()[-3:]
    table = [line.split() for line in lines]
    assert [row[1] for row in table] == ["complete", "failed", "complete"]
    assert "Traceback" not in ended.err
    assert table[1][2] == str(ends["failed"])
    names = [f"margin s0 initial.count={count}" for count in (20, 5000, 21)]
    assert said[0].startswith(f"[{names[0]}] complete: max_rounds, 20 labels, test accuracy 0.")
    assert re.fullmatch(r".* test accuracy 0\.\d{4}, \d+\.\d s", said[0])
    assert said[1].startswith(f"[{names[1]}] error: initial.count=5000 but only 105")
    assert said[2].startswith(f"[{names[2]}] complete: max_rounds, 21 labels, test accuracy 0.")
    assert said[3:] == []
    assert re.search(rf"  {names[0]}: 20 labels, test accuracy 0\.\d{{4}}$", lines[0])
    assert "round   0 |" in (ends["complete"] / "train.log").read_text()


def archive(folder: Path, **changes: Any) -> Path:
    arrays = {
        "inputs": np.random.default_rng(0).normal(size=(100, 3)).astype("float32"),
        "targets": np.arange(100) % 2,
    }
    path = folder / "mine.npz"
    np.savez(path, **(arrays | changes))
    return path


def check_refused(ended: Ended, fact: str, remedy: str) -> None:
    """One clear error on the console, with fact and remedy and without a traceback."""
    text = ended.out + ended.err
    assert ended.code == 1, text
    assert fact in text
    assert remedy in text
    assert "Traceback" not in text
    assert ended.out.count("error:") <= 1


@pytest.mark.parametrize(
    ("arguments", "fact", "remedy"),
    [
        (["strategy=instabilty"], "Could not find 'strategy/instabilty'", "strategy=instability?"),
        (["strategy.windw=3"], "Key 'windw' is not in struct", "did you mean strategy.window=3?"),
        (["trainer/optimizer=adamm"], "Could not find", "did you mean trainer/optimizer=adam?"),
        (["budgt=3"], "Key 'budgt'", "did you mean budget=3?"),
        (["seed=abc"], "Value 'abc'", "Integer"),
        (["seed=1.5"], "Value '1.5'", "Integer"),
        (["query_size=ten"], "Value 'ten'", "Integer"),
        (["plugins=mine"], "plugins", "list"),
        (["seed=nan"], "error: seed=nan: Value 'nan'", "Integer"),
        (["seed=null"], "error: seed=null: field 'seed'", "not Optional"),
        (["nonsense=3"], "Could not override 'nonsense'", "--help lists the settings"),
        (
            ["strategy=foo"],
            "Could not find 'strategy/foo'",
            "in 'strategy': activelab, alfa_mix, ",
        ),
        (["replica_strategies=[foo]"], "error: replica_strategies has foo: In 'config'", "badge, "),
        (["--resolve"], "--resolve flag can only be used", "correct the command"),
        (["seed=" + "9" * 6000], "6000 digits", "correct the command"),
        (["budget=5", "-m", "seed=0,1", "strategy=foo"], "Could not find 'strategy/foo'", "badge"),
        (["data.name=Größe"], "data.name=Größe", """quotes, as in 'data.text="Größe"'"""),
        (["trainer.epochs=[1"], "no viable alternative at input '[1'", "check the brackets"),
    ],
)
def test_settings_that_do_not_compose_are_refused(
    cli: Cli, saved: Path, arguments: list[str], fact: str, remedy: str
) -> None:
    ended = cli(*arguments)
    check_refused(ended, fact, remedy)
    lines = ended.err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True] + [False] * (len(lines) - 1)
    assert all(line.startswith("did you mean ") for line in lines[1:])
    assert not saved.exists()


@pytest.mark.parametrize(
    ("arguments", "fact", "remedy"),
    [
        (["query_size=0"], "query_size=0", "at least 1"),
        (["budget=0"], "budget=0", "at least 1"),
        (["budget=-5"], "budget=-5", "at least 1"),
        (["max_rounds=-1"], "max_rounds=-1", "0 (fit once) or more"),
        (["threads=0"], "threads=0", "at least 1"),
        (["threads=100000"], "threads=100000", "at most"),
        (["batch_size=0"], "batch_size=0", "at least 1"),
        (["save_every=0"], "save_every=0", "at least 1"),
        (["initial.count=0"], "initial.count=0", "at least 1"),
        (["initial=fraction", "initial.fraction=nan"], "initial.fraction=nan", "positive number"),
        (["initial=fraction", "initial.fraction=inf"], "initial.fraction=inf", "positive number"),
        (["split.validation=abc"], "validation=abc", "a fraction between 0 and 1"),
        (["split.kind=halves"], "'halves' is unknown", "merged"),
        (["device=cuda:7"], "device=cuda:7 is not there", "there is cpu"),
        (["strategy=instability", "strategy.window=1"], "window=1", "at least 2"),
        (["strategy=instability", "strategy.window=abc"], "window='abc'", "of type int"),
        (["+strategy.foo=3"], "has no setting foo", "it takes"),
        (["model=mlp", "model.hidden=5"], "hidden=5", "Sequence"),
        (["trainer.epochs=1.5"], "epochs=1.5", "of type int"),
        (["trainer.optimizer.lr=0"], "trainer.optimizer.lr=0", "positive"),
        (["trainer.optimizer.lr=fast"], "lr='fast'", "of type float"),
        (["trainer.optimizer=adam"], "trainer.optimizer='adam'", "trainer/optimizer=adam"),
        (["trainer/scheduler=step", "trainer.scheduler.every=0"], "every=0", "at least 1"),
        (["trainer.early_stopping.mode=best"], "mode='best'", "min or max"),
        (["trainer.early_stopping.mode=max"], "would keep the worst epoch", "set min"),
        (["trainer.batch_size=99999999999999999999"], "trainer.batch_size=9999", "at most"),
        (["trainer/optimizer=sgd", "trainer.optimizer.momentum=5"], "momentum=5", "below 1"),
        (["trainer.early_stopping.min_delta=inf"], "early_stopping.min_delta=inf", "0 or more"),
        (["strategy._target_=os.system"], "os.system is outside", "plugins"),
        (["strategy._target_=dal.query.Nope"], "there is no dal.query.Nope", "_target_"),
        (["difficulty=noisy", "difficulty.noisy.rate=2"], "difficulty.noisy.rate=2", "below 1"),
        (["+data.foo=1"], "has no setting foo", "it takes"),
        (["initial.count=null"], "nothing given", "exactly one"),
        (["features=torchvision", "features.dtype=int8"], "features.dtype='int8'", "float16"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    cli: Cli, saved: Path, arguments: list[str], fact: str, remedy: str
) -> None:
    check_refused(cli(*SMALL, *arguments), fact, remedy)
    assert not saved.exists()


def test_replicas_are_refused_among_several_processes(
    cli: Cli, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    fact = "replicas share one process, and torchrun has started several"
    check_refused(cli(*SMALL, "replicas=2"), fact, "without torchrun")
    assert not saved.exists()


def test_bad_settings_leave_the_run_that_they_would_go_on_with(cli: Cli, complete: Path) -> None:
    before = files(complete)
    check_refused(cli(*SMALL, "budget=50", "batch_size=0"), "batch_size=0", "at least 1")
    assert files(complete) == before


@pytest.mark.parametrize(
    ("arguments", "fact", "remedy"),
    [
        (["initial.count=5000"], "only 105", "lower it"),
        (["split.validation=5000"], "5000", "ask for fewer"),
        (["model=mlp", "model.hidden=[]"], "needs a hidden layer", "logistic_regression"),
        (["model=mlp", "model.hidden=[0]"], "model.hidden=[0]", "at least 1"),
        (["model=resnet18"], "takes images", "(4,)"),
        (["model=lenet5"], "28 or 32 pixels", "choose another model"),
        (["trainer.early_stopping.monitor=val/loss"], "split is empty", "split.validation=0.1"),
        (["trainer.early_stopping.monitor=loss"], "is not logged", "train/loss"),
        (["model=mlp", "trainer.optimizer.lr=1e38", "trainer.epochs=30"], "loss became", "lower"),
        (["data=npz", "data.path=/nowhere/mine.npz"], "/nowhere/mine.npz", "does not exist"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_with_fact_and_remedy(
    cli: Cli, saved: Path, arguments: list[str], fact: str, remedy: str
) -> None:
    check_refused(cli(*SMALL, *arguments), fact, remedy)
    run_dir = only(saved)
    assert status(run_dir)["status"] == "failed"
    assert fact in status(run_dir)["reason"]
    assert "Traceback" in (run_dir / "train.log").read_text()


@pytest.mark.parametrize(
    "arguments",
    [["saved_dir=/tmp/" + 300 * "x"], ["hydra.run.dir=/etc/passwd"], ["saved_dir=/etc/passwd"]],
)
@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_folders_that_cannot_be_made_are_one_line(
    cli: Cli, sweep: list[str], arguments: list[str]
) -> None:
    if sweep:
        arguments = [a.replace("hydra.run", "hydra.sweep") for a in arguments]
    ended = cli(*sweep, *SMALL, *arguments)
    check_refused(ended, arguments[0].partition("=")[2][:40], "set saved_dir")
    assert (ended.out + ended.err).count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"targets": np.full(100, -1)}, "no labels"),
        ({"targets": np.arange(99) % 2}, "99"),
        ({"targets": np.eye(100)}, "argmax"),
        ({"inputs": np.full((100, 3), np.nan)}, "NaN"),
        ({"inputs": np.zeros((100, 2, 2, 2, 2))}, "shape"),
        ({"inputs": np.zeros((0, 3))}, "empty"),
    ],
)
def test_bad_arrays_are_refused_naming_the_file(
    cli: Cli, tmp_path: Path, changes: dict[str, Any], fact: str
) -> None:
    path = archive(tmp_path, **changes)
    ended = cli(*SMALL, "data=npz", f"data.path={path}")
    check_refused(ended, fact, path.name if "targets" not in changes else "")


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_corrupt_data_file_is_named(cli: Cli, tmp_path: Path, content: bytes | None) -> None:
    path = archive(tmp_path)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    check_refused(cli(*SMALL, "data=npz", f"data.path={path}"), str(path), "")


def test_failed_download_says_which_files_to_bring(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("urllib.request.urlretrieve", offline)
    ended = cli(*SMALL, "data=cifar10")
    check_refused(ended, "could not download CIFAR-10", "put cifar-10-python.tar.gz into")


def test_unwritable_place_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = cli(*SMALL, f"saved_dir={tmp_path / 'file'}")
    check_refused(ended, "cannot write in the run directory", "set saved_dir")


def test_second_process_is_refused_and_writes_nothing(cli: Cli, complete: Path) -> None:
    with RunLock(complete):
        before = files(complete)
        ended = cli(*SMALL, "budget=30")
        check_refused(ended, "another process works in", "wait for it, or stop it")
        assert "train.log" not in ended.out
        assert files(complete) == before


def test_changed_data_are_refused_and_the_run_is_kept(
    cli: Cli, saved: Path, tmp_path: Path
) -> None:
    arguments = [*SMALL, "data=npz", f"data.path={archive(tmp_path)}"]
    assert cli(*arguments).code == 0
    before = rows(only(saved))
    archive(tmp_path, targets=np.arange(100) // 50)
    check_refused(cli(*arguments, "budget=12"), "have changed", "restore them")
    assert rows(only(saved)) == before


def test_run_that_failed_goes_on_when_the_mistake_is_mended(
    cli: Cli, saved: Path, tmp_path: Path
) -> None:
    command = [*SMALL, "data=npz", f"data.path={tmp_path / 'mine.npz'}"]
    assert cli(*command).code == 1
    archive(tmp_path)
    assert cli(*command).code == 0
    assert status(only(saved))["status"] == "complete"


def test_threads_of_this_process_are_given_back(cli: Cli) -> None:
    before = torch.get_num_threads()
    assert cli(*SMALL, "threads=2", "max_rounds=0").code == 0
    assert torch.get_num_threads() == before


def test_one_epoch_is_counted_in_good_grammar(cli: Cli) -> None:
    assert "| fit 1 epoch, " in cli(*SMALL, "max_rounds=0", "trainer.epochs=1").out


@pytest.mark.parametrize(
    "arguments", [["strategy=nothing"], ["-m", "seed=0,1", "strategy=nothing"]]
)
def test_folder_of_a_sweep_outside_is_left_alone(
    arguments: list[str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "00000.json").write_text("[]")
    monkeypatch.setenv("DAL_SWEEP_OUTCOMES", str(outside))
    assert cli(*arguments).code == 1
    assert files(outside) == {"00000.json": b"[]"}
    assert not list(tmp_path.glob("saved/**/.outcomes/*"))


def test_same_command_writes_a_removed_model_again(cli: Cli, complete: Path) -> None:
    model, before = complete / "model.pt", rows(complete)
    content = model.read_bytes()
    model.unlink()
    assert cli(*SMALL).code == 0
    assert model.read_bytes() == content
    assert rows(complete) == before
    assert status(complete)["status"] == "complete"
    assert "complete already" in cli(*SMALL).out


def test_epoch_of_the_highest_accuracy_is_kept(cli: Cli, saved: Path) -> None:
    assert cli(*SMALL, "trainer.early_stopping.monitor=train/accuracy", "max_rounds=0").code == 0
    assert "mode: max" in (only(saved) / "config.yaml").read_text()


def test_samples_arrive_as_lines_of_a_file_or_of_the_standard_input(
    cli: Cli, saved: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "new.csv"
    lines.write_text("".join(f"{n / 8 - 2},{n % 5 - 2}\n" for n in range(40)) + "1,x\n")
    stream = ["data=two_gaussians", "setting=stream", "setting.manager.share=0.5"]
    ended = cli(*SMALL, *stream, f"setting.arrivals={lines}", "figures=true")
    assert ended.code == 0
    assert status(only(saved))["reason"] == "budget"
    assert (only(saved) / "arrived").is_dir()
    ended = cli(*SMALL, *stream, "setting.arrivals=-")  # which is empty
    assert ended.code == 1
    assert "setting.arrivals: no sample arrived before the end" in ended.out
