from __future__ import annotations

import msgspec
import pytest

from mcpd.config.model import Config
from mcpd.control.refusal import Refusal
from mcpd.control.servers import check, list_servers, restart, show_server, start, stop
from mcpd.errors import ConfigError
from tests.control.parts import ask, operations


async def test_servers_are_those_of_the_configuration(tmp_path):
    assert await list_servers(operations(tmp_path), ask()) == {"servers": [{"name": "b", "state": "ready"}]}


async def test_a_server_that_is_not_there_is_told_with_what_may_be_meant(tmp_path):
    ops = operations(tmp_path)
    assert await show_server(ops, ask(path={"name": "b"})) == {"name": "b", "state": "ready"}
    for name, remedy in (("bb", "did you mean 'b'?"), ("other", "GET /v1/servers lists them")):
        with pytest.raises(Refusal) as caught:
            await show_server(ops, ask(path={"name": name}))
        assert (caught.value.status, caught.value.code, caught.value.remedy) == (404, "no_such_server", remedy)


@pytest.mark.parametrize("work", [start, stop, restart])
async def test_what_is_switched_is_there_and_enabled(work, tmp_path):
    ops = operations(tmp_path)
    assert (await work(ops, ask(path={"name": "b"})))["name"] == "b"
    assert ops.switch.asked == [(work.__name__, "b")]
    with pytest.raises(Refusal, match="no server 'c'"):
        await work(ops, ask(path={"name": "c"}))
    ops.switch.error = ConfigError("no such file", path="mcpServers.b.tls")
    with pytest.raises(Refusal) as caught:
        await work(ops, ask(path={"name": "b"}))
    assert (caught.value.status, caught.value.code) == (422, "invalid_configuration")
    ops.gateway.config = Config(servers=(msgspec.structs.replace(ops.gateway.backends[0].spec, enabled=False),))
    with pytest.raises(Refusal) as caught:
        await work(ops, ask(path={"name": "b"}))
    assert (caught.value.status, caught.value.remedy) == (409, "mcpctl enable b")


async def test_a_check_is_answered_with_what_happened(tmp_path):
    ops = operations(tmp_path)
    assert (await check(ops, ask(path={"name": "b"})))["ok"] is True
    ops.switch.error = ConfigError("no such file", path="mcpServers.b.tls")
    with pytest.raises(Refusal) as caught:
        await check(ops, ask(path={"name": "b"}))
    assert (caught.value.status, caught.value.code) == (422, "invalid_configuration")
    ops.switch.error = KeyError("c")
    with pytest.raises(Refusal, match="no server 'c'"):
        await check(ops, ask(path={"name": "c"}))
