"""Tables of the benchmarks of rejecting and of asking again; their runs are not made here."""

from __future__ import annotations

from benchmarks import rejects, relabeling


def test_a_spread_is_the_mean_with_half_of_students_interval() -> None:
    # 4.303 is the 97.5 % point of Student's t with two degrees of freedom.
    assert rejects.spread([0.1, 0.2, 0.3]) == f"20.0 ± {100 * 4.30265 * 0.1 / 3**0.5:.1f}"


def test_differences_are_paired_by_seed() -> None:
    pool, columns = next(iter(rejects.POOLS)), ("pool", "base", "seed", "pure", "wasted")
    values = [("0", "0.5"), ("0", "0.9"), ("1", "0.4"), ("1", "0.8")]
    rows = [
        dict(zip(columns, (pool, "margin", str(n % 2), pure, wasted), strict=True))
        for n, (pure, wasted) in enumerate(values)
    ]
    *_, line = rejects.table(rows, "wasted")
    assert line.startswith(f"| {pool} | `margin` | 2 | 70.0 ± ")
    assert line.endswith("| -10.0 ± 0.0 |")


def test_methods_are_compared_with_margin() -> None:
    crowd, method = next(iter(relabeling.CROWDS)), "ActiveLab"
    rows = [
        dict(zip(relabeling.FIELDS, (crowd, name, seed, "8", "0.5", area, area), strict=True))
        for seed in ("0", "1")
        for name, area in (("margin, one label each", "0.5"), (method, "0.6"))
    ]
    lines = list(relabeling.table(rows, crowd))
    assert lines[-1] == (
        "| ActiveLab | 2 | 8 | 50.0 ± 0.0 | 60.0 ± 0.0 | 60.0 ± 0.0 | 10.0 ± 0.0 | 10.0 ± 0.0 |"
    )
