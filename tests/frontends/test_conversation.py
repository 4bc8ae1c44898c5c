"""A conversation over a connection that carries everything, with an outlet that remembers what it was
given."""

from __future__ import annotations

import json

import pytest
import trio

from mcpd.config.model import Config
from mcpd.errors import ProtocolError
from mcpd.frontends.conversation import Conversation
from tests.frontends.rig import ScriptedGateway, make_sessions, modern_request

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


class Outlet:
    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.full = False
        self.queued = 0
        self._room = trio.Event()

    def send(self, parts) -> bool:
        if self.full:
            return False
        self.sent.append(json.loads(b"".join(bytes(part) for part in parts)))
        return True

    async def answer(self, parts) -> None:
        await trio.lowlevel.checkpoint()
        if self.full:
            await self._room.wait()
        self.send(parts)

    def make_room(self) -> None:
        self.full = False
        self._room.set()

    def of(self, id: object) -> dict:
        [message] = [each for each in self.sent if each.get("id") == id and "method" not in each]
        return message


class Scene:
    def __init__(self, directory, nursery, calls_max: int = 9) -> None:
        sessions = make_sessions(directory, Config())
        self.gateway = ScriptedGateway(sessions)
        self.session = sessions.connect("")
        self.outlet = Outlet()
        self.conversation = Conversation(self.gateway, self.session, self.outlet, nursery, calls_max)

    async def say(self, *messages: object) -> None:
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            await self.conversation.take(self.conversation.read(data))
        await trio.testing.wait_all_tasks_blocked()


def request(id: object, method: str = "tools/call", **params: object) -> dict:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def initialize(version: str) -> dict:
    return {**INITIALIZE, "params": {**INITIALIZE["params"], "protocolVersion": version}}


async def hang(talk) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def empty(talk) -> bytes:
    return b"{}"


async def test_initialize_agrees_once(tmp_path, nursery):
    scene = Scene(tmp_path, nursery)
    await scene.say(initialize("2025-06-18"))
    assert scene.outlet.of(0)["result"]["protocolVersion"] == "2025-06-18"
    assert scene.session.caller.version.text == "2025-06-18"
    await scene.say({**INITIALIZE, "id": 1})
    assert scene.outlet.of(1)["error"]["code"] == -32600
    assert scene.session.caller.version.text == "2025-06-18"


async def test_requests_before_initialize_are_refused_but_for_ping(tmp_path, nursery):
    scene = Scene(tmp_path, nursery)
    scene.gateway.scripts = {"ping": empty, "tools/call": empty}
    await scene.say(request("p", "ping"), request("t"))
    assert scene.outlet.of("p")["result"] == {}
    assert "initialize" in scene.outlet.of("t")["error"]["message"]


async def test_initialize_without_a_version_is_refused(tmp_path, nursery):
    scene = Scene(tmp_path, nursery)
    await scene.say({**INITIALIZE, "params": {}})
    assert scene.outlet.of(0)["error"]["code"] == -32602


async def test_everything_about_a_call_goes_to_the_client(tmp_path, nursery):
    scene = Scene(tmp_path, nursery)

    async def talkative(talk) -> bytes:
        talk.notify("notifications/progress", progress=1)
        answer = await talk.ask("roots/list", b"{}")
        talk.part()
        return bytes(answer)

    scene.gateway.scripts["tools/call"] = talkative
    await scene.say(INITIALIZE, request(1))
    progress, question = scene.outlet.sent[1:]
    assert progress["method"] == "notifications/progress"
    await scene.say({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": [1]}})
    assert scene.outlet.of(1)["result"] == {"roots": [1]}


async def test_a_cancelled_request_gets_no_answer_and_the_other_does(tmp_path, nursery):
    scene = Scene(tmp_path, nursery)
    scene.gateway.scripts = {"tools/call": hang, "ping": empty}
    await scene.say(INITIALIZE, request(1), request("1"))
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    await scene.say(cancel, cancel, request(2, "ping"))
    assert scene.gateway.cancelled == ["1"]
    assert list(scene.session.calls) == [b'"1"']
    assert [each.get("id") for each in scene.outlet.sent] == [0, 2]


async def test_a_cancellation_in_the_same_breath_counts(tmp_path, nursery):
    scene = Scene(tmp_path, nursery)
    scene.gateway.scripts = {"tools/call": hang}
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    await scene.say(INITIALIZE, request(1), cancel)
    assert not scene.session.calls
    assert [each["id"] for each in scene.outlet.sent] == [0]


async def test_an_id_in_use_and_one_call_too_many(tmp_path, nursery):
    scene = Scene(tmp_path, nursery, calls_max=2)
    scene.gateway.scripts = {"tools/call": hang}
    await scene.say(INITIALIZE, request(1), request(1))
    assert "in use" in scene.outlet.of(1)["error"]["message"]
    await scene.say(request(2), request(3))
    assert "limits.calls_per_session" in scene.outlet.of(3)["error"]["message"]
    assert list(scene.session.calls) == [b"1", b"2"]


async def test_a_bug_fails_one_call_and_is_logged(tmp_path, nursery, caplog):
    scene = Scene(tmp_path, nursery)

    async def broken(talk) -> bytes:
        raise KeyError("secret detail")

    scene.gateway.scripts = {"tools/call": broken, "ping": empty}
    await scene.say(INITIALIZE, request(1), request(2, "ping"))
    assert scene.outlet.of(1)["error"]["code"] == -32603
    assert "secret" not in scene.outlet.of(1)["error"]["message"]
    assert "secret detail" in caplog.text
    assert scene.outlet.of(2)["result"] == {}
    assert not scene.session.calls


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_batches_are_of_one_version(tmp_path, nursery, version):
    scene = Scene(tmp_path, nursery)
    scene.gateway.scripts = {"ping": empty}
    await scene.say(initialize(version))
    batch = json.dumps([request(1, "ping"), 7, request(2, "ping")]).encode()
    if version != "2025-03-26":
        with pytest.raises(ProtocolError):
            scene.conversation.read(batch)
        return
    await scene.say(batch)
    assert {each["id"] for each in scene.outlet.sent} == {0, 1, 2, None}


async def test_a_batch_with_a_modern_element_is_refused_whole(tmp_path, nursery):
    scene = Scene(tmp_path, nursery)
    scene.gateway.scripts = {"ping": empty}
    await scene.say(initialize("2025-03-26"))
    with pytest.raises(ProtocolError) as caught:
        scene.conversation.read(json.dumps([request(1, "ping"), modern_request(2, "ping")]).encode())
    assert caught.value.code == -32600


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"nonsense",
        b"7",
        b'"text"',
        b"null",
        b"{}",
        b'{"jsonrpc":"2.0","id":{},"method":"ping"}',
        b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"} trailing',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
)
async def test_what_is_no_message_is_refused(tmp_path, nursery, data):
    scene = Scene(tmp_path, nursery)
    with pytest.raises(ProtocolError):
        scene.conversation.read(data)
