"""Published tables are what the report makes of the published results."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.instability_paper import (
    BASIC,
    OURS,
    area_table,
    difference_table,
    draw_table,
    read_groups,
)
from dal.reporting import tables
from dal.reporting.report import Options, collect

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("page", "results", "targets"),
    [
        ("strategies_mnist", "strategies_mnist", (0.9, 0.95)),
        ("strategies_mnist", "strategies_fashion_mnist", (0.7, 0.75)),
        ("strategies_mnist", "batchbald_mnist", (0.9, 0.95)),
    ],
)
def test_published_tables_follow_from_the_results(
    page: str, results: str, targets: tuple[float, ...]
) -> None:
    (group,) = collect([BENCHMARKS / "results" / f"{results}.csv"], Options()).groups
    text = (BENCHMARKS / f"{page}.md").read_text()
    assert tables.area_table(group, "random", 0.5) in text
    assert tables.label_table(group, "random", targets) in text


@pytest.mark.parametrize(
    ("pattern", "count"), [("instability_*.csv.gz", 8), ("restarted_instability.csv.gz", 6)]
)
def test_page_of_the_instability_paper_follows_from_the_results(pattern: str, count: int) -> None:
    files = sorted((BENCHMARKS / "results").glob(pattern))
    groups = read_groups(files)
    assert len(groups) == count
    text = (BENCHMARKS / "instability_paper.md").read_text()
    against = {f"against {name}": (OURS, name) for name in (*BASIC[:-1], "margin")}
    assert area_table(groups) in text
    assert difference_table(groups, against) in text
    assert draw_table(groups) in text
