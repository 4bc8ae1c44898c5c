from __future__ import annotations

import pytest

from mcpd.protocol import jsonrpc
from mcpd.protocol.methods import ASKING, BY_NAME, BY_RAW, LISTS, METHODS, from_client, from_server
from mcpd.protocol.versions import Version

# Who sends it, one character a version, oldest first: c client, s server, b both.
EXPECTED = {
    "initialize": "cccc.",
    "server/discover": "....c",
    "ping": "bbbb.",
    "tools/list": "ccccc",
    "tools/call": "ccccc",
    "resources/list": "ccccc",
    "resources/templates/list": "ccccc",
    "resources/read": "ccccc",
    "resources/subscribe": "cccc.",
    "resources/unsubscribe": "cccc.",
    "prompts/list": "ccccc",
    "prompts/get": "ccccc",
    "completion/complete": "ccccc",
    "logging/setLevel": "cccc.",
    "subscriptions/listen": "....c",
    "sampling/createMessage": "ssss.",
    "roots/list": "ssss.",
    "elicitation/create": "..ss.",
    "tasks/get": "...bc",
    "tasks/result": "...b.",
    "tasks/list": "...b.",
    "tasks/cancel": "...bc",
    "tasks/update": "....c",
    "notifications/initialized": "cccc.",
    "notifications/cancelled": "bbbbb",
    "notifications/progress": "bbbbs",
    "notifications/message": "sssss",
    "notifications/tools/list_changed": "sssss",
    "notifications/resources/list_changed": "sssss",
    "notifications/prompts/list_changed": "sssss",
    "notifications/resources/updated": "sssss",
    "notifications/roots/list_changed": "cccc.",
    "notifications/elicitation/complete": "...s.",
    "notifications/tasks/status": "...b.",
    "notifications/subscriptions/acknowledged": "....s",
    "notifications/tasks": "....s",
}


def test_every_method_is_expected():
    assert set(EXPECTED) == set(BY_NAME)
    assert len(METHODS) == len(BY_NAME) == len(BY_RAW)


@pytest.mark.parametrize("name", EXPECTED)
def test_who_may_send_it_when(name):
    for version, mark in zip(Version, EXPECTED[name], strict=True):
        assert from_client(name, version) is (mark in "cb")
        assert from_server(name, version) is (mark in "sb")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_row_makes_sense(method):
    assert method.client is not None or method.server is not None
    assert BY_RAW[b'"%b"' % method.name.encode()] is method
    if not method.request:
        assert not method.cancellable
        assert not method.may_ask
        assert method.list_member is None
    assert (method.list_member is None) is (method.list_changed is None)
    if method.list_changed is not None:
        assert BY_NAME[method.list_changed].server is not None
    # A capability says something about the side that answers, or that notifies.
    if method.server_needs and method.request:
        assert method.client is not None
    if method.client_needs and method.request:
        assert method.server is not None


def test_only_initialize_cannot_be_cancelled():
    assert [method.name for method in METHODS if method.request and not method.cancellable] == ["initialize"]


def test_asking_is_allowed_where_the_specification_says():
    assert {"tools/call", "prompts/get", "resources/read"} == ASKING
    asked = {method.name for method in METHODS if method.input}
    assert asked == {"sampling/createMessage", "roots/list", "elicitation/create"}


def test_routing_parameters():
    by_parameter: dict[str | None, set[str]] = {}
    for method in METHODS:
        by_parameter.setdefault(method.routed_by, set()).add(method.name)
    assert by_parameter["name"] == {"tools/call", "prompts/get"}
    assert by_parameter["ref"] == {"completion/complete"}
    assert by_parameter["uri"] == {
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "notifications/resources/updated",
    }
    assert all("tasks" in name for name in by_parameter["taskId"])


def test_lists():
    assert {member: method.name for member, method in LISTS.items()} == {
        "tools": "tools/list",
        "resources": "resources/list",
        "resourceTemplates": "resources/templates/list",
        "prompts": "prompts/list",
    }


def test_needs():
    needs = {method.name: (method.server_needs, method.client_needs) for method in METHODS}
    assert needs["tools/call"] == ("tools", None)
    assert needs["resources/subscribe"] == ("resources.subscribe", None)
    assert needs["completion/complete"] == ("completions", None)
    assert needs["logging/setLevel"] == ("logging", None)
    assert needs["sampling/createMessage"] == (None, "sampling")
    assert needs["notifications/elicitation/complete"] == (None, "elicitation.url")
    assert needs["ping"] == (None, None)


def test_unknown_methods_may_not_be_sent():
    assert not from_client("tools/frobnicate", Version.V2025_11_25)
    assert not from_server("", Version.V2025_11_25)


def test_known_names_decode_to_one_object():
    for method in METHODS:
        text = b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % method.name.encode()
        assert jsonrpc.decode(text).method is method.name
