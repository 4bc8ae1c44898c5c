"""What happens when a backend takes too long, over both kinds of carrier."""

# ruff: noqa: ASYNC110 - processes and remotes tell nothing of what goes on inside them
from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from tests.e2e.backends import fixture, mini, server_state, wait_state
from tests.fixtures.peer import HttpPeer, PeerError, start_daemon, start_fixture

SHORT = {"call_idle": 0.8, "call_max": 2.4}
"""Seconds; progress comes every tenth of one, and a busy machine has some time for it."""


@asynccontextmanager
async def daemon_with(kind, era="modern", *, timeouts):
    """The daemon with the everything server as `e`, and an undisturbed one as `other`."""
    async with AsyncExitStack() as stack:
        if kind == "stdio":
            server = fixture("everything", "--era", era)
        else:
            remote = await stack.enter_async_context(start_fixture("everything", "--era", era))
            server = {"url": remote.url if kind == "http" else remote.base + "/sse", "instances": "shared"}
        config = {"mcpServers": {"e": {**server, "timeouts": timeouts}, "other": mini()}}
        daemon = await stack.enter_async_context(start_daemon(config))
        peer = await stack.enter_async_context(HttpPeer(daemon.url))
        await peer.initialize()
        await wait_state(peer, daemon, "e", "ready")
        yield daemon, peer


BOTH_ERAS = [(kind, era) for kind in ("stdio", "http") for era in ("legacy", "modern")]


@pytest.mark.parametrize(("kind", "era"), [*BOTH_ERAS, ("sse", "legacy")])
async def test_a_call_that_hangs(kind, era):
    async with daemon_with(kind, era, timeouts=SHORT) as (daemon, peer), trio.open_nursery() as nursery:
        held = []

        async def hold():
            held.append(await peer.call_text("other_hold"))

        nursery.start_soon(hold)
        begun = trio.current_time()
        with pytest.raises(PeerError) as caught:
            await peer.call("e_hang")
        assert 0.8 <= trio.current_time() - begun < 30, "the setting counts, and not the defaults of a minute and more"
        assert "no answer to tools/call in 0.8 s" in caught.value.message
        assert "raise servers.e.timeouts.call_idle" in caught.value.message
        assert caught.value.data["backend"] == "e"
        assert await peer.call_text("other_echo", {"text": "fine", "release": True}) == "fine"
        with trio.fail_after(30):
            while (await peer.call_json("e_stats"))["cancelled"] != 1:
                await trio.sleep(0.02)
            while not held:
                await trio.sleep(0.02)
        assert held == ["released"]
        about = await server_state(peer, daemon, "e")
        assert (about["state"], about["restarts"]) == ("ready", 0)


@pytest.mark.parametrize(("kind", "era"), BOTH_ERAS)
async def test_progress_keeps_a_call_alive_up_to_the_maximum(kind, era):
    async with daemon_with(kind, era, timeouts=SHORT) as (_, peer):

        async def sleep_in_time():
            assert await peer.call_text("e_sleep", {"seconds": 1.6}, meta={"progressToken": "p"}) == "slept"
            said = peer.notifications("notifications/progress")
            assert len([each for each in said if each["progressToken"] == "p"]) >= 6

        async def sleep_too_long():
            with pytest.raises(PeerError, match=r"in 2.4 s \(raise servers.e.timeouts.call_max"):
                await peer.call("e_sleep", {"seconds": 30}, meta={"progressToken": "q"})

        async def sleep_silently():
            with pytest.raises(PeerError, match="call_idle"):
                await peer.call("e_sleep", {"seconds": 30})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep_in_time)
            nursery.start_soon(sleep_too_long)
            nursery.start_soon(sleep_silently)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_cancel_means_cancel_and_only_that_call(era):
    async with daemon_with("stdio", era, timeouts={}) as (_, peer), trio.open_nursery() as nursery:
        results = []

        async def sleep(request_id):
            results.append(
                await peer.exchange(
                    "tools/call", {"name": "e_sleep", "arguments": {"seconds": 0.5}}, request_id=request_id
                )
            )

        async def hang():
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await peer.exchange("tools/call", {"name": "e_hang", "arguments": {}}, request_id="hanging")

        scopes = []
        nursery.start_soon(sleep, "sleeping")
        nursery.start_soon(hang)
        with trio.fail_after(30):
            while (await peer.call_json("e_stats"))["calls"] < 3:
                await trio.sleep(0.02)
        await peer.cancel("hanging")
        with trio.fail_after(30):
            while (await peer.call_json("e_stats"))["cancelled"] != 1:
                await trio.sleep(0.02)
            while not results:
                await trio.sleep(0.02)
        assert results[0]["result"]["content"][0]["text"] == "slept"
        scopes[0].cancel()


async def test_a_start_that_takes_too_long():
    config = {"mcpServers": {"slow": mini("hang", timeouts={"init": 0.3}), "other": mini()}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        about = await wait_state(peer, daemon, "slow", "backing-off")
        assert "it did not say what it is in 0.3 s" in about["error"]
        assert "servers.slow.timeouts.init" in about["error"]
        assert await peer.call_text("other_echo", {"text": "fine"}) == "fine"
