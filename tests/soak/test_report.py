from __future__ import annotations

from tests.soak.report import Report, percentile


def test_one_miss_is_a_miss_of_all_and_is_marked():
    report = Report()
    report.add("memory", "1 MiB", "2 MiB", well=True)
    report.none("zombies", 0)
    assert report.well
    report.none("processes", ["a", "b"])
    assert not report.well
    assert report.render().splitlines() == [
        "memory     1 MiB  2 MiB  ok",
        "zombies        0  0      ok",
        "processes      2  0      MISS",
    ]


def test_percentiles():
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (51.0, 100.0, 100.0)
    assert percentile([7.0], 0.99) == 7.0
