"""Published tables are what the report makes of the published results."""

from __future__ import annotations

from pathlib import Path

import pytest

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
