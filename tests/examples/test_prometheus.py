"""The examples for Prometheus and Grafana are right for their readers, and speak of metrics that mcpd has."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from mcpd.metrics.families import METRICS, PROCESS, Kind
from tests.examples.promtool import promtool

HERE = Path(__file__).parent.parent.parent / "examples" / "prometheus"
DASHBOARD = json.loads((HERE / "grafana-dashboard.json").read_text(encoding="utf-8"))
NAME = re.compile(r"\b(?:mcpd|process)_[a-z_]+")
LABELS = re.compile(r"\b(\w+)\s*(?:=~|!~|!=|=)\s*\"|by \(([^)]*)\)")
OF_PROMETHEUS = {"job", "instance"}
SERIES = {
    name: set(metric.labels) | ({"le"} if name.endswith("_bucket") else set())
    for metric in (*METRICS, *PROCESS)
    for name in (
        [f"{metric.name}{end}" for end in ("_bucket", "_sum", "_count")]
        if metric.kind is Kind.HISTOGRAM
        else [metric.name]
    )
}


def rules() -> list[dict]:
    [group] = yaml.safe_load((HERE / "mcpd.rules.yml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def unknown(query: str) -> set[str]:
    """What a query speaks of and mcpd does not have: metrics, and labels that none of its metrics has."""
    names = set(NAME.findall(query))
    known = OF_PROMETHEUS.union(*(SERIES.get(name, set()) for name in names))
    found = LABELS.findall(query)
    labels = {name for one, several in found for name in (one, *re.split(r"\W+", several)) if name}
    return (names - SERIES.keys()) | (labels - known)


def test_what_is_unknown_is_found():
    assert unknown('sum by (server, user) (rate(mcpd_callz_total{a="b"}[5m]))') == {
        *("mcpd_callz_total", "server", "user", "a")
    }


@pytest.mark.parametrize("query", [*queries(), *(rule["expr"] for rule in rules())])
def test_every_query_is_of_metrics_that_there_are(query):
    assert NAME.search(query) or query.startswith("up{")
    assert unknown(query) == set()


def test_the_dashboard_shows_everything():
    shown = {name for query in queries() for name in NAME.findall(query)}
    missing = {metric.name for metric in METRICS} - {re.sub(r"_bucket$", "", name) for name in shown}
    assert missing == {
        "mcpd_server_calls_in_flight",  # in the sum of all
        "mcpd_server_tools",
        "mcpd_start_slots_held",
        "mcpd_connections_accepted_total",
        "mcpd_http_requests_total",
        "mcpd_config_last_reload_successful",
    }


def test_panels_have_places_of_their_own():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)


def test_variables_are_of_metrics_that_there_are():
    asked = [each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each]
    for definition in asked:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition).groups()
        assert label in SERIES[metric] | OF_PROMETHEUS


def test_promtool_takes_the_configuration_and_the_rules():
    promtool("check", "config", str(HERE / "prometheus.yml"))
    promtool("check", "rules", str(HERE / "mcpd.rules.yml"))


def test_every_alert_fires_when_it_should_and_is_quiet_when_all_is_well():
    promtool("test", "rules", str(HERE / "mcpd.rules.test.yml"))
    text = (HERE / "mcpd.rules.test.yml").read_text(encoding="utf-8")
    for rule in rules():
        assert f"{rule['alert']} fires" in text
        assert f"alertname: {rule['alert']}, exp_alerts: []" in text


def test_an_alert_that_does_not_fire_is_noticed(tmp_path):
    for name in ("mcpd.rules.yml", "mcpd.rules.test.yml"):
        shutil.copy(HERE / name, tmp_path)
    broken = (tmp_path / "mcpd.rules.yml").read_text().replace("== 0", "== 7")
    (tmp_path / "mcpd.rules.yml").write_text(broken)
    with pytest.raises(AssertionError, match="McpdDown"):
        promtool("test", "rules", str(tmp_path / "mcpd.rules.test.yml"))
