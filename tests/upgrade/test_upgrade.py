"""Why an upgrade is called off, and that everything goes on then. The rest is seen from outside, in `tests/e2e`."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.config.model import Config, Limits
from mcpd.gateway.gateway import Gateway
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.roster import Roster
from mcpd.supervisor.supervisor import Supervisor
from mcpd.systemd.manager import Manager
from mcpd.upgrade import check
from mcpd.upgrade.check import UpgradeRefused
from mcpd.upgrade.upgrade import Upgrade
from tests.wire.http_peer import TEXT, Client, post, serving


@pytest.fixture(autouse=True)
def no_leap(monkeypatch):
    """The new code comes up at once, and there is no interpreter for the exec: it is always the last thing to fail."""
    sound = [sys.executable, "-c", ""]
    monkeypatch.setattr(check, "command", lambda: sound)
    monkeypatch.setattr(sys, "orig_argv", ["python"])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


class Rig:
    def __init__(self, upgrade, gateway, at, done) -> None:
        self.upgrade = upgrade
        self.gateway = gateway
        self.at = at
        self.done = done
        self.stopping = False


@asynccontextmanager
async def rig(tmp_path, grace=0.05):
    limits = Limits()
    vault = Vault(tmp_path, now=0, session_age=limits.session_age)
    gateway = Gateway(Config(), sessions=Sessions(vault, limits, clock=lambda: 0.0, first_serial=1))
    done = trio.Event()

    async def slow(request) -> None:
        if request.body == b"slow":
            await done.wait()
        request.answer(200, TEXT, b"done")

    async with serving(slow) as at:
        found = Rig(None, gateway, at, done)
        found.upgrade = Upgrade(
            supervisor=Supervisor(None),
            roster=Roster(),
            gateway=gateway,
            server=at.server,
            sockets=[],
            manager=Manager(),
            grace=lambda: grace,
            stopping=lambda: found.stopping,
        )
        yield found


async def refused(found: Rig, reason: str) -> None:
    with pytest.raises(UpgradeRefused, match=reason):
        await found.upgrade.run()
    assert not found.gateway.gate.closed, "everything goes on"


async def test_without_an_interpreter_it_is_called_off(tmp_path):
    async with rig(tmp_path) as found:
        await refused(found, "/nowhere/python cannot take over")
        await refused(found, "/nowhere/python cannot take over")


async def test_a_request_that_takes_too_long_calls_it_off_and_is_answered(tmp_path):
    async with rig(tmp_path) as found, await found.at.connect() as stream:
        client = Client(stream)
        await client.send(post(b"slow"))
        await wait_all_tasks_blocked()
        await refused(found, r"1 requests are still being answered after 0.05 s \(shutdown.grace\)")
        found.done.set()
        assert (await client.answer())[2] == b"done"


async def test_a_request_that_ends_in_time_does_not(tmp_path, nursery):
    async with rig(tmp_path, grace=30) as found, await found.at.connect() as stream:
        client = Client(stream)
        await client.send(post(b"slow"))
        await wait_all_tasks_blocked()

        async def end_it() -> None:
            while not found.gateway.gate.closed:  # noqa: ASYNC110 - it is closed without a word
                await trio.sleep(0.005)
            found.done.set()

        nursery.start_soon(end_it)
        await refused(found, "/nowhere/python cannot take over")
        assert (await client.answer())[2] == b"done"


async def test_a_call_in_flight_calls_it_off(tmp_path):
    async with rig(tmp_path) as found:
        found.gateway.in_flight = 2
        await refused(found, "2 calls are still in flight")


async def test_a_daemon_that_stops_is_not_upgraded(tmp_path):
    async with rig(tmp_path) as found:
        found.stopping = True
        await refused(found, "mcpd is stopping")


async def test_one_at_a_time(tmp_path, nursery):
    async with rig(tmp_path, grace=30) as found:
        found.gateway.in_flight = 1
        nursery.start_soon(refused, found, "cannot take over")
        await wait_all_tasks_blocked()
        with pytest.raises(UpgradeRefused, match="under way already"):
            await found.upgrade.run()
        found.gateway.in_flight = 0
        with trio.fail_after(30):
            while found.gateway.gate.closed or found.upgrade._running:  # noqa: ASYNC110 - the same
                await trio.sleep(0.005)


async def test_requests_are_not_held_back_in_an_mcpd_that_is_to_stop(tmp_path):
    async with rig(tmp_path, grace=30) as found:
        found.gateway.in_flight = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, found, "mcpd is stopping")
            await until(lambda: found.gateway.gate.closed)
            found.stopping = True
            with trio.fail_after(5):
                await until(lambda: not found.gateway.gate.closed)
        found.gateway.in_flight = 0


async def test_who_is_asked_can_answer(tmp_path):
    """What a parked call waits for is a request."""
    async with rig(tmp_path, grace=30) as found:
        gateway = found.gateway
        gateway.in_flight = gateway.inputs.parked = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, found, "cannot take over")
            await until(lambda: found.upgrade._running)
            for _ in range(5):
                await trio.sleep(0.02)
                assert not gateway.gate.closed
            gateway.inputs.parked = 0
            await until(lambda: gateway.gate.closed)
            gateway.inputs.parked = 1  # it is asked once more
            await until(lambda: not gateway.gate.closed)
            gateway.in_flight = gateway.inputs.parked = 0


async def until(condition) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.002)
