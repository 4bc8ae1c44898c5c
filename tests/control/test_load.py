from __future__ import annotations

import json

from mcpd.supervisor.usage import Usage
from tests.control.following import following
from tests.control.parts import controlled


class Call:
    def __init__(self, ended):
        self.ended = ended

    def describe(self):
        return {"server": "b", "ms": 2.0, "outcome": "ok"}


async def test_every_server_has_its_calls_and_its_processes(tmp_path):
    async with controlled(tmp_path) as (path, ops):

        async def usage():
            return {"b": Usage(processes=2, memory=3, cpu=0.5), "gone": Usage()}

        ops.gateway.usage = usage
        ops.gateway.events.note_call(Call(1e18))
        async with following(path, "/v1/load") as stream:
            body = json.loads(await stream.body())
        [server] = body["servers"]
        assert (server["name"], server["state"]) == ("b", "ready")
        assert server["calls"] == {"rate": 0.1, "failed": 0.0, "p50_ms": 2.0, "p95_ms": 2.0}
        assert server["usage"] == {"processes": 2, "memory": 3, "cpu": 0.5}
