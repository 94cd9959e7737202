"""Label on a page in the browser what a run waits for, and let it go on: ``dal label saved/RUN``.

The run goes on with its own settings in the same process: it asks a round, trains, asks the next.
What was answered before, in a file or in Label Studio, counts. Ctrl-C ends it with its state saved,
and the same command goes on.
"""

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from dal.cli.folders import config_dir


def main() -> None:
    """Let the run go on.

    Raises:
        SystemExit: With code 1 after an error, 128 + the signal's number after a signal.
    """
    given = _parser().parse_args()
    from dal.cli.running import PAGE, run_alone
    from dal.settings import PlannedRun
    from dal.utils.logs import log_to_console

    try:
        config, settings = _settings(given.run, given.settings)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
    config["plugins"] = list(given.plugins)
    own = config["oracle"].get("_target_") == PAGE
    config |= {"oracle": settings} if own else {}
    with log_to_console():
        run_alone(PlannedRun("", config, given.run), sweep=False, oracle=None if own else settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        help="of the page, such as guess=true port=8000; dal train oracle=page --help lists them",
    )
    plugins = "packages besides dal that the run may name"
    parser.add_argument("--plugins", nargs="*", default=[], help=plugins)
    return parser


def _settings(run: Path, given: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a run, and those of the page that it shall be labeled on.

    Raises:
        ValueError: There is no such run, or a setting has no value that can be read.
        TypeError: The page has no such setting, or it is of another type.
    """
    import yaml

    from dal.cli.running import PAGE
    from dal.runs.replay import config_of  # the first import of torch
    from dal.utils.build import TARGET, factory

    config = config_of(run)
    usual = yaml.safe_load((config_dir() / "oracle" / "page.yaml").read_text())
    own = config["oracle"] if config["oracle"].get("_target_") == PAGE else {}
    settings = {**usual, **own}
    for pair in given:
        key, equals, text = pair.removeprefix("oracle.").partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is no setting; give it as key=value, such as guess=true")
        if key not in usual or key == TARGET:  # the rest is the run's own, such as its classes
            close = difflib.get_close_matches(key, usual, 1)
            listed = ", ".join(name for name in usual if name != TARGET)
            remedy = f"did you mean {close[0]}?" if close else f"it takes {listed}"
            raise TypeError(f"the page has no setting {key}; {remedy}")
        try:
            settings[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            fact = str(error).splitlines()[0]
            raise ValueError(f"{pair!r} has no value that can be read ({fact})") from None
    factory(settings, "oracle")  # refuses what it does not know
    return config, settings
