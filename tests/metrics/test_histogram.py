from __future__ import annotations

from mcpd.metrics.histogram import Histogram


def test_a_value_is_in_the_first_bucket_that_holds_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 7.1


def test_a_copy_stays_as_it_was():
    histogram = Histogram((1.0,))
    copy = histogram.copy()
    histogram.observe(3.0)
    assert (copy.counts, copy.sum) == ([0, 0], 0.0)


def test_two_in_one():
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(2.0)
    both = one.merged(other)
    assert (both.counts, both.sum) == ([1, 1], 2.5)
    assert (one.counts, other.counts) == ([1, 0], [0, 1])
