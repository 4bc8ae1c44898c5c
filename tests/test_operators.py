from __future__ import annotations

from types import SimpleNamespace

from mcpd.operators import serve_mcp, user_of
from mcpd.wire.credentials import Credentials
from mcpd.wire.deadlines import Deadlines
from tests.gateway.fakes import make_gateway


def test_each_user_of_the_socket_is_a_principal():
    assert user_of(SimpleNamespace(credentials=Credentials(1, 1000, frozenset()))) == "uid:1000"
    assert user_of(SimpleNamespace(credentials=None)) == ""


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
