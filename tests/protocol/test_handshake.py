"""The legacy handshake: both tables pair by pair, what is said, and a client and a server that talk to each
other."""

from __future__ import annotations

import json

import pytest

from mcpd.errors import INVALID_PARAMS, INVALID_REQUEST, ProtocolError
from mcpd.protocol.capabilities import EVERYTHING, NOTHING, ClientCapability, ServerCapabilities
from mcpd.protocol.handshake import (
    CLIENT,
    SERVER,
    VERSION_SHOWN,
    ClientState,
    Event,
    ServerState,
    initialize_params,
    initialize_result,
    offer,
    read_initialize,
    read_initialize_result,
    serve,
)
from mcpd.protocol.versions import HANDSHAKE, LATEST_HANDSHAKE, MODERN, Version
from tests.protocol.tables import check_total, reachable


def test_server_table_is_total():
    check_total(SERVER, ServerState, Event, serve, ProtocolError)


def test_client_table_is_total():
    check_total(CLIENT, ClientState, Event, offer, ProtocolError)


def test_every_state_is_reachable():
    assert reachable(SERVER, ServerState.NEW) == set(ServerState)
    assert reachable(CLIENT, ClientState.NEW) == set(ClientState)


@pytest.mark.parametrize(
    ("state", "event", "words"),
    [
        (ServerState.NEW, Event.REQUEST, "send initialize first"),
        (ServerState.ANSWERED, Event.INITIALIZE, "already answered"),
        (ServerState.READY, Event.INITIALIZE, "already answered"),
    ],
)
def test_server_refusals(state, event, words):
    with pytest.raises(ProtocolError, match=words) as caught:
        serve(state, event)
    assert caught.value.code == INVALID_REQUEST


def test_client_refusal_names_event_and_state():
    with pytest.raises(ProtocolError, match="result does not fit a handshake that is READY"):
        offer(ClientState.READY, Event.RESULT)


@pytest.mark.parametrize("state", ServerState)
def test_server_is_lenient_with_what_needs_no_answer(state):
    """Notifications are never refused, pings always answered, and `initialized` may be missing or come
    twice."""
    for event in (Event.NOTIFICATION, Event.PING, Event.INITIALIZED):
        serve(state, event)


def test_client_that_never_says_initialized():
    state = serve(ServerState.NEW, Event.INITIALIZE)
    assert serve(state, Event.REQUEST) is ServerState.READY


def test_early_initialized_changes_nothing():
    assert serve(ServerState.NEW, Event.INITIALIZED) is ServerState.NEW


# ---- initialize --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        *((version.text, version) for version in HANDSHAKE),
        (MODERN.text, LATEST_HANDSHAKE),
        ("2024-10-07", LATEST_HANDSHAKE),
        ("2099-01-01", LATEST_HANDSHAKE),
        ("1.0", LATEST_HANDSHAKE),
        ("", LATEST_HANDSHAKE),
    ],
)
def test_negotiation(asked, answered):
    hello = read_initialize(json.dumps({"protocolVersion": asked, "capabilities": {}}).encode())
    assert hello.version is answered
    assert json.loads(initialize_result(hello.version, b"{}", ""))["protocolVersion"] == answered.text


def test_read_initialize():
    hello = read_initialize(
        b'{"protocolVersion":"2025-06-18","capabilities":{"sampling":{},"roots":{"listChanged":true}},'
        b'"clientInfo":{"name":"inspector","version":"1"},"_meta":{"x":1}}'
    )
    assert hello.version is Version.V2025_06_18
    assert (
        hello.capabilities == ClientCapability.SAMPLING | ClientCapability.ROOTS | ClientCapability.ROOTS_LIST_CHANGED
    )
    assert hello.client_name == "inspector"


@pytest.mark.parametrize(
    "params",
    [
        None,
        b"{}",
        b"null",
        b"[]",
        b'"2025-06-18"',
        b'{"protocolVersion":null}',
        b'{"protocolVersion":20250618}',
        b"{",
    ],
)
def test_nothing_to_negotiate(params):
    with pytest.raises(ProtocolError) as caught:
        read_initialize(params)
    assert caught.value.code == INVALID_PARAMS


@pytest.mark.parametrize(
    ("info", "name"),
    [
        (b'{"name":"a"}', "a"),
        (b'{"name":"%b"}' % (b"x" * 1000), "x" * 64),
        (b"{}", ""),
        (b"null", ""),
        (b'"a"', ""),
        (b'{"name":7}', ""),
        (rb'{"name":"\ud83d"}', ""),
    ],
)
def test_client_name_is_a_label_and_no_more(info, name):
    assert read_initialize(b'{"protocolVersion":"x","clientInfo":%b}' % info).client_name == name


def test_missing_capabilities_are_none():
    assert read_initialize(b'{"protocolVersion":"2025-06-18"}').capabilities == NOTHING


# ---- its answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", HANDSHAKE)
def test_initialize_result(version):
    result = json.loads(initialize_result(version, b'{"name":"mcpd","version":"0"}', 'say "hi"\n'))
    assert result["protocolVersion"] == version.text
    assert result["serverInfo"] == {"name": "mcpd", "version": "0"}
    assert result["instructions"] == 'say "hi"\n'
    assert set(result) == {"protocolVersion", "capabilities", "serverInfo", "instructions"}
    assert "instructions" not in json.loads(initialize_result(version, b"{}", ""))


@pytest.mark.parametrize("version", HANDSHAKE)
def test_backends_may_answer_any_handshake_version(version):
    hello = read_initialize_result(
        b'{"protocolVersion":"%b","capabilities":{"logging":{}},"serverInfo":{"name":"x"},"instructions":"i"}'
        % version.text.encode()
    )
    assert (hello.version, hello.server_info, hello.instructions) == (version, b'{"name":"x"}', "i")
    assert hello.capabilities == ServerCapabilities(logging=True)


def test_little_is_needed_of_a_backend():
    hello = read_initialize_result(b'{"protocolVersion":"2024-11-05"}')
    assert (hello.server_info, hello.instructions, hello.capabilities) == (b"{}", "", ServerCapabilities())
    assert read_initialize_result(b'{"protocolVersion":"2024-11-05","instructions":null}').instructions == ""


@pytest.mark.parametrize(
    "result",
    [
        b"{}",
        b"[]",
        b"null",
        b'"2025-06-18"',
        b'{"protocolVersion":null}',
        b'{"protocolVersion":"2026-07-28"}',
        b'{"protocolVersion":"2024-10-07"}',
        b'{"protocolVersion":"%b"}' % (b"9" * 100_000),
    ],
)
def test_backends_that_cannot_be_spoken_to(result):
    with pytest.raises(ProtocolError) as caught:
        read_initialize_result(result)
    assert caught.value.code == INVALID_REQUEST
    assert len(caught.value.message) < VERSION_SHOWN + 100


# ---- both together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", HANDSHAKE)
@pytest.mark.parametrize("capabilities", [NOTHING, EVERYTHING, ClientCapability.ROOTS])
def test_a_client_and_a_server(version, capabilities):
    """mcpd on both ends: they agree, in lock-step, on what the client offered."""
    client = offer(ClientState.NEW, Event.INITIALIZE)
    asked = initialize_params(capabilities, b'{"name":"c"}', version)
    server = serve(ServerState.NEW, Event.INITIALIZE)
    heard = read_initialize(asked)
    answer = read_initialize_result(initialize_result(heard.version, b"{}", "x"))
    client = offer(client, Event.RESULT)
    assert answer.version is heard.version is version
    assert heard.capabilities & ~capabilities == NOTHING
    client, server = offer(client, Event.INITIALIZED), serve(server, Event.INITIALIZED)
    assert (client, server) == (ClientState.READY, ServerState.READY)


def test_mcpd_offers_its_newest():
    assert json.loads(initialize_params(NOTHING, b"{}"))["protocolVersion"] == LATEST_HANDSHAKE.text


def test_refused_is_the_end():
    state = offer(offer(ClientState.NEW, Event.INITIALIZE), Event.ERROR)
    assert state is ClientState.REFUSED
    assert not CLIENT[state]
