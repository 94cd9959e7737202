"""Imports run one way: from a higher floor of the house to a lower one, and in no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS = (
    (
        *("utils", "agreement", "consensus", "decided", "events", "pool", "train_set"),
        *("settings", "metrics", "risk"),
    ),
    (
        *("models", "query", "cooperation", "synthesis", "stopping"),
        *("task", "checkpoint", "state", "journals"),
    ),
    ("data", "training", "inference", "streams"),
    ("recording", "oracles", "export", "predictor"),
    ("learners", "features", "reporting"),
    ("runs",),
    ("lockstep",),
    ("gallery",),
    ("cli",),
)
"""Rooms, each a package or a module of ``dal``, from the lowest floor up."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imported(path: Path) -> Iterator[str]:
    """The modules of ``dal`` that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dal":
            assert node.module is not None
            whole = node.module == "dal"
            yield from (f"dal.{name.name}" for name in node.names) if whole else (node.module,)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("dal."))


def arrows() -> dict[str, set[str]]:
    """For each room those that it imports from."""
    found: dict[str, set[str]] = {room: set() for room in FLOOR}
    for path in (ROOT / "dal").rglob("*.py"):
        room = path.relative_to(ROOT / "dal").parts[0].removesuffix(".py")
        if room[:2] != "__":  # those give names of all floors
            found[room] |= {name.split(".")[1] for name in imported(path)} - {room}
    return found


def test_every_room_has_a_floor() -> None:
    below = {path.stem for path in (ROOT / "dal").iterdir() if path.stem[:2] != "__"}
    assert below - {"py"} == set(FLOOR)


def test_no_room_imports_from_a_higher_floor() -> None:
    up = {(room, other) for room, others in arrows().items() for other in others}
    assert {(room, other) for room, other in up if FLOOR[other] > FLOOR[room]} == set()


def test_no_circle_of_rooms() -> None:
    left = arrows()
    while free := [room for room, others in left.items() if not others & left.keys()]:
        for room in free:
            del left[room]
    assert left == {}
