"""The examples of mcpServers files, run by the commands that go with them: a gateway over stdio, HTTP+SSE or Streamable
HTTP, in front of servers of each of the three, and the routes by which it is managed.

Only ports and paths are other ones, and the separator is the dot that such names have elsewhere: `calculator.add`.
"""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.backends import mini
from tests.e2e.background import mcpd
from tests.e2e.test_admin import ask, with_token
from tests.fixtures.peer import ROOT, HttpPeer, SsePeer, StdioPeer, start_daemon

DOTS = {"naming": {"separator": "."}}


def example(name: str, **replaced: str) -> dict:
    """What is in the file, with this machine's Python and these texts in place of others."""
    text = (ROOT / "examples" / name).read_text()
    for old, new in {'"python"': json.dumps(sys.executable), **replaced}.items():
        assert old in text or old == '"python"', f"{name} has no {old}"
        text = text.replace(old, new)
    return {**json.loads(text), **DOTS}


async def names(peer) -> list[str]:
    return [tool["name"] for tool in await peer.list_all("tools/list", "tools")]


async def test_servers_over_stdio_to_a_client_over_stdio(tmp_path):
    file = tmp_path / "servers.json"
    file.write_text(json.dumps(example("servers.json")))
    argv = mcpd("--config", str(file), "--state-dir", str(tmp_path / "state"))
    async with StdioPeer(argv) as peer:
        await peer.initialize()
        assert {"calculator.add", "calculator.multiply", "notes.add_note"} <= set(await names(peer))
        assert json.loads(await peer.call_text("calculator.add", {"a": 2, "b": 3})) == {"result": 5}
        assert json.loads(await peer.call_text("calculator.multiply", {"a": 2, "b": 3})) == {"result": 6}


@pytest.mark.parametrize("front", ["sse", "streamable-http"])
@pytest.mark.parametrize(("file", "address"), [("sse-backend.json", "9090"), ("streamable-http-backend.json", "9091")])
async def test_a_remote_server_to_a_client_over_http(front, file, address):
    async with start_daemon({"mcpServers": {"echo": mini(prefix="")}}) as remote:
        port = remote.base.rpartition(":")[2]
        config = example(file, **{f"127.0.0.1:{address}": f"127.0.0.1:{port}"})
        async with start_daemon(config, extra=("--transport", front)) as gateway:
            at = SsePeer(f"{gateway.base}/sse") if front == "sse" else HttpPeer(f"{gateway.base}/mcp")
            async with at as peer:
                await peer.initialize()
                assert "remote-echo.echo" in await names(peer)
                assert await peer.call_text("remote-echo.echo", {"text": "ping"}) == "ping"


async def test_the_gateway_is_managed_over_http(tmp_path):
    state = str(tmp_path / "state")
    async with start_daemon(example("servers.json"), state_dir=state) as gateway:
        base = gateway.base
        async with HttpPeer(gateway.url) as peer:
            await peer.initialize()
            await names(peer)  # waits for the servers
            status, health = await ask("GET", f"{base}/health")
            assert (status, health["status"]) == (200, "ok")
            status, servers = await ask("GET", f"{base}/servers")
            assert [each["name"] for each in servers["servers"]] == ["calculator", "notes"]
            status, tools = await ask("GET", f"{base}/tools")
            assert {"calculator.add", "notes.add_note"} <= {each["name"] for each in tools["tools"]}
            # The body has the form of the configuration file.
            more = {"mcpServers": {"echo": {"transport": "stdio", **mini()}}}
            status, _ = await ask("POST", f"{base}/servers", more, with_token(state))
            assert status == 200
            assert await peer.call_text("echo.echo", {"text": "here"}) == "here"
            status, _ = await ask("DELETE", f"{base}/servers/echo", None, with_token(state))
            assert status == 200
            assert not [name for name in await names(peer) if name.startswith("echo.")]
            status, servers = await ask("GET", f"{base}/servers")
            assert [each["name"] for each in servers["servers"]] == ["calculator", "notes"]
