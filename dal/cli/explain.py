"""What exceptions of Hydra and of its launchers mean, for whoever gave the command."""

from __future__ import annotations

import os
import re
import subprocess
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dal.cli.folders import file_of

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable of Hydra: with 1, it lets exceptions through and prints none itself."""

_INSIDES = re.compile(
    r" {4}(full_key|object_type|reference_type)|To append to your|See https://hydra"
)
_IN_FILE = re.compile(r"In '([^']+)': \w+ raised while composing config:\n(.*)", re.DOTALL)


_MISSING = re.compile(r"Could not find 'hydra/launcher/(joblib|submitit)")

EXTRA = (
    "jobs in other processes take dal's extra `cluster`: pip install hydra-joblib-launcher "
    "hydra-submitit-launcher submitit"
)


@contextmanager
def exceptions_come_through() -> Iterator[bool]:
    """Have Hydra raise what it would print; gives whether the user asked for that, as a traceback.

    Those of launchers it would print as a traceback, whatever they mean.
    """
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield before == "1"
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def explain(error: Exception, folders: Sequence[Path]) -> str | None:
    """Fact and remedy of what stopped Hydra; None for what nobody foresaw.

    Args:
        error: What Hydra raised.
        folders: Where the options are.
    """
    if file_error := in_file(error, folders):
        return file_error
    if isinstance(error, HydraException):
        if launcher := _MISSING.search(str(error)):
            return f"error: {launcher[1]} is not installed; {EXTRA}"
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else ""
        return "error: " + in_one_line(f"{error}\n{cause}")
    if isinstance(error, OmegaConfBaseException):
        return f"error: {_with_key(str(error))}; correct this setting"
    if isinstance(error, ValueError) and _raised_within("hydra", error):
        return f"error: {in_one_line(str(error))}; correct the command"
    if isinstance(error, BrokenExecutor):
        codes = re.search(r"\{(.*)\}", str(error))
        return (
            f"error: a worker process was killed{f' ({codes[1]})' if codes else ''}, most often "
            "because memory ran out; lower hydra.launcher.n_jobs, the number of processes, and "
            "run the same command again: every run goes on where it was"
        )
    if isinstance(error, OSError) and error.filename:  # those of runs have ended in words already
        return (
            f"error: the folder {error.filename} cannot be made ({error.strerror}); set saved_dir, "
            "and hydra.run.dir or hydra.sweep.dir where you have set them, to folders that you may "
            "write to"
        )
    return _of_submitit(error) if type(error).__module__.startswith("submitit") else None


def in_file(error: Exception, folders: Sequence[Path]) -> str | None:
    """The same for an error that lies in a file of the configuration, else None."""
    remedy = "mend the file and run the same command again"
    if isinstance(error, YAMLError):
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        if mark is None or problem is None:
            places = " or ".join(map(str, folders))
            return f"error: a file in {places} is no YAML: {error}; {remedy}"
        return f"error: {mark.name}, line {mark.line + 1}: {problem}; {remedy}"
    # Hydra's error of an option that is not there is an OSError as well.
    if isinstance(error, OSError | UnicodeError) and not isinstance(error, HydraException):
        own = [path for folder in folders[1:] for path in sorted(folder.rglob("*.yaml"))]
        files = [path for f in folders[:1] for path in sorted(f.glob("local/*.yaml"))] + own
        bad = [path for path in files if _unreadable(path)]
        return f"error: {bad[0]}: {error}; {remedy}" if bad else None
    found = _IN_FILE.match(str(error)) if isinstance(error, HydraException) else None
    if found is None:
        return None
    path = file_of(folders, found[1]) or folders[0] / f"{found[1]}.yaml"
    fact = _with_key(found[2])
    if "with ListConfig" in fact:
        fact = "it holds a list, and settings (key: value) belong there"
    return f"error: {path}: {fact}; {remedy}"


def in_one_line(text: str) -> str:
    """Hydra's message with the options it lists, without its own insides and advice."""
    text = text.partition("\nConfig search path:")[0]
    lines = [line.rstrip(". ") for line in text.splitlines() if not _INSIDES.match(line)]
    options = ", ".join(line.strip() for line in lines if line[:1] == "\t")
    facts = "; ".join(line for line in lines if line.strip() and line[:1] != "\t")
    facts = re.sub(r"^Error merging override ([^;]*);", r"\1:", facts)
    if facts.startswith("Could not override"):
        facts += "; --help lists the settings"
    if "override_grammar" in text:
        facts += "; check the brackets, quotes and commas of the command"
        if not facts.isascii():
            facts += "; words with letters other than a to z need quotes, as in "
            facts += "'data.text=\"Gr\u00f6\u00dfe\"'"
    return f"{facts} {options}".strip()


def _raised_within(package: str, error: Exception) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and package in Path(frames[-1].filename).parts


def _unreadable(path: Path) -> bool:
    try:
        OmegaConf.load(path)
    except (OSError, UnicodeError):
        return True
    except YAMLError:
        pass  # another error, of a file that nobody has asked for
    return False


def _of_submitit(error: Exception) -> str:
    cause = error.__cause__
    if isinstance(cause, subprocess.CalledProcessError):
        said = " ".join(str(cause.stderr).split()) or f"exit code {cause.returncode}"
        return (
            f"error: {cause.cmd[0]} refused the jobs: {said}; mend hydra.launcher in "
            "conf/local/slurm.yaml (see docs/cluster.md) and run the same command again"
        )
    fact = str(error).partition("\n")[0]
    return (
        f"error: {fact}; look into multirun/.submitit of saved_dir for what the job said, and run "
        "the same command again when the others have ended: every run goes on where it was"
    )


def _with_key(text: str) -> str:
    """OmegaConf's message in one line: the fact, and the key that it is about."""
    fact = text.partition("\n")[0].strip()
    key = re.search(r"full_key: (\S+)", text)
    return f"{fact} ({key[1]})" if key and key[1] not in fact else fact
