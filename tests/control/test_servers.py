from __future__ import annotations

from mcpd.control.servers import list_servers
from tests.control.parts import ask, operations


async def test_servers_are_those_of_the_configuration(tmp_path):
    assert await list_servers(operations(tmp_path), ask()) == {"servers": [{"name": "b"}]}
