"""What is said at the end of a run: the table of rounds, reports of classes, what is left to do."""

from __future__ import annotations

from pathlib import Path

from dal.runs.loop import Result

REPORT = "report.txt"
"""Holds the report of classes where it is too long to be printed."""
MOST_CLASSES = 40
"""Of more classes than this the report at the end of a run shows the worst only."""
_WORST = 10


def summary(result: Result, run_dir: Path) -> str:
    """The table of rounds, the area under the curve, the classification report, and what next."""
    task = result.job.task
    name = task.headline_name
    lines = ["", f"{'round':>5}  {'labels':>7}  {f'test {name}':>13}  {'seconds':>8}"]
    for row in result.rows:
        seconds = sum(value for name, value in row.items() if name.endswith("_s"))
        value = row[f"test/{task.headline}"]
        lines.append(f"{row['round']:>5}  {row['labels']:>7}  {value:>13.4f}  {seconds:>8.1f}")
    last = result.rows[-1]
    if last["trained_on"] != last["labels"]:
        lines.append(f"labels are those paid for; the last model learned from {last['trained_on']}")
    if last["validation_labels"]:
        lines.append(f"labels without the {last['validation_labels']} of the validation split")
    lines += ["", f"area under the learning curve ({name} over labels): {result.aubc:.4f}", ""]
    assert result.job.state.confusion is not None
    names = result.job.source.class_names
    text = task.report(result.job.state.confusion, names)
    if len(names) > MOST_CLASSES:
        if (directory := result.job.recorder.directory) is not None:
            directory.write(REPORT, text)
        text = shortened(text, len(names), run_dir / REPORT)
    lines.append(text)
    for name, text in task.besides.items():
        lines.append(f"{f'{text}:':<47} {last[f'test/{name}']:.4f}")
    lines += [""] * bool(task.besides)
    lines += [f"run directory: {run_dir}", f"look at it:    tensorboard --logdir {run_dir.parent}"]
    if todo(result, run_dir):
        lines.append(f"waiting for labels{todo(result, run_dir)}")
    return "\n".join(lines)


def headline(result: Result) -> str:
    """How a run ended and what its last model is worth, in one line."""
    task, last = result.job.task, result.rows[-1]
    value = last[f"test/{task.headline}"]
    ended = f"{result.status}: {result.reason}"
    return f"{ended}, {last['labels']} labels, test {task.headline_name} {value:.4f}"


def todo(result: Result, run_dir: Path) -> str:
    """What a run that waits for labels needs; empty for one that does not."""
    if result.status != "waiting":
        return ""
    ticket = (result.job.state.pending or {}).get("ticket", {})
    if "file" not in ticket:  # an oracle that asks in another way
        return ": run the same command again when they are given"
    return f": fill in {run_dir / 'queries' / str(ticket['file'])} and run the same command again"


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
