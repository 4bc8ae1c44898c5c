from __future__ import annotations

import pytest

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from mcpd.gateway.tally import KINDS, Tally, kind_of


def test_calls_are_counted_by_server_and_method():
    tally = Tally()
    tally.note("a", "tools/call", "ok", 0, "", 0.5, 10, 20)
    tally.note("a", "tools/call", "error", 0, "", 0.5, 1, 2)
    tally.note("b", "prompts/get", "cancelled", 0, "", 0.5, 1, 0)
    series = tally.calls["a", "tools/call"]
    assert (series.outcomes, series.errors) == ({"ok": 1, "error": 1}, {"tool-error": 1})
    assert (series.received, series.sent, series.duration.sum, sum(series.duration.counts)) == (11, 22, 1.0, 2)
    assert tally.calls["b", "prompts/get"].errors == {}


@pytest.mark.parametrize(
    ("outcome", "code", "why", "kind"),
    [
        ("failed", INTERNAL_ERROR, "timed-out", "timed-out"),
        ("failed", INTERNAL_ERROR, "", "server-error"),
        ("failed", 0, "internal", "internal"),
        ("error", 0, "", "tool-error"),
        ("refused", INVALID_PARAMS, "", "invalid-params"),
        ("refused", METHOD_NOT_FOUND, "", "method-not-found"),
        ("refused", INTERNAL_ERROR, "", "refused"),
        ("refused", 0, "", "invalid-params"),
        ("failed", 0, "what nobody knows", "other"),
    ],
)
def test_an_error_has_a_kind_of_a_fixed_set(outcome, code, why, kind):
    assert kind_of(outcome, code, why) == kind
    assert kind in KINDS | {"other"}


def test_what_failed_is_counted_by_kind():
    tally = Tally()
    for why in ("crashed", "error", "crashed"):
        tally.failed("a", why)
    assert tally.failures == {("a", "crashed"): 2, ("a", "other"): 1}


def test_servers_that_are_gone_are_forgotten():
    tally = Tally()
    for server in ("", "a", "b"):
        tally.note(server, "tools/call", "ok", 0, "", 0.5, 1, 1)
    for server in ("a", "b"):
        tally.starts[server] += 1
        tally.failed(server, "crashed")
    tally.retain({"a"})
    assert list(tally.calls) == [("", "tools/call"), ("a", "tools/call")]
    assert (list(tally.starts), list(tally.failures)) == (["a"], [("a", "crashed")])
