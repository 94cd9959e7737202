"""The page for a lecture: runs in the plane and of iris, each with the command that makes it.

A section is an entry of `RUNS`: the settings of its runs, and which of their pictures are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.gallery.committees import members_picture
from dal.gallery.kept import KeptRun
from dal.gallery.of_run import own_pictures, plane_section
from dal.gallery.page import Picture, Section, Table, write_page
from dal.gallery.sheet import choices_of_all, sheet
from dal.gallery.why import WHY
from dal.recording.plane import png
from dal.runs.from_config import execute
from dal.runs.loop import Result
from dal.settings import PlannedRun

Plan = Callable[[Sequence[str]], PlannedRun]
"""Makes a run of settings as on the command line."""

TITLE = "Active learning in pictures"
TEXT = (
    "A model is trained on few labels; a strategy picks the samples whose labels would teach it "
    "the most; people, here the data set, answer; and so on. In these pictures samples are points "
    "of the plane, so that all of this can be seen.",
    "Blue and orange regions are what the model predicts, the paler the less sure it is; the black "
    "line is the boundary of the classes. Colored marks are labeled samples, yellow stars are "
    "picked, small dots have no label. In grey pictures a darker shade is a higher score.",
)

Draw = Callable[[Result, Path], list[tuple[str, bytes, str]]]
"""Makes pictures of a run that has ended: file ending, content, caption."""


def files(**captions: str) -> Draw:
    """Takes files from the run directory: ``plane_png="..."`` is ``plane.png``."""

    def draw(result: Result, folder: Path) -> list[tuple[str, bytes, str]]:
        named = ((name.replace("_png", ".png").replace("_gif", ".gif"), name) for name in captions)
        there = ((folder / file, captions[name]) for file, name in named)
        return [(p.name, p.read_bytes(), caption) for p, caption in there if p.is_file()]

    return draw


def with_numbers(caption: str, name: str = "plane.png") -> Draw:
    """Takes one picture, its caption filled in from the last row of metrics."""

    def draw(result: Result, folder: Path) -> list[tuple[str, bytes, str]]:
        row = {key.replace("/", "_"): value for key, value in result.rows[-1].items()}
        return [(name, (folder / name).read_bytes(), caption.format_map(row))]

    return draw


def principal_plane(result: Result, folder: Path) -> list[tuple[str, bytes, str]]:
    """The learning curve, and the plane of the inputs' principal components; models were kept."""
    parts = [*own_pictures(KeptRun(folder)).parts, *plane_section(KeptRun(folder)).parts]
    return [(p.name, p.content, p.caption) for p in parts if isinstance(p, Picture)]


@dataclass(frozen=True)
class Shown:
    """A run of a section.

    Attributes:
        settings: What its command line says behind ``dal train``.
        draw: What is shown of it.
    """

    settings: str
    draw: Draw


@dataclass(frozen=True)
class Told:
    """A section made of runs.

    Attributes:
        title: Its heading.
        text: Paragraphs.
        runs: What is run and shown.
    """

    title: str
    text: tuple[str, ...]
    runs: tuple[Shown, ...]


MOONS = "data=moons data.n_samples=400 model=mlp initial.count=6 query_size=4 budget=28"
RUNS = (
    Told(
        "Round by round: margin and random",
        (
            "Margin asks where the two classes are closest to each other. As the boundary moves, "
            "so do its questions; labels gather along the boundary, and none is spent on what the "
            "model knows.",
        ),
        (
            Shown(
                f"{MOONS} strategy=margin",
                files(
                    plane_png="Margin: the upper row of each round is the model, the lower the "
                    "score.",
                    plane_gif="The same as an animation.",
                ),
            ),
            Shown(
                f"{MOONS} strategy=random",
                files(
                    plane_png="Random, from the same labels: many stars lie where nothing is in "
                    "doubt."
                ),
            ),
        ),
    ),
    Told(
        "Iris: from 5 labels to 98 %",
        (
            "Three kinds of iris, four measurements of each flower, 105 flowers in the pool, and "
            "one question a round. With 14 labels this run is right on 44 of 45 flowers that it "
            "never saw. One run proves nothing: over ten seeds margin has 95 % with 15 labels on "
            "average, random 91 %, and with three of the seeds margin never reaches 97 %.",
        ),
        (
            Shown(
                "data=iris model=svm model.C=10 strategy=margin initial.count=5 query_size=1 "
                "budget=10 seed=3 keep_models=true",
                principal_plane,
            ),
        ),
    ),
    Told(
        "Committees: who is in doubt?",
        (
            "Several models vote. Where they agree there is nothing to learn; where each is sure "
            "and they contradict each other, a label decides who is right. Doubt that all share, "
            "as on the boundary of overlapping classes, remains whatever is labeled.",
        ),
        (
            Shown(f"{MOONS} strategy=bald committee=ensemble committee.size=5", members_picture),
            Shown(f"{MOONS} strategy=bald committee=dropout model.dropout=0.3", members_picture),
            Shown(f"{MOONS} strategy=vote_entropy model=random_forest", members_picture),
        ),
    ),
    Told(
        "Hard pools: what real data do to a strategy",
        (
            "Wrong labels stand near the boundary too, and margin asks for them again and again. "
            "Copies are asked for together, as they have one score. In a pool with a rare class "
            "random finds few of it.",
        ),
        (
            Shown(
                f"{MOONS} strategy=margin difficulty=[noisy] difficulty.noisy.rate=0.2",
                files(
                    plane_png="One label in five is wrong: marks of the other class stand deep "
                    "inside a region."
                ),
            ),
            Shown(
                f"{MOONS} strategy=margin difficulty=[repeated] difficulty.repeated.copies=4 "
                "difficulty.repeated.noise=0.01",
                files(
                    plane_png="Four near copies of each sample: the stars of a round cover each "
                    "other."
                ),
            ),
            Shown(
                f"{MOONS} strategy=random difficulty=[imbalanced] difficulty.imbalanced.ratio=15",
                files(
                    plane_png="One class is rare, and questions are random: hardly any are about "
                    "it."
                ),
            ),
            Shown(
                f"{MOONS} strategy=margin difficulty=[imbalanced] difficulty.imbalanced.ratio=15",
                files(
                    plane_png="The same pool, and margin: it finds the rare class at the boundary."
                ),
            ),
        ),
    ),
    Told(
        "A stream: ask now, or never",
        (
            "Samples arrive one after the other, and each is asked about or let go at once. A "
            "manager of the budget compares its score with those of the samples before it: it "
            "asks about one in ten, and a good question early may be a poor one later.",
        ),
        (
            Shown(
                f"{MOONS} strategy=margin setting=stream",
                with_numbers(
                    "In random order: of {stream_seen} samples that came by, "
                    "{stream_spent:.0%} were asked about. Stars off the boundary were the best of "
                    "their time."
                ),
            ),
            Shown(
                f"{MOONS} strategy=margin setting=stream setting.order=drifting",
                with_numbers(
                    "Drifting: first mostly one class arrives, then more and more of the other. "
                    "{stream_seen} samples came by; what is asked about follows them."
                ),
            ),
        ),
    ),
    Told(
        "Query synthesis: questions that are made",
        (
            "Instead of choosing from a pool, the machine makes the point that it would like to "
            "know about. In the plane a function knows every answer. Of images, made ones may show "
            "nothing that people could name, and nothing draws a point back to where the data "
            "are: some stars lie far from every dot.",
        ),
        (
            Shown(
                f"{MOONS} strategy=entropy setting=synthesis",
                with_numbers("Gradient ascent of entropy: made points slide onto the boundary."),
            ),
            Shown(
                f"{MOONS} strategy=random setting=synthesis setting.how=between",
                with_numbers(
                    "Between opposite classes: halfway between a labeled point of each, then "
                    "halfway again, and beside it once the two are close. No score is asked."
                ),
            ),
        ),
    ),
    Told(
        "Cooperative learning: the machine labels what it is sure of",
        (
            "What people are not asked about, because the model is sure of it, becomes a label as "
            "well: small marks are guesses. They are made anew every round, weigh less than an "
            "answer, and are never counted as labels. A wrong guess can confirm itself, so more "
            "guesses are not always better.",
        ),
        (
            Shown(
                f"{MOONS} strategy=margin cooperative=fixed",
                with_numbers(
                    "Sure above 0.95: the last model learned from {labels} labels and "
                    "{cooperative_used} guesses, of which {cooperative_wrong:.1%} were wrong."
                ),
            ),
            Shown(
                f"{MOONS} strategy=random cooperative=fixed cooperative.threshold=0.6 "
                "cooperative.per_answer=null cooperative.weight=1",
                with_numbers(
                    "Sure above 0.6, as many as there are, at full weight: "
                    "{cooperative_used} guesses, of which {cooperative_wrong:.1%} were wrong. They "
                    "confirm themselves, and answers among them change nothing."
                ),
            ),
        ),
    ),
)
"""Sections made of runs, in the order of the page."""


def write_lecture(
    folder: Path,
    strategies: Mapping[str, Mapping[str, Any]],
    plan: Plan,
    tell: Callable[[str], object],
    told: Sequence[Told] = RUNS,
) -> Path:
    """Make the page, and all that it shows.

    Args:
        folder: Where it goes; runs go to its folder ``runs``, and are gone on with.
        strategies: Settings of every strategy, by its option.
        plan: Makes a run of settings as on the command line.
        tell: Is told what is being made.
        told: The sections made of runs.

    Returns:
        The page.

    Raises:
        OSError: A file cannot be written.
    """
    tell("every strategy")
    sections = [_every_strategy(strategies)]
    for number, each in enumerate(told, 2):
        parts = list[Picture | Table]()
        for place, shown in enumerate(each.runs, 1):
            tell(f"{each.title}: dal train {shown.settings}")
            run = plan(shown.settings.split())
            result = execute(run.config, run.run_dir)
            for file, content, caption in shown.draw(result, run.run_dir):
                name = f"{number:02d}_{place}_{file}"
                parts.append(Picture(name, content, caption, f"dal train {shown.settings}"))
        sections.append(Section(each.title, each.text, parts))
    return write_page(folder, TITLE, TEXT, sections)


def _every_strategy(strategies: Mapping[str, Mapping[str, Any]]) -> Section:
    """One sheet, and the sentences once more, in letters that can be read anywhere."""
    found, left_out = choices_of_all(strategies)
    sentences = [WHY.get(chosen.name, "") for chosen in found]
    drawn = sheet([chosen.tile for chosen in found], sentences, ("upper", "lower"))
    caption = "The same pool, model and labels: what each strategy would ask for next."
    others = f" Left out: {', '.join(sorted(left_out))}, which are for samples of several labels."
    rows = [(chosen.name, sentence) for chosen, sentence in zip(found, sentences, strict=True)]
    return Section(
        "Every strategy, and why it picks what it picks",
        (
            f"{len(found)} strategies look at one model.{others if left_out else ''} Where a score "
            "depends on the candidates, the field is that of the nearest one; strategies that "
            "choose a batch as a whole have no field.",
        ),
        (Picture("strategies.png", png(drawn), caption), Table(("strategy", "why"), rows)),
    )
