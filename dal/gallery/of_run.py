"""The page of a run of one's own: its picks, a map of its pool, predictions, its plane."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dal.data.source import Split
from dal.events import GUESSES
from dal.gallery.kept import BLOCK, KeptRun
from dal.gallery.page import Picture, Section, Table, write_page
from dal.gallery.projection import MOST_POINTS, How, Pca, map_of, spread, unrest
from dal.learners import RoundContext
from dal.query import Features, PredictionHistory
from dal.recording.figures import canvas, integer_axis, prediction_history, to_pixels
from dal.recording.palette import GREY
from dal.recording.pictures import captioned, end_of
from dal.recording.plane import (
    MOST_CLASSES,
    SIDE,
    TILE,
    Frame,
    Window,
    gif,
    image,
    legend,
    model_tile,
    panels,
    png,
)
from dal.utils.numerics import own_threads

MOST_ROUNDS, MOST_PICKS, MOST_UNSTABLE = 12, 16, 3
KEPT = "make the run with keep_history=true or keep_models=true to see this"
_LONG = 120


@dataclass(frozen=True)
class Options:
    """What the page shows.

    Attributes:
        samples: Numbers of samples, as people know them, whose predictions are drawn; none for
            those that changed the most.
        how: How the map is made.
        of: What the map is of.
        plugins: Packages besides ``dal`` that the run may name.
    """

    samples: Sequence[int] = ()
    how: How = "pca"
    of: Literal["features", "inputs"] = "features"
    plugins: Sequence[str] = ()


def write_run_page(run_dir: Path, folder: Path, options: Options) -> Path:
    """Make the page of a run.

    Args:
        run_dir: A run that has ended.
        folder: Where the page goes.
        options: What it shows.

    Returns:
        The page.

    Raises:
        ValueError: There is no such run or sample, the run is going on, or a file is damaged.
        OSError: A file cannot be written.
    """
    with own_threads():
        run = KeptRun(run_dir, options.plugins)
        torch.set_num_threads(run.parts.settings.threads or torch.get_num_threads())
        history = run.history()
        sections = [
            own_pictures(run),
            unstable_section(run, history, options.samples),
            picks_section(run, history),
            map_section(run, options.how, options.of),
            plane_section(run),
        ]
    shown = [section for section in sections if section.parts or section.text]
    return write_page(folder, run.name, (f"{run.source.name}: {run.value(_last(run))}.",), shown)


def own_pictures(run: KeptRun) -> Section:
    """What the run has drawn itself."""
    names = {
        "curve.png": "The learning curve.",
        "curve_over_seen.png": "The same over the samples that have arrived.",
        "plane.png": "The plane: models above, scores below.",
        "plane.gif": "The plane as an animation.",
    }
    paths = [(run.run_dir / name, caption) for name, caption in names.items()]
    parts = [Picture(p.name, p.read_bytes(), caption) for p, caption in paths if p.is_file()]
    return Section("The run", (), parts)


def unstable_section(
    run: KeptRun, history: PredictionHistory | None, samples: Sequence[int]
) -> Section:
    """Predictions of single samples over the rounds: figure 1 of the paper on instability.

    Raises:
        ValueError: Samples are asked for that there are not, or the run kept no predictions.
    """
    title = "One sample over the rounds"
    if history is None or len(history.rounds) < 2:
        reason = f"{run.name} kept no predictions of several rounds; {KEPT}"
        if samples:
            raise ValueError(reason)
        return Section(title, (f"Left out: {reason}.",))
    if samples:
        chosen = [_index_of(run, number) for number in samples]
        text = "Predictions of the samples that were asked for."
    else:
        blocks = torch.split(torch.arange(len(run.source.train)), BLOCK)
        moved = torch.cat([unrest(history.of_samples(block)) for block in blocks])
        chosen = moved.argsort(descending=True, stable=True)[:MOST_UNSTABLE].tolist()
        text = (
            "The samples whose predictions moved the most: the sum over rounds of half the "
            "absolute differences. A line ends where its sample was labeled."
        )
    parts = [_history_picture(run, history, index) for index in chosen]
    return Section(title, (text,), parts)


def picks_section(run: KeptRun, history: PredictionHistory | None) -> Section:
    """What each round asked for, with guess, label and score."""
    numbers = list(run.picks)
    shown = [numbers[place] for place in spread(len(numbers), MOST_ROUNDS)]
    parts = [_sheet(run, history, number) for number in shown]
    text = f"{len(shown)} of {len(numbers)} rounds, up to {MOST_PICKS} picks each, in their order."
    text += "" if history is not None else f" Guesses are left out: {KEPT}."
    return Section("What was picked", (text,), parts)


def map_section(run: KeptRun, how: How, of: str) -> Section:
    """The pool in the plane, with the picks in the color of their round."""
    title, train = "A map of the pool", run.source.train
    places = {pick[0]: number for number, picks in run.picks.items() for pick in picks}
    picked = torch.tensor(list(places), dtype=torch.int64)
    others = torch.arange(len(train))
    others = others[~torch.isin(others, picked)]
    room = max(MOST_POINTS[how] - len(picked), 0)
    rng = torch.Generator().manual_seed(0)
    others = others[torch.randperm(len(others), generator=rng)[:room]]
    indices = torch.cat([others, picked])
    if len(indices) < 3:
        return Section(title, ("Left out: there are fewer than three samples.",))
    if of != "inputs" and Features not in run.learner.capabilities and not run.in_numbers:
        return Section(title, ("Left out: the model gives no features, and inputs are words.",))
    rows, what = run.features(indices, of == "inputs")
    at = map_of(rows, how)
    rounds = list(places.values())
    name = {"pca": "principal components", "tsne": "t-SNE"}[how]
    content = _map_picture(at[: len(others)], at[len(others) :], rounds, name)
    total = len(train) + int((picked >= len(train)).sum())  # with those that were made or arrived
    caption = f"{name} of the {what}: {len(indices)} of {total} samples."
    text = "Each dot is a sample; colored ones were picked, the later the lighter."
    return Section(title, (text,), (Picture(f"map_{how}.png", content, caption),))


def plane_section(run: KeptRun) -> Section:
    """What the models say in the plane of the first two principal components of the inputs."""
    title, source = "The plane of two principal components", run.source
    if source.num_classes > MOST_CLASSES or not source.task.exclusive:
        fact = f"{source.num_classes} classes" if source.task.exclusive else "several labels"
        return Section(
            title,
            (f"Left out: {source.name} has {fact}, and the plane shows up to {MOST_CLASSES}.",),
        )
    spec = source.train.input_shape
    if isinstance(spec, dict) or not run.in_numbers or math.prod(spec) < 2:
        return Section(title, ("Left out: the inputs are no points with two or more numbers.",))
    train = source.train
    rng = torch.Generator().manual_seed(0)
    some = torch.randperm(len(train), generator=rng)[: MOST_POINTS["pca"]]
    rows = run.prepared(some)
    pca = Pca.of(rows)
    points = pca.project(rows).float()
    window = Window.around(points)
    numbers: Sequence[int | None] = [
        list(run.models)[place] for place in spread(len(run.models), MOST_ROUNDS)
    ] or [None]
    grid = pca.back(window.grid()).float().view(-1, *spec)
    names = source.class_names if source.num_classes > 2 else ()
    tiles = []
    for number in numbers:
        run.load(number)
        tiles.append(model_tile(_frame(run, number, grid, pca), window, points, names))
    strip = legend(source.class_names, 1200, scores=False)
    share = float(pca.shares.sum())
    caption = (
        f"Where the models would predict which class on the plane through the mean that holds "
        f"{share:.0%} of the variance of the inputs. Samples lie beside it as well: their "
        "predictions may be others than those of the plane below them."
    )
    parts = [Picture("pca_plane.png", png(panels([[tile] for tile in tiles], strip)), caption)]
    if len(tiles) > 1:
        below = legend(source.class_names, TILE, scores=False)
        frames = [panels([[tile]], below) for tile in tiles]
        parts.append(Picture("pca_plane.gif", gif(frames), "The same as an animation."))
    text = () if run.models else (f"Only the last model: {KEPT} round by round.",)
    return Section(title, text, parts)


def _frame(run: KeptRun, number: int | None, grid: Tensor, pca: Pca) -> Frame:
    """The plane with the model that is loaded."""
    unknown = torch.full((len(grid),), -1)
    context = RoundContext(number or 0)
    logits = run.learner.predict(Split.of(grid, unknown), context)
    labels = run.pool(number).train_set().answers()
    picked = torch.tensor([p[0] for p in run.picks.get(number or -1, ())], dtype=torch.int64)
    if number == 0:
        picked = torch.tensor([p[0] for p in run.picks.get(0, ())], dtype=torch.int64)
    places = [
        pca.project(run.prepared(some)).float() if len(some) else torch.empty(0, 2)
        for some in (labels.indices, picked)
    ]
    return Frame(
        number or 0,
        run.value(_last(run) if number is None else number),
        run.source.task.probs(logits).view(SIDE, SIDE, -1),
        places[0],
        labels.targets,
        places[1],
    )


def _history_picture(run: KeptRun, history: PredictionHistory, index: int) -> Picture:
    source = run.source
    (number,) = source.train.original(torch.tensor([index]))
    content = source.content(index)
    events = [e for e in run.events if e["index"] == index]
    answers = [e["target"] for e in events if e["origin"] not in GUESSES]
    label = f", labeled {source.target_name(answers[-1])}" if answers else ", not labeled"
    figure = prediction_history(
        history.of_sample(index),
        source.class_names,
        rounds=history.rounds,
        image=source.image(index),
        title=f"sample {number}{label}",
    )
    caption = f"Sample {number}{label}{': ' if content else ''}{_cut(content)}."
    return Picture(f"sample_{number}.png", png(to_pixels(figure)), caption)


def _sheet(run: KeptRun, history: PredictionHistory | None, number: int) -> Picture | Table:
    """The picks of a round, as pictures or as a table."""
    source, picks = run.source, run.picks[number][:MOST_PICKS]
    indices = [pick[0] for pick in picks]
    rows = source.train.original(torch.tensor(indices))
    guesses = _guesses(run, history, number, indices)
    labels = [source.target_name(target) for *_, target in picks]
    scores = ["" if math.isnan(score) else f"{score:.4g}" for _, score, _ in picks]
    images = [source.image(index) for index in indices]
    caption = run.value(number)
    pictured = [each for each in images if each is not None]
    if len(pictured) == len(images) and len({each.shape for each in pictured}) == 1:
        lines = [
            [
                end_of(source.content(index)) or f"sample {row}",
                *([f"guess {guess}"] if guess else []),
                f"label {label}",
                f"score {score}",
            ]
            for index, row, guess, label, score in zip(
                indices, rows, guesses, labels, scores, strict=True
            )
        ]
        pixels = captioned(torch.stack(pictured), lines).permute(1, 2, 0).numpy()
        return Picture(f"picks_{number:04d}.png", png(pixels), caption)
    words = [_words(run, index) for index in indices]
    cells = zip(map(str, rows), words, guesses, labels, scores, strict=True)
    return Table(("sample", "content", "guess", "label", "score"), list(cells), caption)


def _guesses(
    run: KeptRun, history: PredictionHistory | None, number: int, indices: Sequence[int]
) -> list[str]:
    """What the model of a round took samples for; empty where nothing tells."""
    if history is None or number not in history.rounds:
        return [""] * len(indices)
    place = history.rounds.index(number)
    probs = torch.stack([history.of_sample(index)[place] for index in indices])
    known = ~probs.isnan().any(1)
    task, name = run.source.task, run.source.target_name
    found = task.guess(probs.nan_to_num(nan=0.0))
    return [
        f"{name(target)}, {sure:.2f}" if there else ""
        for (target, sure), there in zip(found, known.tolist(), strict=True)
    ]


def _words(run: KeptRun, index: int) -> str:
    """What a sample is: its text, or the first of its numbers."""
    if content := run.source.content(index):
        return _cut(content)
    shown = run.source.show(index)
    if isinstance(shown, str):
        return _cut(shown)
    if not isinstance(shown, Tensor):
        return ""
    numbers = [f"{value:.3g}" for value in shown.flatten()[:8].tolist()]
    return ", ".join(numbers) + (", …" if shown.numel() > 8 else "")


def _map_picture(others: Tensor, picked: Tensor, rounds: Sequence[int], name: str) -> bytes:
    """A map with a bar that says which color is which round."""
    figure = canvas(8.0, 6.4)
    axes = figure.add_subplot()
    axes.scatter(others[:, 0], others[:, 1], s=6, c=GREY, linewidths=0, label="not picked")
    shown = axes.scatter(
        picked[:, 0],
        picked[:, 1],
        s=42,
        c=list(rounds),
        cmap="viridis",
        edgecolors="black",
        linewidths=0.6,
        label="picked",
    )
    axes.set(xticks=[], yticks=[], xlabel=f"{name}, first", ylabel="second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 1.08), ncols=2, frameon=False)
    if len(rounds):
        bar = figure.colorbar(shown, ax=axes, label="picked in round", fraction=0.046, pad=0.03)
        integer_axis(bar.ax, axis="y")
    file = io.BytesIO()
    image(to_pixels(figure)).save(file, "PNG")
    return file.getvalue()


def _index_of(run: KeptRun, number: int) -> int:
    """The training sample that people know by a number.

    Raises:
        ValueError: There is none.
    """
    found = (run.source.train.positions == number).nonzero()
    if not len(found):
        raise ValueError(
            f"--sample {number}: the training part of {run.source.name} has no such sample; "
            "queries.csv lists some by their column sample"
        )
    return int(found[0])


def _last(run: KeptRun) -> int:
    return max(len(run.rows) - 1, 0)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
