"""Every oddity of the quirks server, over both transports, behind one daemon."""

# ruff: noqa: ASYNC110 - processes and remotes tell nothing of what goes on inside them
from __future__ import annotations

import threading
from contextlib import AsyncExitStack

import pytest
import trio

from tests.e2e.backends import QUICK_STOP, fixture, server_state, wait_state
from tests.fixtures.peer import HttpPeer, PeerError, start_daemon, start_fixture
from tests.fixtures.quirks_modes import MODES, modes_for

CASES = [(transport, mode) for transport in ("http", "stdio") for mode in modes_for(transport)]

TEXT = "äöü € 𝄞"

SAYS = {
    "request-202": "HTTP 202",
    "html-200": "text/html",
    "empty-200": "not JSON-RPC",
    "status-500": "HTTP 500",
    "status-429": "HTTP 429: it is busy",
    "wrong-id": "no response to the request",
    "error-id-null": "tripped",
    "error-id-text": "tripped",
    "session-on-400": "tripped",
    "sse-unfinished": "ended without the response",
    "html-always": "text/html",
    "unknown-version": "2099-01-01",
    "version-refused": "it refused initialize: Unsupported protocol version",
    "exit-at-start": "exited with status 3",
    "silent": "it did not say what it is",
}
"""What the error says, for everything that has to fail."""


def name_of(transport: str, mode: str) -> str:
    return f"{transport}-{mode}"


@pytest.fixture(scope="module")
def daemon():
    """One daemon with every mode behind it; it runs in a thread, for each test has a loop of its own."""
    started: list[object] = []
    up = threading.Event()
    tokens = []
    stop = trio.Event()

    async def start_remote(stack: AsyncExitStack, mode: str, servers: dict[str, object]) -> None:
        remote = await stack.enter_async_context(start_fixture("quirks", "--mode", mode))
        servers[name_of("http", mode)] = {"url": remote.url}

    async def run() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with AsyncExitStack() as stack:
            servers: dict[str, object] = {}
            for mode in modes_for("http"):
                await start_remote(stack, mode, servers)
            for mode in modes_for("stdio"):
                timeouts = {"init": 1.5} if mode == "silent" else {}
                servers[name_of("stdio", mode)] = fixture("quirks", "--mode", mode, stop=QUICK_STOP, timeouts=timeouts)
            daemon = await stack.enter_async_context(start_daemon({"mcpServers": servers}))
            started.append(daemon)
            up.set()
            await stop.wait()

    def run_loop() -> None:
        try:
            trio.run(run)
        finally:
            up.set()

    thread = threading.Thread(target=run_loop)
    thread.start()
    up.wait()
    try:
        assert started, "the daemon did not start"
        yield started[0]
    finally:
        tokens[0].run_sync_soon(stop.set)
        thread.join()


def test_every_mode_has_its_words():
    assert set(SAYS) == {mode for mode, about in MODES.items() if about.breaks}


@pytest.mark.parametrize(("transport", "mode"), CASES)
async def test_quirk(daemon, transport, mode):
    name = name_of(transport, mode)
    breaks = MODES[mode].breaks
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize()
        if breaks == "all":
            about = await wait_state(peer, daemon, name, "backing-off")
            assert SAYS[mode] in about["error"]
            return
        await wait_state(peer, daemon, name, "ready")
        assert f"{name}_trip" in [tool["name"] for tool in await peer.list_all("tools/list", "tools")]
        await works(peer, f"{name}_echo")
        if breaks == "trip":
            begun = trio.current_time()
            with pytest.raises(PeerError) as caught:
                await peer.call(f"{name}_trip", {"x": [1, TEXT]})
            assert SAYS[mode] in caught.value.message
            assert trio.current_time() - begun < 30
        else:
            await works(peer, f"{name}_trip", huge=mode == "huge-line")
        await works(peer, f"{name}_echo")
        about = await server_state(peer, daemon, name)
        assert (about["state"], about["restarts"]) == ("ready", 0)
        await particulars(peer, name, mode)


async def works(peer, tool, *, huge=False):
    if huge:
        assert await peer.call_text(tool) == "x" * (8 << 20)
        return
    answer = await peer.call_json(tool, {"x": [1, TEXT]})
    assert answer == {"arguments": {"x": [1, TEXT]}, "text": TEXT}


async def particulars(peer, name, mode):
    """What some modes ask for besides."""
    if mode.startswith("cancelled-"):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def wait():
                with scope:
                    await peer.exchange("tools/call", {"name": f"{name}_wait", "arguments": {}}, request_id="w")

            nursery.start_soon(wait)
            with trio.fail_after(30):
                while not any(
                    each["calls_in_flight"]
                    for each in (await peer.raw("GET", url=peer.url[:-4] + "/servers")).json()["servers"]
                    if each["name"] == name
                ):
                    await trio.sleep(0.01)
            await peer.cancel("w")
            with trio.fail_after(30):
                while "notifications/cancelled" not in (await peer.call_json(f"{name}_seen"))["methods"]:
                    await trio.sleep(0.01)
            scope.cancel()
        await works(peer, f"{name}_echo")
    elif mode == "unknown-tool-text":
        with pytest.raises(PeerError, match="Unknown tool"):
            await peer.call(f"{name}_nonesuch")
    elif mode in ("ask-id-zero", "roots-at-start"):
        with trio.fail_after(30):
            while not (answers := (await peer.call_json(f"{name}_seen"))["answers"]):
                await trio.sleep(0.01)
        assert all(answer["id"] == 0 for answer in answers)
        assert all(("result" in answer) != ("error" in answer) for answer in answers)
    elif mode == "list-changed-burst":
        # Twice on each of the sessions that say so: before they are known to have changed, and after.
        methods = (await peer.call_json(f"{name}_seen"))["methods"]
        assert methods.count("tools/list") <= 2 * methods.count("initialize")
    elif mode in ("cursor-empty", "cursor-repeated", "cursor-endless"):
        tools = [tool["name"] for tool in await peer.list_all("tools/list", "tools")]
        assert [tool for tool in tools if tool.startswith(f"{name}_")] == [
            f"{name}_{tool}" for tool in ("echo", "trip", "wait", "seen")
        ]
