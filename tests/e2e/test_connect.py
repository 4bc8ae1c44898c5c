"""A client on stdio whose mcpd is the way to the one that runs: `mcpd --connect URL`."""

from __future__ import annotations

import pytest

from tests.e2e.backends import mini
from tests.e2e.background import everything, mcpd
from tests.e2e.test_cli import run
from tests.e2e.test_reload import TOOLS_CHANGED, reload
from tests.fixtures.peer import HttpPeer, PeerError, StdioPeer, start_daemon

QUESTION = {"elicitation": {}, "sampling": {}}


@pytest.fixture
def command(tmp_path):
    """The argv for a URL, with nothing in the environment that could be found there."""

    def make(url: str) -> list[str]:
        return mcpd("--connect", url, "--state-dir", str(tmp_path / "own"))

    return make


async def test_everything_is_there_under_its_own_name(command):
    config = {"mcpServers": {"a": mini(), "all": everything()}}
    async with start_daemon(config) as daemon, StdioPeer(command(daemon.url)) as peer, HttpPeer(daemon.url) as other:
        await peer.initialize(capabilities=QUESTION)
        await other.initialize()
        tools = await peer.list_all("tools/list", "tools")
        assert tools == await other.list_all("tools/list", "tools")
        assert await peer.call_text("a_echo", {"text": "through two"}) == "through two"
        for kind in ("resources", "prompts"):
            assert await peer.list_all(f"{kind}/list", kind) == await other.list_all(f"{kind}/list", kind)
        with pytest.raises(PeerError, match="exited with status 7"):
            await peer.call("a_exit", {"code": 7})
        await reload(daemon, {"a": mini(), "b": mini(), "all": everything()})
        await peer.wait_notifications(TOOLS_CHANGED)
        assert await peer.call_text("b_echo", {"text": "new"}) == "new"


async def test_a_daemon_that_is_not_there_is_named(command):
    async with StdioPeer(command("http://127.0.0.1:9/mcp")) as peer:
        await peer.initialize()
        with pytest.raises(PeerError, match="not ready yet: mcpd"):
            await peer.call("a_echo", {"text": "x"})
        assert "cannot connect to 127.0.0.1 port 9: connection refused (is the server running" in peer.stderr


async def test_what_is_no_url_is_said():
    done = await run("--connect", "ftp://x")
    assert done.returncode == 78
    assert b"--connect" in done.stderr
