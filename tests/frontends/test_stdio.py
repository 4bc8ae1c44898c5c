"""The stdio front on real pipes, with a scripted gateway behind it."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager

import pytest
import trio

from mcpd.config.model import KIB, Config, Limits
from mcpd.frontends.stdio import EOF_GRACE, FileReader, serve_stdio
from mcpd.supervisor.pipes import PipeReader, PipeWriter
from tests.frontends.rig import ScriptedGateway, make_sessions, modern_request
from tests.frontends.test_conversation import INITIALIZE, empty, hang, request


class Client:
    """The client's ends of the two pipes."""

    def __init__(self, gateway: ScriptedGateway, stdin: int, stdout: int) -> None:
        self.gateway = gateway
        self.stdin = trio.lowlevel.FdStream(stdin)
        self.stdout = trio.lowlevel.FdStream(stdout)
        self.ended = trio.Event()
        self._rest = b""

    async def say(self, *messages: object) -> None:
        lines = [m if isinstance(m, bytes) else json.dumps(m).encode() + b"\n" for m in messages]
        await self.stdin.send_all(b"".join(lines))

    async def hear(self) -> dict | None:
        """The next message; None at the end."""
        while b"\n" not in self._rest:
            data = await self.stdout.receive_some()
            if not data:
                assert not self._rest
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def hear_all(self) -> list[dict]:
        found = []
        while (message := await self.hear()) is not None:
            found.append(message)
        return found


@asynccontextmanager
async def serving(directory, config: Config | None = None):
    config = config or Config()
    gateway = ScriptedGateway(make_sessions(directory, config))
    gateway.scripts["ping"] = empty
    (their_in, our_in), (our_out, their_out) = reversed(os.pipe()), reversed(os.pipe())
    client = Client(gateway, their_in, their_out)
    reader, writer = PipeReader(our_in), PipeWriter(our_out)

    async def serve() -> None:
        await serve_stdio(gateway, config, reader, writer)
        writer.close()
        client.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        nursery.start_soon(serve)
        async with client.stdin, client.stdout:
            yield client
        nursery.cancel_scope.cancel()
    reader.close()
    writer.close()


async def test_one_message_a_line_until_stdin_ends(tmp_path):
    async with serving(tmp_path) as client:
        await client.say(INITIALIZE, b"\r\n", b"\n", request(1, "ping"))
        assert [(await client.hear())["id"] for _ in range(2)] == [0, 1]
        await client.stdin.aclose()
        assert await client.hear() is None
        await client.ended.wait()
        assert not client.gateway.sessions


async def test_what_is_asked_before_the_end_is_answered(tmp_path):
    async with serving(tmp_path) as client:

        async def soon(talk) -> bytes:
            await trio.sleep(0.05)
            return b"{}"

        client.gateway.scripts["tools/call"] = soon
        await client.say(INITIALIZE, request(1), request(2))
        await client.stdin.aclose()
        assert {each["id"] for each in await client.hear_all()} == {0, 1, 2}


async def test_a_call_that_does_not_end_keeps_nobody(tmp_path, autojump_clock):
    async with serving(tmp_path) as client:
        client.gateway.scripts["tools/call"] = hang
        await client.say(INITIALIZE, request(1))
        await client.gateway.started.wait()
        before = trio.current_time()
        await client.stdin.aclose()
        await client.ended.wait()
        assert trio.current_time() - before == pytest.approx(EOF_GRACE)
        assert client.gateway.cancelled == ["1"]


async def test_both_eras_on_one_pipe(tmp_path):
    async with serving(tmp_path) as client:

        async def done(round) -> bytes:
            return b'{"resultType":"complete"}'

        client.gateway.modern.scripts |= {"server/discover": done, "tools/call": hang}
        await client.say(modern_request(1, "server/discover"), request(2))
        answers = {each["id"]: each for each in [await client.hear() for _ in range(2)]}
        await client.say(INITIALIZE, request(3, "ping"), modern_request(4), modern_request(5, "server/discover"))
        answers |= {each["id"]: each for each in [await client.hear() for _ in range(3)]}
        assert answers[1]["result"] == answers[5]["result"] == {"resultType": "complete"}
        assert answers[2]["error"]["code"] == -32600
        assert answers[0]["result"]["protocolVersion"] == "2025-11-25"
        assert answers[3]["result"] == {}
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}}
        await client.say(cancelled, request(6, "ping"))
        assert (await client.hear())["id"] == 6
        assert client.gateway.cancelled == ["4"]


async def test_what_only_waits_for_the_client_does_not_delay_the_end(tmp_path, autojump_clock):
    async with serving(tmp_path) as client, trio.open_nursery() as nursery:

        async def park(round) -> None:
            async def ask() -> None:
                round.turn.settle((b'{"resultType":"input_required"}', None))

            nursery.start_soon(ask)
            await trio.sleep_forever()

        client.gateway.modern.scripts["tools/call"] = park
        await client.say(modern_request(1), modern_request(2, "subscriptions/listen"))
        heard = [await client.hear() for _ in range(2)]
        assert sorted(each.get("method", "answer") for each in heard) == ["ack", "answer"]
        before = trio.current_time()
        await client.stdin.aclose()
        await client.ended.wait()
        assert trio.current_time() - before < 1
        assert sorted(client.gateway.cancelled) == ["1", "2"]


async def test_a_modern_response_waits_for_a_slow_reader(tmp_path):
    config = Config(limits=Limits(stream_queue=64 * KIB))
    async with serving(tmp_path, config) as client:

        async def big(round) -> bytes:
            return b'"%b"' % (b"x" * 1_000_000)

        client.gateway.modern.scripts["tools/call"] = big
        await client.say(*(modern_request(number) for number in range(20)))
        answers = [await client.hear() for _ in range(20)]
        assert {each["id"] for each in answers} == set(range(20))


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b"[1]\n", b"\xff\n", b"[" * 9999 + b"\n"])
async def test_a_bad_line_is_answered_and_harms_nothing(tmp_path, line):
    async with serving(tmp_path) as client:
        await client.say(INITIALIZE, line, request(1, "ping"))
        answers = [await client.hear() for _ in range(3)]
        assert [each["id"] for each in answers] == [0, None, 1]
        assert answers[1]["error"]["code"] in (-32700, -32600)


async def test_an_overlong_line_is_answered_once(tmp_path):
    async with serving(tmp_path, Config(limits=Limits(message=4096))) as client:
        await client.say(INITIALIZE, b"x" * 20000, b"x" * 20000 + b"\n", request(1, "ping"))
        answers = [await client.hear() for _ in range(3)]
        assert [each["id"] for each in answers] == [0, None, 1]
        assert "limits.message" in answers[1]["error"]["message"]


async def test_a_client_that_does_not_read_is_not_read_from_and_loses_no_response(tmp_path):
    config = Config(limits=Limits(stream_queue=256 * KIB))
    async with serving(tmp_path, config) as client, trio.open_nursery() as nursery:

        async def big(talk) -> bytes:
            return b'"%b"' % (b"x" * 100_000)

        client.gateway.scripts["tools/call"] = big
        sent = 0

        async def flood() -> None:
            nonlocal sent
            await client.say(INITIALIZE)
            for number in range(1, 101):
                # Each fills the pipe with more than the reader takes at once.
                await client.say(request(number, text="y" * 60_000))
                sent = number

        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sent < 30
        answers = []
        while len(answers) < 101:
            answers.append(await client.hear())
        assert {each["id"] for each in answers} == set(range(101))


async def test_a_response_larger_than_the_queue_passes(tmp_path):
    config = Config(limits=Limits(stream_queue=64 * KIB))
    async with serving(tmp_path, config) as client:

        async def big(talk) -> bytes:
            return b'"%b"' % (b"x" * 10_000_000)

        client.gateway.scripts["tools/call"] = big
        await client.say(INITIALIZE, request(1), request(2), request(3))
        answers = [await client.hear() for _ in range(4)]
        assert sorted(len(each["result"]) for each in answers[1:]) == [10_000_000] * 3


async def test_notifications_are_dropped_when_nobody_reads(tmp_path):
    config = Config(limits=Limits(stream_queue=64 * KIB))
    async with serving(tmp_path, config) as client:

        async def chatter(talk) -> bytes:
            for _ in range(10_000):
                talk.notify("notifications/message", level="info", data="x" * 1000)
            return b"{}"

        client.gateway.scripts["tools/call"] = chatter
        await client.say(INITIALIZE, request(1))
        heard = []
        while not heard or heard[-1].get("id") != 1:
            heard.append(await client.hear())
        assert 10 < len(heard) < 5000


async def test_a_client_that_closes_stdout_is_gone(tmp_path):
    async with serving(tmp_path) as client:
        await client.say(INITIALIZE)
        await client.hear()
        await client.stdout.aclose()
        with trio.fail_after(30):
            while not client.ended.is_set():
                # Only by writing does mcpd learn that nobody reads.
                try:
                    await client.say(request(1, "ping"))
                except trio.BrokenResourceError:
                    break
                await trio.sleep(0.001)
        await client.ended.wait()


async def test_input_may_be_a_file(tmp_path):
    file = tmp_path / "requests"
    file.write_bytes(b"one\ntwo\n")
    fd = os.open(file, os.O_RDONLY)
    reader = FileReader(fd)
    assert await reader.receive_some() == b"one\ntwo\n"
    assert await reader.receive_some() == b""
    os.close(fd)
