"""The table of metrics: what Prometheus expects of names, and what mcpd(8) says of each."""

from __future__ import annotations

import re

from mcpd.metrics.families import METRICS, PROCESS, Kind
from tests.test_manual import items, section

LABELS = {"server", "method", "outcome", "kind", "state", "connection", "protocol", "result", "version", "python"}
"""All of which have few values. A new one is to be argued: each value is a series for ever."""


def test_names_are_as_prometheus_wants_them():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("mcpd_")
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")


def test_labels_are_of_those_that_are_bounded():
    assert {label for metric in METRICS for label in metric.labels} == LABELS


def test_every_metric_is_in_the_manual_and_no_other():
    assert items("METRICS", "Li") == {metric.name for metric in (*METRICS, *PROCESS)}


def test_the_manual_says_kind_and_labels():
    entries = re.split(r"^\.It Li ", section("METRICS"), flags=re.MULTILINE)[1:]
    said = {entry.split("\n", 1)[0]: entry.split("\n") for entry in entries}
    for metric in METRICS:
        lines = said[metric.name]
        labels = []
        for line in lines[2:]:
            if not (found := re.fullmatch(r"\.Li (\w+) [,.]", line)):
                break
            labels.append(found[1])
        assert lines[1] == f"A {metric.kind} by" if metric.labels else lines[1] == f"A {metric.kind}."
        assert tuple(labels) == metric.labels
        assert metric.help in lines
