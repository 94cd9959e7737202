"""What is said at the end of a run: the table of rounds, reports of classes, what is left to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dal.recording.words import AUDIT, audit_words
from dal.runs.loop import Result

REPORT = "report.txt"
"""Holds the report of classes where it is too long to be printed."""
MOST_CLASSES = 40
"""Of more classes than this the report at the end of a run shows the worst only."""
_WORST = 10


def summary(result: Result, run_dir: Path) -> str:
    """The table of rounds, the area under the curve, the classification report, and what next."""
    lines = [*_table(result), *_quality(result, run_dir)] if result.rows else [""]
    lines += [f"run directory: {run_dir}", f"look at it:    tensorboard --logdir {run_dir.parent}"]
    if todo(result, run_dir):
        lines.append(f"waiting for labels{todo(result, run_dir)}")
    return "\n".join(lines)


def _table(result: Result) -> list[str]:
    """One line a round, and what its labels are."""
    source = result.job.source
    key, name = source.headline, f"{source.measured} {source.task.headline_name}"
    if not key and AUDIT in result.rows[-1]:
        key, name = AUDIT, "audit accuracy"
    elif not key:
        key, name = "train/accuracy", "train accuracy"
    width = max(13, len(name))
    lines = ["", f"{'round':>5}  {'labels':>7}  {name:>{width}}  {'seconds':>8}"]
    for row in result.rows:
        seconds = sum(value for name, value in row.items() if name.endswith("_s"))
        value = f"{row[key]:.4f}" if key in row else ""
        line = f"{row['round']:>5}  {row['labels']:>7}  {value:>{width}}  {seconds:>8.1f}"
        if key == AUDIT and key in row:
            line += f"  ({row['audit/low']:.2f} to {row['audit/high']:.2f})"
        lines.append(line)
    last = result.rows[-1]
    if last["trained_on"] != last["labels"]:
        lines.append(f"labels are those paid for; the last model learned from {last['trained_on']}")
    if source.validation_of_labels:
        held_out = last["validation_labels"]
        lines.append(f"{held_out} of the last labels were held out to validate on")
    elif last["validation_labels"]:
        lines.append(f"labels without the {last['validation_labels']} of the validation split")
    if source.appended:
        several = "s" * (source.appended > 1)
        lines.append(f"{source.appended} sample{several} came after the run had begun")
    return [*lines, ""]


def _quality(result: Result, run_dir: Path) -> list[str]:
    """What the models are worth, as far as there are samples to tell by."""
    source, task, last = result.job.source, result.job.task, result.rows[-1]
    lines = []
    if source.measured:
        over = f"{task.headline_name} over labels"
        over += "" if source.measured == "test" else ", on the validation part"
        lines += [f"area under the learning curve ({over}): {result.aubc:.4f}", ""]
    if result.job.state.confusion is None:
        return [*lines, f"there is no test part: {_untested(source.measured, last)}", ""]
    names = source.class_names
    text = task.report(result.job.state.confusion, names)
    if len(names) > MOST_CLASSES:
        if (directory := result.job.recorder.directory) is not None:
            directory.write(REPORT, text)
        text = shortened(text, len(names), run_dir / REPORT)
    lines.append(text)
    for name, text in task.besides.items():
        if f"test/{name}" in last:  # runs of earlier versions have fewer
            lines.append(f"{f'{text}:':<47} {last[f'test/{name}']:.4f}")
    if not task.exclusive:
        lines.append(f"a label is predicted above a probability of {_thresholds(last)}")
    return lines + [""] * bool(task.besides)


def _thresholds(row: Mapping[str, Any]) -> str:
    """Where the last model draws the line between a label and none."""
    fitted = (row.get("thresholds") or {}).values()
    if not fitted:
        return "one half (thresholds=half)"
    return f"its own, {min(fitted):.2f} to {max(fitted):.2f} (thresholds=fitted)"


def headline(result: Result) -> str:
    """How a run ended and what its last model is worth, in one line."""
    source, ended = result.job.source, f"{result.status}: {result.reason}"
    if not result.rows:
        return f"{ended}, before its first labels"
    last = result.rows[-1]
    value = f"{last[source.headline]:.4f}" if source.measured else ""
    shown = f"{source.measured} {source.task.headline_name} {value}" if value else ""
    return f"{ended}, {last['labels']} labels, {shown or audit_words(last) or 'not tested'}"


def _untested(measured: str, row: Mapping[str, Any]) -> str:
    """What is known of a model without a test part."""
    if AUDIT in row:
        low, high = row["audit/low"], row["audit/high"]
        return (
            f"{row['audit/labels']} labels that no model learned from say that the last one is "
            f"right about {low:.1%} to {high:.1%} of what was there to choose from at the start "
            "(95 % confidence, for each model by itself)"
        )
    if measured:
        return "nothing above was measured on samples that no decision was made by"
    return "how good these models are on new samples is not known"


def todo(result: Result, run_dir: Path) -> str:
    """What a run that waits for labels needs; empty for one that does not."""
    if result.status != "waiting":
        return ""
    state = result.job.state
    asked = [state.pending] if state.pending else [e for e in state.tickets if e["open"]]
    tickets = [entry.get("ticket", {}) for entry in asked] or [{}]
    if "where" in tickets[0]:
        return f": give them at {tickets[0]['where']} and run the same command again"
    if "file" not in tickets[0]:  # an oracle that asks in another way
        return ": run the same command again when they are given"
    files = [str(ticket["file"]) for ticket in tickets if "file" in ticket]
    rest = f" (and {', '.join(files[1:])} beside it)" if files[1:] else ""
    return f": fill in {run_dir / 'queries' / files[0]}{rest} and run the same command again"


def shortened(report: str, classes: int, path: Path) -> str:
    """A report with the classes of the lowest F1 only, and where all of them stand.

    Args:
        report: As scikit-learn writes it: two lines of head, one line a class, averages.
        classes: How many classes there are.
        path: The file that holds it as a whole.
    """
    lines = report.splitlines()
    head, body, averages = lines[:2], lines[2 : 2 + classes], lines[2 + classes :]
    f1 = [float(line.split()[-2]) for line in body]
    worst = sorted(range(classes), key=f1.__getitem__)[:_WORST]
    note = f"the {_WORST} of {classes} classes with the lowest F1; all of them: {path}"
    return "\n".join([*head, *(body[c] for c in worst), *averages, "", note, ""])
