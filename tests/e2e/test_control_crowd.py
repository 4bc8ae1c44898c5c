"""The control socket under those who mean no good, or are just very many; with the daemon as a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import partial

import pytest
import trio

from mcpd.control.server import LIMITS
from tests.e2e.backends import mini
from tests.e2e.background import ENVIRONMENT
from tests.e2e.test_control import SOMEBODY_ELSE, controlled, mcpctl
from tests.fixtures.peer import HttpPeer
from tests.supervisor.processes import wait_until

CLIENTS = 1000
LIMIT = 60.0
ASK = b"GET /v1/status HTTP/1.1\r\nHost: mcpd\r\nConnection: close\r\n\r\n"


async def ask(path, data: bytes = ASK) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to these bytes."""
    async with await trio.open_unix_socket(str(path)) as stream:
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            pass  # it was answered before it was read
        answer = b"".join([chunk async for chunk in stream])
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


def memory(pid: int) -> int:
    """KiB that are resident."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


async def test_a_thousand_who_ask_at_once_are_all_answered():
    answers: list[int] = []
    async with controlled({"mcpServers": {"a": mini()}}) as (_daemon, path):

        async def insist() -> None:
            while True:
                status, headers, body = await ask(path)
                if status == 200:
                    answers.append(json.loads(body)["pid"])
                    return
                assert (status, json.loads(body)["code"]) == (503, "busy")
                await trio.sleep(float(headers["retry-after"]))

        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(insist)
    assert len(answers) == CLIENTS


async def test_a_thousand_who_stay_are_bounded_and_keep_nobody_from_calling_tools():
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path):
        await ask(path)
        before = memory(daemon.pid)
        with ExitStack() as stack:
            held = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(CLIENTS)]
            for each in held:
                each.connect(str(path))
            # Those that are too many are told so, and whoever comes now.
            turned_away = held[LIMITS.per_user :]
            for each in turned_away:
                each.settimeout(LIMIT)
                answer = await trio.to_thread.run_sync(each.recv, 4096)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"Retry-After: 1\r\n" in answer
            status, _, body = await ask(path)
            assert (status, json.loads(body)["code"]) == (503, "busy")
            assert memory(daemon.pid) - before < 32 * 1024, "some 20 KiB each"
            assert 0 < daemon.stderr.count("event=connection-refused") < 30, "a line a second, not one for each"
            async with HttpPeer(daemon.url) as peer:
                await peer.initialize()
                assert await peer.call_text("a_echo", {"text": "here"}) == "here"

            def complaints() -> int:
                return daemon.stderr.count("event=connection-refused")

            # There is a complaint a second at most, so only somebody who comes again and again is sure to cause one.
            argv = [sys.executable, "-m", "mcpd.cli.main", "--socket", str(path), "status", "--json"]
            before = complaints()
            with trio.fail_after(LIMIT):
                async with trio.open_nursery() as nursery:
                    process = await nursery.start(
                        partial(trio.run_process, argv, stdout=subprocess.PIPE, env=ENVIRONMENT)
                    )
                    await wait_until(lambda: complaints() > before)
                    for each in held:
                        each.close()
                    output = b"".join([chunk async for chunk in process.stdout])
            assert json.loads(output)["pid"] == daemon.pid
        assert (await mcpctl(path, "status")).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_one_user_leaves_room_for_another():
    async with controlled({"mcpServers": {}}) as (_daemon, path):
        path.parent.chmod(0o755)
        path.chmod(0o666)
        with ExitStack() as stack:
            for _ in range(CLIENTS):
                stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
            status, _, body = await ask(path)
            assert (status, json.loads(body)["message"]) == (503, "all 192 connections that user 0 may have are in use")
            done = await mcpctl(path, "status", program=("-c", SOMEBODY_ELSE))
            assert (done.returncode, done.stderr) == (0, b"")


HALVES = {
    "nothing": b"",
    "half a line": b"POST /v1/rel",
    "half a head": b"POST /v1/reload HTTP/1.1\r\nHost: mcpd\r\n",
    "half a body": b"POST /mcp HTTP/1.1\r\nHost: mcpd\r\nContent-Length: 100\r\n\r\n{",
    "half a chunk": b"POST /mcp HTTP/1.1\r\nHost: mcpd\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{",
}


@pytest.mark.parametrize("data", HALVES.values(), ids=HALVES)
async def test_who_sends_half_a_request_and_leaves_changes_nothing(data):
    async with controlled({"mcpServers": {}}) as (daemon, path):
        for _ in range(50):
            async with await trio.open_unix_socket(str(path)) as stream:
                if data:
                    await stream.send_all(data)
        status, _, body = await ask(path)
        assert (status, json.loads(body)["last_reload"]) == (200, None)
        assert "Traceback" not in daemon.stderr
