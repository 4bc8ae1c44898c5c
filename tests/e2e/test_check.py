"""`mcpctl check`, with the daemon as a process."""

from __future__ import annotations

import json

from tests.e2e.backends import mini
from tests.e2e.background import alive, children
from tests.e2e.test_control import controlled, mcpctl
from tests.fixtures.peer import HttpPeer

SECRET = "a-secret-of-this-server"


def shell(script, **more):
    return {"command": "sh", "args": ["-c", script], **more}


async def check(path, name):
    done = await mcpctl(path, "check", name, "--json")
    return done.returncode, json.loads(done.stdout)


async def test_a_server_is_tried_beside_the_one_that_runs():
    config = {"mcpServers": {"a": mini(), "off": mini(enabled=False)}}
    async with controlled(config) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        pid = await peer.call_text("a_pid")
        for name in ("a", "off"):
            code, about = await check(path, name)
            assert (code, about["ok"], about["server"]["name"], about["tools"]) == (0, True, "mini", 11)
            assert 0 < about["seconds"] < 30
            assert "pid" not in about
        assert await peer.call_text("a_pid") == pid
        assert children(daemon.pid) == [int(pid)], "nothing of it is left"
        listed = [tool["name"] for tool in await peer.list_all("tools/list", "tools")]
        assert not [name for name in listed if name.startswith("off_")]


async def test_why_it_does_not_come_up_is_said():
    config = {
        "mcpServers": {
            "none": {"command": "/none", "enabled": False},
            "exits": shell("echo it wants $KEY >&2; exit 3", env={"KEY": SECRET}, enabled=False),
            "hangs": shell("exec sleep 600", timeouts={"init": 0.3}, enabled=False),
            "gone": {"url": "http://127.0.0.1:1/mcp", "enabled": False},
        }
    }
    async with controlled(config) as (daemon, path):
        kinds = {}
        for name in config["mcpServers"]:
            code, about = await check(path, name)
            assert (code, about["ok"], bool(about["failure"]["remedy"])) == (1, False, True)
            kinds[name] = about["failure"]["kind"]
            if name == "exits":
                assert "it wants ***" in about["stderr"]
                assert SECRET not in json.dumps(about)
        assert kinds == {
            "none": "not-found",
            "exits": "exited-in-handshake",
            "hangs": "timed-out",
            "gone": "connection-refused",
        }
        assert [pid for pid in children(daemon.pid) if alive(pid)] == []
