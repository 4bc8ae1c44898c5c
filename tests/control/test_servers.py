from __future__ import annotations

import pytest

from mcpd.control.refusal import Refusal
from mcpd.control.servers import list_servers, show_server
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
