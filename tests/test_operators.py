from __future__ import annotations

from types import SimpleNamespace

import msgspec

from mcpd.operators import serve_mcp, user_of
from mcpd.wire.credentials import Credentials
from mcpd.wire.deadlines import Deadlines
from tests.gateway.fakes import make_gateway


def test_each_user_of_the_socket_is_a_principal():
    assert user_of(SimpleNamespace(credentials=Credentials(1, 1000, frozenset()))) == "uid:1000"
    assert user_of(SimpleNamespace(credentials=None)) == ""


async def test_what_would_be_held_back_is_told_to_come_back(tmp_path):
    gateway = make_gateway(tmp_path)
    handle = serve_mcp(gateway, SimpleNamespace(config=gateway.config, settings=[]), Deadlines())
    answers = []
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    head = SimpleNamespace(method=b"POST", path=b"/mcp", headers={}, notes=None)
    request = SimpleNamespace(head=head, body=body, carried=None, answer=lambda *answer: answers.append(answer))
    gateway.gate.close()
    await handle(request)
    [(status, headers, text)] = answers
    assert (status, msgspec.json.decode(text)["code"]) == (503, "busy")
    assert b"Retry-After: 1\r\n" in headers


async def test_sessions_end_for_the_front_and_for_who_knew_them_before(tmp_path):
    gateway = make_gateway(tmp_path)
    ended = []
    gateway.sessions.forget = ended.append
    reloader = SimpleNamespace(config=gateway.config, settings=[])
    serve_mcp(gateway, reloader, Deadlines())
    session = SimpleNamespace(streams=None)
    gateway.sessions.forget(session)
    assert ended == [session]
    [configure] = reloader.settings
    configure(gateway.config)
