"""A daemon as a process, with real servers, is scraped: what happened is what is read."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcpd.metrics.families import METRICS
from tests.e2e.background import everything, until
from tests.e2e.test_reload import reload
from tests.examples.promtool import promtool
from tests.fixtures.peer import HttpPeer, PeerError, start_daemon

CONFIG = {
    "mcpServers": {
        "good": everything(),
        "missing": {"command": "/no/such/program"},
        "off": {"command": "false", "enabled": False},
    }
}


async def scrape(daemon, **headers: str) -> str:
    reply = await HttpPeer("").raw("GET", url=daemon.base + "/metrics", headers=headers)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return reply.body.decode()


async def read(daemon) -> dict:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(await scrape(daemon))
        for sample in family.samples
    }


def state(found: dict, server: str) -> str:
    states = {key[2][1]: value for key, value in found.items() if key[:2] == ("mcpd_server_state", ("server", server))}
    [now] = [name for name, value in states.items() if value]
    return now


async def test_what_happened_is_what_is_read():
    async with start_daemon(CONFIG) as daemon:

        async def settled() -> bool:
            found = await read(daemon)
            return state(found, "good") == "ready" and state(found, "missing") == "needs-operator"

        await until(settled)
        async with HttpPeer(daemon.url) as peer:
            await peer.initialize()
            await peer.call("echo", {"text": "x"})
            with pytest.raises(PeerError):
                await peer.call("what_a_client_chose")
            found = await read(daemon)
        ok, good, none = ("outcome", "ok"), ("server", "good"), ("server", "")
        call = ("method", "tools/call")
        assert found["mcpd_calls_total", call, ok, good] == 1
        assert found["mcpd_calls_total", call, ("outcome", "refused"), none] == 1
        assert found["mcpd_call_errors_total", ("kind", "invalid-params"), call, none] == 1
        assert found["mcpd_call_duration_seconds_count", call, good] == 1
        assert found["mcpd_call_request_bytes_total", call, good] > 0
        assert found["mcpd_server_starts_total", ("server", "missing")] >= 1
        assert found["mcpd_server_failures_total", ("kind", "not-found"), ("server", "missing")] >= 1
        assert state(found, "off") == "disabled"
        assert sum(value for key, value in found.items() if key[0] == "mcpd_sessions") == 1
        assert found["mcpd_connections",] >= 1
        assert found["process_open_fds",] > 5
        text = await scrape(daemon)
        assert "what_a_client_chose" not in text
        assert "echo" not in text
        assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE mcpd_")} == {
            metric.name for metric in METRICS
        }
        promtool("check", "metrics", text=text)


async def test_a_server_that_is_removed_is_gone_and_reloads_are_counted():
    async with start_daemon(CONFIG) as daemon:
        async with HttpPeer(daemon.url) as peer:
            await peer.initialize()
            await peer.call("echo", {"text": "x"})
        assert 'server="good"' in await scrape(daemon)
        await reload(daemon, {"other": {"command": "false", "enabled": False}})
        assert 'server="good"' not in await scrape(daemon)
        await reload(daemon, "{", word="event=reload_failed")
        found = await read(daemon)
        assert (found["mcpd_reloads_total", ("result", "ok")], found["mcpd_config_last_reload_successful",]) == (1, 0)
        assert found["mcpd_reloads_total", ("result", "failed")] == 1


async def test_a_web_page_cannot_read_them():
    async with start_daemon({"mcpServers": {}}) as daemon:
        for headers, status in (({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 421)):
            reply = await HttpPeer("").raw("GET", url=daemon.base + "/metrics", headers=headers)
            assert reply.status == status
            assert b"mcpd_" not in reply.body
        reply = await HttpPeer("").raw("POST", url=daemon.base + "/metrics", body=b"{}")
        assert reply.status == 405
