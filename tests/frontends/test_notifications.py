from __future__ import annotations

import pytest

from mcpd.config.model import Config
from mcpd.frontends.notifications import take
from mcpd.protocol import jsonrpc
from mcpd.protocol.handshake import Event, ServerState
from tests.frontends.rig import ScriptedGateway, make_sessions


class Call:
    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def sessions(tmp_path):
    return make_sessions(tmp_path, Config())


def say(gateway, session, text: bytes) -> None:
    take(gateway, session, jsonrpc.decode_from_client(text))


async def test_a_cancellation_is_for_the_id_as_it_was_spelled(sessions):
    gateway, session = ScriptedGateway(sessions), sessions.connect("")
    number, text, float_ = Call(), Call(), Call()
    session.register(b"1", number, 9)
    session.register(b'"1"', text, 9)
    session.register(b"1.0", float_, 9)
    say(gateway, session, b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}}')
    assert (number.cancelled, text.cancelled, float_.cancelled) == (0, 1, 0)
    say(gateway, session, b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId": 1 }}')
    assert (number.cancelled, text.cancelled, float_.cancelled) == (1, 1, 0)


@pytest.mark.parametrize(
    "params",
    [
        b"",
        b',"params":{}',
        b',"params":[]',
        b',"params":7',
        b',"params":{"requestId":null}',
        b',"params":null',
    ],
)
async def test_a_malformed_cancellation_is_ignored(sessions, params):
    gateway, session = ScriptedGateway(sessions), sessions.connect("")
    session.register(b"1", call := Call(), 9)
    say(gateway, session, b'{"jsonrpc":"2.0","method":"notifications/cancelled"%b}' % params)
    assert not call.cancelled


async def test_initialized_completes_the_handshake_and_nothing_else_does(sessions):
    gateway, session = ScriptedGateway(sessions), sessions.connect("")
    say(gateway, session, b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert session.state is ServerState.NEW
    session.handshake(Event.INITIALIZE)
    say(gateway, session, b'{"jsonrpc":"2.0","method":"notifications/whatever","params":[1]}')
    assert session.state is ServerState.ANSWERED
    say(gateway, session, b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert session.state is ServerState.READY


async def test_changed_roots_are_passed_on(sessions):
    gateway, session = ScriptedGateway(sessions), sessions.connect("")
    say(gateway, session, b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}')
    assert gateway.roots == [session.caller]


async def test_an_answer_to_what_was_never_asked_is_ignored(sessions):
    gateway, session = ScriptedGateway(sessions), sessions.connect("")
    for id in (b"1", b'"1"', b"null"):
        say(gateway, session, b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id)
    say(gateway, session, b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}')
