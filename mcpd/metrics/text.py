"""Readings as the text that Prometheus reads, in the form that it asks for. Runs in a thread.

prometheus-client is imported here, by who asks first: it takes tens of milliseconds and several MiB, which a daemon
that nobody scrapes does not pay for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.metrics.families import METRICS, Kind
from mcpd.metrics.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric as Family

    from mcpd.metrics.families import Metric, Readings


def render(readings: Readings, accept: str) -> tuple[str, bytes]:
    """The media type and the text, by the request's Accept header; with what there is to say of the process."""
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Readings(readings))
    ProcessCollector(registry=registry)
    encode, media = choose_encoder(accept)
    return media, encode(registry)


class _Readings:
    """A collector of what was read already."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Family]:
        """One family after the other, also those that have no values yet."""
        for metric in METRICS:
            yield _family(metric, self._readings)


def _family(metric: Metric, readings: Readings) -> Family:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    values = readings.get(metric.name, {})
    family: Family
    if metric.kind is Kind.HISTOGRAM:
        histograms = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in values.items():
            assert isinstance(value, Histogram), f"{metric.name} is a histogram"
            histograms.add_metric(labels, _buckets(value), value.sum)
        return histograms
    if metric.kind is Kind.COUNTER:
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    else:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        assert not isinstance(value, Histogram), f"{metric.name} is a number"
        family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulated, as Prometheus has them."""
    found, total = [], 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found
