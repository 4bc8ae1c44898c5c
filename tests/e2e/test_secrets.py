"""What the operator keeps secret stays so on the way through the whole daemon; and who asks is said."""

from __future__ import annotations

import json
import sys

import pytest

from tests.fixtures.peer import HttpPeer, PeerError, fixture_command, start_daemon

TOKEN = "tok-4f9c2e7b1a"
LEAKY = "import sys; sys.stderr.write('bad token ' + sys.argv[2] + '\\n'); sys.exit(3)"


async def test_a_secret_on_a_childs_stderr_reaches_neither_client_nor_operators_page_nor_log():
    servers = {
        "leaky": {"command": sys.executable, "args": ["-c", LEAKY, "--token", "${TOK}"]},
        "good": {"command": fixture_command("everything")[0], "args": list(fixture_command("everything")[1:])},
    }
    async with start_daemon({"mcpServers": servers}, env={"TOK": TOKEN}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        with pytest.raises(PeerError) as caught:
            await peer.call("leaky_tool", {})
        assert "leaky" in str(caught.value)
        page = await peer.raw("GET", url=f"{daemon.base}/servers")
        described = {each["name"]: each for each in json.loads(page.body)["servers"]}
        assert "bad token ***" in described["leaky"]["error"]
        assert TOKEN not in page.body.decode()
        assert TOKEN not in str(caught.value)
        assert "stderr=bad token ***" in daemon.stderr
        assert TOKEN not in daemon.stderr


async def test_an_elicitation_says_which_of_several_servers_asks():
    command, *args = fixture_command("everything")
    servers = {name: {"command": command, "args": args} for name in ("one", "two")}
    asked = []

    async def answer(params):
        asked.append(params["message"])
        return {"action": "decline"}

    async with start_daemon({"mcpServers": servers}) as daemon, HttpPeer(daemon.url) as peer:
        peer.callbacks["elicitation/create"] = answer
        await peer.initialize(capabilities={"elicitation": {"form": {}}})
        await peer.call("two_test_elicitation", {"message": "Name?"})
    assert asked == ["[two] Name?"]
