"""The wire of the demo servers: handshake, ids, batches, bad input, the end of input."""

from __future__ import annotations

import json

import pytest

from tests.demo.servers import demo
from tests.fixtures.peer import PeerError


async def test_negotiates_its_newest_version_with_a_newer_client():
    async with demo("calculator") as peer:
        await peer.initialize("2099-01-01")
        assert peer.version == "2025-11-25"


async def test_an_unknown_method_comes_before_everything_else():
    async with demo("calculator") as peer:
        for method in ("server/discover", "prompts/list", "resources/list", "completion/complete"):
            with pytest.raises(PeerError) as refused:
                await peer.request(method, {})
            assert refused.value.code == -32601
        with pytest.raises(PeerError) as early:
            await peer.request("tools/list", {})
        assert early.value.code == -32600
        assert await peer.request("ping") == {}


@pytest.mark.parametrize("request_id", [0, "", "0", -5, 2**60])
async def test_ids_come_back_as_they_were(request_id):
    async with demo("calculator") as peer:
        await peer.initialize()
        params = {"name": "add", "arguments": {"a": 1, "b": 1}}
        answer = await peer.exchange("tools/call", params, request_id=request_id)
        assert (type(answer["id"]), answer["id"]) == (type(request_id), request_id)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense\n", -32700),
        (b"\xff\xfe\n", -32700),
        (b"[" * 100_000 + b"\n", -32700),
        (b"[]\n", -32600),
        (b"7\n", -32600),
        (b'{"id":1,"method":"ping"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":[]}\n', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"none"}}\n', -32602),
    ],
)
async def test_bad_input_is_answered_and_survived(line, code):
    async with demo("calculator") as peer:
        await peer.initialize()
        before = len(peer.received)
        await peer.write(line)
        await peer.wait_until(lambda: len(peer.received) > before)
        assert peer.received[before]["error"]["code"] == code
        assert await peer.request("ping") == {}


async def test_a_line_beyond_the_limit_is_refused_whole():
    async with demo("calculator") as peer:
        await peer.initialize()
        before = len(peer.received)
        await peer.write(b'{"jsonrpc":"2.0","id":9,"method":"ping","params":{"x":"' + b"x" * (40 << 20) + b'"}}\n')
        assert await peer.request("ping") == {}
        assert peer.received[before]["error"]["code"] == -32600
        assert len(peer.received) == before + 2


async def test_stray_answers_and_notifications_are_ignored():
    async with demo("calculator") as peer:
        await peer.initialize()
        before = len(peer.received)
        await peer.write(b'{"jsonrpc":"2.0","id":77,"result":{}}\n\n\r\n')
        await peer.notify("notifications/none")
        await peer.notify("notifications/cancelled", {"requestId": {}})
        assert await peer.request("ping") == {}
        assert len(peer.received) == before + 1


def batch_of(*messages):
    return json.dumps([{"jsonrpc": "2.0", **message} for message in messages]).encode() + b"\n"


async def test_a_batch_has_one_answer_for_each_request():
    async with demo("calculator") as peer:
        await peer.initialize("2025-03-26")
        call = {"id": "c", "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}}
        others = [
            {"method": "notifications/none"},
            {"id": "b", "method": "none"},
            {"id": None, "method": "ping"},
        ]
        before = len(peer.received)
        await peer.write(batch_of({"id": "p", "method": "ping"}, call, *others))
        await peer.wait_until(lambda: len(peer.received) >= before + 4)
        answers = {each["id"]: each for each in peer.received[before:]}
        assert set(answers) == {"p", "c", "b", None}
        assert answers["c"]["result"]["content"][0]["text"] == '{"result": 3}'
        assert answers["b"]["error"]["code"] == -32601


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_batches_are_refused_in_other_versions(version):
    async with demo("calculator") as peer:
        await peer.initialize(version)
        before = len(peer.received)
        await peer.write(batch_of({"id": 5, "method": "ping"}))
        await peer.wait_until(lambda: len(peer.received) > before)
        assert peer.received[before]["error"]["code"] == -32600


async def test_input_that_ends_early_still_gets_its_answers():
    async with demo("calculator") as peer:
        await peer.initialize()
        params = {"name": "multiply", "arguments": {"a": 6, "b": 7}}
        request = {"jsonrpc": "2.0", "id": "last", "method": "tools/call", "params": params}
        await peer.write(json.dumps(request).encode() + b"\n")
        assert await peer.close_stdin() == 0
        await peer.wait_closed()
        assert peer.received[-1]["id"] == "last"
        assert peer.stderr == ""


async def test_the_end_of_input_ends_calls_that_wait():
    async with demo("clock") as peer:
        await peer.initialize()
        params = {"name": "countdown", "arguments": {"seconds": 3600}, "_meta": {"progressToken": 1}}
        await peer.write(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params}).encode())
        await peer.write(b"\n")
        await peer.wait_notifications("notifications/progress")
        assert await peer.close_stdin() == 0


async def test_a_running_call_delays_nothing():
    async with demo("clock") as peer:
        await peer.initialize()
        params = {"name": "countdown", "arguments": {"seconds": 3600}, "_meta": {"progressToken": 1}}
        await peer.write(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params}).encode())
        await peer.write(b"\n")
        await peer.wait_notifications("notifications/progress")
        assert await peer.call_text("countdown", {"seconds": 0}) == "0 seconds are over."
        assert (await peer.call_json("now"))["timezone"] == "UTC"


async def test_prints_nothing_but_messages():
    async with demo("notes") as peer:
        await peer.initialize()
        await peer.call("add_note", {"title": "ünïcode \u2028 \x00", "text": "line\nbreak"})
        assert peer.junk == []
