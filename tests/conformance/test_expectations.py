"""A run is judged exactly: too few checks, one that fails unexpectedly, and an exception that is over are all said."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.conformance.backends import ERAS, Case, cases, configuration
from tests.conformance.expectations import CLIENT, CROSSINGS, FRONTS, Expectation, complaints, expectation
from tests.conformance.run import parse
from tests.conformance.suites import RUNS, Outcome, count_checks

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = Expectation(3, {"FAILURE a:one": "why", "WARNING b": "why"}, {"c-": "why"})


def outcome(status: int | None = 1, **changes: str) -> Outcome:
    """What gives no complaint, with some remarks changed: a name to a key, or to nothing."""
    counts = {"a": Counter(SUCCESS=1, FAILURE=1), "b": Counter(SUCCESS=2, WARNING=1), "c-d": Counter(SUCCESS=9)}
    remarks = {"first": "FAILURE a:one", "second": "WARNING b:two", "third": "FAILURE c-d:three"} | changes
    return Outcome(counts, {key: "said" for key in remarks.values() if key}, status)


def test_what_must_be_gives_no_complaint() -> None:
    assert complaints(EXPECTED, outcome()) == []
    assert complaints(Expectation(1), Outcome({"a": Counter(SUCCESS=1)}, {}, 0)) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (outcome(None), ["took too long"]),
        (outcome(139), ["the suite ended with status 139"]),
        (outcome(first="FAILURE a:other"), ["1 unexpected", "no longer happens: FAILURE a:one"]),
        (outcome(first=""), ["no longer happens: FAILURE a:one"]),
        (outcome(second=""), ["no longer happens: WARNING b"]),
        (outcome(second="FAILURE b:two"), ["1 unexpected", "no longer happens: WARNING b"]),
        (outcome(third=""), []),
        (Outcome({"a": Counter(SUCCESS=4)}, dict.fromkeys(EXPECTED.exceptions, ""), 1), ["3 checks must pass"]),
    ],
)
def test_what_is_wrong_is_said(wrong, said) -> None:
    assert complaints(EXPECTED, wrong) == said


def test_a_suite_that_fails_without_a_failed_check_is_not_believed() -> None:
    assert complaints(Expectation(1), Outcome({"a": Counter(SUCCESS=1)}, {}, 1)) == ["the suite ended with status 1"]


def test_every_run_has_its_expectation() -> None:
    assert FRONTS.keys() == RUNS.keys()
    for (run, era), crossing in CROSSINGS.items():
        assert expectation(run, era, direct=False) is crossing
        assert expectation(run, era, direct=True) is not crossing
    assert len({scenario for scenario, _ in CLIENT}) == 11


def test_checks_are_counted_by_scenario_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "server-json-schema-2020-12-2026-11-21T14-01-25-815Z"
    folder.mkdir()
    checks = [
        {"id": "x", "status": "SUCCESS"},
        {"id": "y", "status": "WARNING", "description": "what  it\nis"},
        {"id": "z", "status": "FAILURE", "description": "what it is", "errorMessage": "why not"},
    ]
    (folder / "checks.json").write_text(json.dumps(checks))
    found = Outcome()
    count_checks(found, tmp_path)
    assert found.counts == {"json-schema-2020-12": Counter(SUCCESS=1, WARNING=1, FAILURE=1)}
    assert found.remarks == {
        "WARNING json-schema-2020-12:y": "what it is",
        "FAILURE json-schema-2020-12:z": "why not",
    }


def test_backends_are_those_asked_for() -> None:
    everything = [(case.era, case.transport) for case in cases(parse([]))]
    assert everything == [(era, transport) for era in ERAS for transport in ("http", "stdio")]
    assert [(case.era, case.transport) for case in cases(parse(["--quick"]))] == [("both", "http")]
    given = cases(parse(["--backend-command", "serve --era {era} 'a b'"]))
    assert [case.command for case in given] == [("serve", "--era", era, "a b") for era in ERAS]
    given = cases(parse(["--backend-url", "http://h/mcp", "--backend-era", "legacy"]))
    assert given == [Case("legacy", "http", url="http://h/mcp")]


@pytest.mark.parametrize("front", ["legacy", "modern"])
@pytest.mark.parametrize("era", ERAS)
def test_only_where_a_modern_client_meets_a_legacy_server_calls_need_links_of_their_own(front, era) -> None:
    server = configuration({"command": "serve"}, front, era)["mcpServers"]["server"]
    leased = {"instances": "leased"} if (front, era) == ("modern", "legacy") else {}
    assert server == {"command": "serve", "prefix": "", **leased}
