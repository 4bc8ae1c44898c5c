"""What comes out is read by prometheus-client's own parsers, in both forms."""

from __future__ import annotations

import subprocess
import sys

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mcpd.metrics.families import METRICS, PROCESS
from mcpd.metrics.histogram import Histogram
from mcpd.metrics.text import render


def readings():
    duration = Histogram((0.1, 1.0))
    for value in (0.05, 0.5, 5.0):
        duration.observe(value)
    return {
        "mcpd_calls_total": {('a "quoted" \\ name\n', "tools/call", "ok"): 3},
        "mcpd_call_duration_seconds": {("a", "tools/call"): duration},
        "mcpd_connections": {(): 2},
    }


def read(text: str, parse=text_string_to_metric_families) -> dict:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_as_text():
    media, text = render(readings(), "text/plain")
    assert media.startswith("text/plain; version=")
    found = read(text.decode())
    assert found["mcpd_connections",] == 2
    labels = ("method", "tools/call"), ("outcome", "ok"), ("server", 'a "quoted" \\ name\n')
    assert found["mcpd_calls_total", *labels] == 3
    call = ("method", "tools/call"), ("server", "a")
    buckets = [found["mcpd_call_duration_seconds_bucket", ("le", le), *call] for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [1, 2, 3]
    assert found["mcpd_call_duration_seconds_count", *call] == 3
    assert found["mcpd_call_duration_seconds_sum", *call] == 5.55


def test_as_openmetrics():
    media, text = render(readings(), "application/openmetrics-text; version=1.0.0")
    assert media.startswith("application/openmetrics-text")
    assert read(text.decode(), openmetrics.text_string_to_metric_families)["mcpd_connections",] == 2


def test_every_family_is_there_with_and_without_values():
    _, text = render({}, "")
    declared = [line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")]
    assert declared == [metric.name for metric in (*METRICS, *PROCESS)]


def test_who_is_not_scraped_does_not_pay_for_the_library():
    code = "import sys, mcpd.daemon; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
