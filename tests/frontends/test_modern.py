"""Modern requests over Streamable HTTP on a real port, with a scripted gateway behind it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import trio

from mcpd.config.model import Config, Limits
from mcpd.config.model import Streams as Times
from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, RpcError
from mcpd.frontends.modern import MIRRORED_MAX, ModernHttp
from mcpd.protocol.capabilities import ClientCapability
from tests.fixtures.peer import HttpPeer, Reply, open_request
from tests.fixtures.peer_wire import read_head, read_reply
from tests.frontends.rig import META, envelope, modern_headers, modern_request, serve_front, until

CALL = modern_request("a1", name="t")
LISTEN = modern_request("l1", "subscriptions/listen", notifications={"toolsListChanged": True})
DONE = b'{"resultType":"complete"}'


async def done(round) -> bytes:
    return DONE


async def hang(round) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def post(url: str, message=CALL, body: bytes | None = None, **headers: str | None) -> Reply:
    """POSTs a modern message; a header that is None is left out."""
    fields = {name: value for name, value in {**modern_headers(message), **headers}.items() if value is not None}
    data = json.dumps(message).encode() if body is None else body
    with trio.fail_after(10):
        async with open_request("POST", url, fields, data) as exchange:
            return await read_reply(exchange)


class KeepAlive:
    """A connection that carries one request after the other."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def send(self, message) -> None:
        data = json.dumps(message).encode()
        fields = {"Host": "localhost", **modern_headers(message), "Content-Length": len(data)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self._stream.send_all(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + data)

    async def hear(self) -> Reply:
        with trio.fail_after(10):
            return await read_reply(await read_head(self._stream))


@asynccontextmanager
async def keep_alive(url: str):
    parts = urlsplit(url)
    async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
        yield KeepAlive(stream)


class Park:
    """A call that settles its first turn from another task and is woken by a later one."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.answer = trio.Event()
        self.parked = trio.Event()
        self.first = None

    async def __call__(self, round) -> bytes | None:
        if "inputResponses" in round.members:
            self.answer.set()
            return DONE
        self.first = round.turn
        self.nursery.start_soon(self._ask, round.turn)
        await self.answer.wait()
        return None

    async def _ask(self, turn) -> None:
        turn.settle((b'{"resultType":"input_required","requestState":"s"}', None))
        self.parked.set()


# ---- the ladder


WRONG_META = [
    ({}, "protocolVersion"),
    (envelope(None), "protocolVersion"),
    (envelope(7), "protocolVersion"),
    (envelope(clientCapabilities=None), "clientCapabilities"),
    (envelope(clientCapabilities=[]), "clientCapabilities"),
    (envelope(clientInfo="me"), "clientInfo"),
    (envelope(logLevel="loud"), "logLevel"),
]


@pytest.mark.parametrize(("meta", "named"), WRONG_META)
async def test_the_envelope_is_complete(tmp_path, meta, named):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        reply = await post(front.url, modern_request("a1", meta=meta, name="t"))
        message = reply.json()
        assert (reply.status, message["id"], message["error"]["code"]) == (400, "a1", -32602)
        assert named in message["error"]["message"]
        assert not front.gateway.modern.rounds


@pytest.mark.parametrize(
    "headers",
    [
        {"MCP-Protocol-Version": None},
        {"MCP-Protocol-Version": "2025-11-25"},
        {"MCP-Protocol-Version": "v999"},
        {"MCP-Protocol-Version": ""},
        {"Mcp-Method": None},
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "TOOLS/CALL"},
        {"Mcp-Name": None},
        {"Mcp-Name": "other"},
        {"Mcp-Name": "=?base64?!!?="},
    ],
)
async def test_the_headers_say_what_the_body_says(tmp_path, headers):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        reply = await post(front.url, **headers)
        assert (reply.status, reply.json()["id"], reply.json()["error"]["code"]) == (400, "a1", -32020)
        assert not front.gateway.modern.rounds


@pytest.mark.parametrize(
    ("method", "params"),
    [("prompts/get", {"name": "p"}), ("resources/read", {"uri": "test://x"}), ("tools/list", {})],
)
async def test_every_method_is_held_against_its_headers(tmp_path, method, params):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts[method] = done
        message = modern_request(1, method, **params)
        assert (await post(front.url, message)).status == 200
        assert (await post(front.url, message, **{"Mcp-Method": "x"})).json()["error"]["code"] == -32020
        if params:
            assert (await post(front.url, message, **{"Mcp-Name": "x"})).json()["error"]["code"] == -32020


async def test_header_names_have_any_case_and_values_may_be_wrapped(tmp_path):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        headers = {"MCP-PROTOCOL-VERSION": "2026-07-28", "mcp-method": "  tools/call ", "mCp-NaMe": "=?base64?dA==?="}
        plain = {"MCP-Protocol-Version": None, "Mcp-Method": None, "Mcp-Name": None}
        assert (await post(front.url, **plain, **headers)).status == 200


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
async def test_a_header_that_routes_comes_once(tmp_path, name):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        again = {name.lower(): modern_headers(CALL)[name]}
        reply = await post(front.url, **again)
        assert (reply.status, reply.json()["id"], reply.json()["error"]["code"]) == (400, "a1", -32020)
        assert name in reply.json()["error"]["message"]


@pytest.mark.parametrize("version", ["2027-01-01", "v999.0.0", "2025-11-25", ""])
async def test_the_version_is_one_that_mcpd_speaks(tmp_path, version):
    async with serve_front(tmp_path) as front:
        message = modern_request(7, meta=envelope(version), name="t")
        reply = await post(front.url, message, **{"MCP-Protocol-Version": version})
        error = reply.json()["error"]
        assert (reply.status, reply.json()["id"], error["code"]) == (400, 7, -32022)
        assert error["data"] == {"supported": ["2026-07-28"], "requested": version}


BOOL = {"type": "boolean", "x-mcp-header": "Dry"}
REGION = {"type": "string", "x-mcp-header": "Region"}
COUNT = {"type": "integer", "x-mcp-header": "Count"}


@pytest.mark.parametrize(
    ("arguments", "headers", "status"),
    [
        ({"region": "us"}, {"Mcp-Param-Region": "us"}, 200),
        ({"region": "us"}, {"mcp-param-REGION": "=?base64?dXM=?="}, 200),
        ({"region": "us"}, {}, 400),
        ({"region": "us"}, {"Mcp-Param-Region": "eu"}, 400),
        ({"region": "us"}, {"Mcp-Param-Region": "=?base64?dXN=?="}, 400),
        ({"region": "us"}, {"Mcp-Param-Region": "us", "mcp-param-region": "us"}, 400),
        ({"region": None}, {}, 200),
        ({}, {"Mcp-Param-Region": "us"}, 400),
        (None, {}, 200),
        ({"count": 42}, {"Mcp-Param-Count": "42.0"}, 200),
        ({"count": 42}, {"Mcp-Param-Count": "43"}, 400),
        ({"dry": True}, {"Mcp-Param-Dry": "true"}, 200),
        ({"dry": True}, {"Mcp-Param-Dry": "false"}, 400),
        ({}, {"Mcp-Param-Unknown": "x"}, 200),
    ],
)
async def test_arguments_that_are_mirrored(tmp_path, arguments, headers, status):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        front.gateway.know("t", properties={"region": REGION, "count": COUNT, "dry": BOOL})
        message = modern_request("a1", name="t", arguments=arguments)
        reply = await post(front.url, message, **headers)
        assert reply.status == status
        assert reply.json()["id"] == "a1"
        if status == 400:
            assert reply.json()["error"]["code"] == -32020
            assert not front.gateway.modern.rounds
        # Only the tool's own schema says what is mirrored, and only for calls.
        other = modern_request(2, "prompts/get", name="t", arguments=arguments)
        front.gateway.modern.scripts["prompts/get"] = done
        assert (await post(front.url, other, **headers)).status == 200


async def test_arguments_that_are_mirrored_come_once(tmp_path):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        front.gateway.know("t", properties={"region": REGION})
        message = modern_request(1, name="t", arguments={"region": "us"})
        body = json.dumps(message).replace('"arguments": ', '"arguments": {"region": "eu"}, "arguments": ').encode()
        reply = await post(front.url, message, body, **{"Mcp-Param-Region": "us"})
        assert (reply.status, reply.json()["error"]["code"]) == (400, INVALID_REQUEST)
        assert not front.gateway.modern.rounds
        # Where nobody on the way reads them, they are the backend's to judge.
        front.gateway.know("t")
        assert (await post(front.url, message, body)).status == 200


@pytest.mark.parametrize(
    ("method", "params"),
    [("server/discover", {"": "x" * 5000}), ("tools/call", {"name": {"x": "x" * 5000}}), ("tools/call", {"name": "t"})],
)
async def test_a_head_is_remembered_with_no_more_than_a_name(tmp_path, monkeypatch, method, params):
    notes = []
    take = ModernHttp.take

    def taken(self, request, message, principal, noted):
        notes.append(noted)
        return take(self, request, message, principal, noted)

    monkeypatch.setattr(ModernHttp, "take", taken)
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts[method] = done
        headers = {} if isinstance(params.get("name"), str) else {"Mcp-Name": None}
        assert (await post(front.url, modern_request(1, method, **params), **headers)).status == 200
    [noted] = notes
    assert noted.mirrored is None or len(noted.mirrored[1]) <= MIRRORED_MAX


async def test_a_tool_that_is_about_to_become_known_is_waited_for(tmp_path):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        front.gateway.settles.append("t")
        message = modern_request(1, name="t", arguments={"region": "us"})
        assert (await post(front.url, message)).json()["error"]["code"] == -32020
        front.gateway.catalog.tools.routes.clear()
        front.gateway.catalog.tools.by_text.clear()
        assert (await post(front.url, message, **{"Mcp-Param-Region": "us"})).status == 200


@pytest.mark.parametrize("name", ["unknown", 7, None])
async def test_a_tool_that_nobody_knows_is_for_the_gateway_to_refuse(tmp_path, name):
    async with serve_front(tmp_path) as front:

        async def unknown(round) -> bytes:
            raise RpcError(INVALID_PARAMS, "unknown tool")

        front.gateway.modern.scripts["tools/call"] = unknown
        message = modern_request(1, name=name)
        headers = {"Mcp-Name": name} if isinstance(name, str) else {"Mcp-Name": None}
        reply = await post(front.url, message, **headers)
        assert (reply.status, reply.json()["error"]["message"]) == (400, "unknown tool")


async def test_marks_that_break_a_rule_are_as_if_not_there(tmp_path):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        front.gateway.know("t", properties={"region": {"type": "object", "x-mcp-header": "Region"}})
        assert (await post(front.url, modern_request(1, name="t", arguments={"region": {}}))).status == 200


def dump(meta: object) -> bytes:
    return json.dumps(modern_request(1, meta=meta)).encode()


LADDER = [
    # Each breaks its own rung and later ones.
    (415, None, {"Content-Type": "text/plain", "Accept": "application/json"}, b"{"),
    (406, None, {"Accept": "application/json"}, b"{"),
    (400, -32700, {}, b'{"io.modelcontextprotocol'),
    (400, -32600, {}, b"[%b]" % dump(envelope(None))),
    (400, -32600, {}, json.dumps({**CALL, "id": {}}).encode()),
    (400, -32020, {"mcp-method": "x"}, dump(envelope(None))),
    (400, -32602, {"Mcp-Method": "x"}, dump(envelope("v9", logLevel=1))),
    (400, -32020, {"Mcp-Method": "x"}, dump(envelope("v9"))),
    (400, -32022, {"MCP-Protocol-Version": "v9", "Mcp-Name": None}, dump(envelope("v9"))),
]


@pytest.mark.parametrize(("status", "code", "headers", "body"), LADDER)
async def test_the_first_rung_that_fails_answers(tmp_path, status, code, headers, body):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        reply = await post(front.url, body=body, **headers)
        assert reply.status == status
        assert reply.headers["content-type"] == "application/json"
        if code is not None:
            assert reply.json()["error"]["code"] == code


async def test_origin_and_host_come_first(tmp_path):
    async with serve_front(tmp_path) as front:
        assert (await post(front.url, Origin="https://evil.example", Accept="x")).status == 403
        assert (await post(front.url, Host="evil.example", Accept="x")).status == 421


@pytest.mark.parametrize("id", [0, "", -1, 1.5, "ü", 1 << 70])
async def test_any_id_comes_back_as_it_was(tmp_path, id):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        for headers in ({}, {"Mcp-Method": "x"}):
            answer = (await post(front.url, {**CALL, "id": id}, **headers)).json()["id"]
            assert (type(answer), answer) == (type(id), id)


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "unknown/method"])
async def test_what_does_not_exist_is_404(tmp_path, method):
    async with serve_front(tmp_path) as front:
        reply = await post(front.url, modern_request(5, method))
        assert (reply.status, reply.json()["id"], reply.json()["error"]["code"]) == (404, 5, -32601)


# ---- what the gateway gets


async def test_a_request_stands_alone(tmp_path):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        meta = envelope(
            clientCapabilities={"elicitation": {}, "extensions": {"a/b": {}}},
            clientInfo={"name": "c", "version": "1"},
            logLevel="info",
        )
        for _ in range(2):
            reply = await post(front.url, modern_request(1, meta=meta, name="t"), **{"Mcp-Session-Id": "stale"})
            assert (reply.status, reply.body) == (200, b'{"jsonrpc":"2.0","id":1,"result":%b}' % DONE)
            assert "mcp-session-id" not in reply.headers
        one, two = (round.caller for round in front.gateway.modern.rounds)
        assert one.key != two.key
        assert one.stateless
        assert one.capabilities == ClientCapability.ELICITATION_FORM
        assert one.log_level == 1
        assert one.client_info == b'{"name": "c", "version": "1"}'
        assert one.extensions == b'{"relayed":{"a/b": {}}}'
        assert not front.sessions


async def test_a_notification_is_accepted_and_dropped(tmp_path):
    async with serve_front(tmp_path) as front:
        for message in (
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"_meta": envelope(), "requestId": 1}},
            {"jsonrpc": "2.0", "method": "subscriptions/listen", "params": {"_meta": envelope()}},
            {"jsonrpc": "2.0", "method": "notifications/x", "params": {}},
        ):
            reply = await post(front.url, message)
            assert (reply.status, reply.body) == (202, b"")
        assert not front.gateway.modern.rounds


# ---- answers


async def test_what_is_said_first_begins_a_stream_without_ids(tmp_path):
    async with serve_front(tmp_path) as front:

        async def talkative(round) -> bytes:
            round.notify("notifications/progress", progress=1)
            await trio.lowlevel.checkpoint()
            round.notify("notifications/progress", progress=2)
            return DONE

        front.gateway.modern.scripts["tools/call"] = talkative
        reply = await post(front.url, **{"Last-Event-ID": "1-1"})
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.headers["x-accel-buffering"] == "no"
        assert "no-cache" in reply.headers["cache-control"]
        events = reply.events()
        assert [event.name for event in events] == ["message"] * 3
        assert [event.id for event in events] == [None] * 3
        assert [json.loads(event.data).get("params") for event in events] == [{"progress": 1}, {"progress": 2}, None]
        assert reply.message()["id"] == "a1"


async def test_patience_does_not_begin_a_stream(tmp_path):
    async with serve_front(tmp_path, Config(streams=Times(hold=0.01, keepalive=60))) as front:

        async def slow(round) -> bytes:
            await trio.sleep(0.1)
            raise RpcError(INVALID_PARAMS, "only now")

        front.gateway.modern.scripts["tools/call"] = slow
        assert (await post(front.url)).status == 400


async def test_a_client_that_names_streams_first_gets_one(tmp_path):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        reply = await post(front.url, Accept="text/event-stream, application/json")
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.message()["result"] == {"resultType": "complete"}


async def test_silence_is_broken_by_comments(tmp_path):
    async with serve_front(tmp_path, Config(streams=Times(keepalive=0.02))) as front:
        front.gateway.modern.scripts["tools/call"] = hang
        async with open_request("POST", front.url, modern_headers(CALL), json.dumps(CALL).encode()) as exchange:
            assert exchange.is_stream
            data = b""
            while data.count(b": keep-alive") < 3:
                data += await exchange.next_chunk()
        await until(lambda: front.gateway.cancelled)


async def test_a_bug_fails_one_call_and_is_logged(tmp_path, caplog):
    async with serve_front(tmp_path) as front:

        async def broken(round) -> bytes:
            raise KeyError("secret detail")

        front.gateway.modern.scripts["tools/call"] = broken
        reply = await post(front.url)
        assert (reply.status, reply.json()["error"]["code"]) == (200, INTERNAL_ERROR)
        assert "secret" not in reply.body.decode()
        assert "secret detail" in caplog.text
        assert not front.patience.statistics().entries


async def test_too_much_work_is_refused_with_a_time_to_come_back(tmp_path):
    async with serve_front(tmp_path) as front:

        async def busy(round) -> bytes:
            raise RpcError(INTERNAL_ERROR, "busy", http_status=503)

        front.gateway.modern.scripts["tools/call"] = busy
        reply = await post(front.url)
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")


# ---- the end of a client


@pytest.mark.parametrize("spoken", [True, False])
async def test_a_client_that_hangs_up_cancels_its_call(tmp_path, spoken):
    async with serve_front(tmp_path) as front:

        async def talk(round) -> bytes:
            if spoken:
                round.notify("n")
            return await hang(round)

        front.gateway.modern.scripts["tools/call"] = talk
        async with keep_alive(front.url) as client:
            await client.send(CALL)
            await front.gateway.started.wait()
            if spoken:
                await read_head(client._stream)
        await until(lambda: front.gateway.cancelled)
        assert front.gateway.cancelled == ['"a1"']
        assert not front.patience.statistics().entries


async def test_a_slow_reader_loses_its_call_and_nobody_else_does(tmp_path):
    config = Config(limits=Limits(stream_queue=256 * 1024))
    async with serve_front(tmp_path, config) as front:

        async def flood(round) -> bytes:
            if bytes(round.members["name"]) != b'"flood"':
                return DONE
            while True:
                round.notify("notifications/message", level="info", data="x" * 50_000)
                await trio.lowlevel.checkpoint()

        front.gateway.modern.scripts["tools/call"] = flood
        async with keep_alive(front.url) as slow, keep_alive(front.url) as good:
            await slow.send(modern_request("s", name="flood"))
            await until(lambda: front.gateway.cancelled)
            await good.send(CALL)
            assert (await good.hear()).status == 200
        assert front.gateway.cancelled == ['"s"']


# ---- parked calls


async def test_a_parked_call_gives_the_connection_back(tmp_path, nursery):
    async with serve_front(tmp_path) as front:
        park = front.gateway.modern.scripts["tools/call"] = Park(nursery)
        async with keep_alive(front.url) as client:
            await client.send(CALL)
            reply = await client.hear()
            assert reply.json()["result"]["resultType"] == "input_required"
            assert not front.gateway.cancelled
            await client.send(modern_request("a2", name="t", inputResponses={}))
            assert (await client.hear()).json() == {"jsonrpc": "2.0", "id": "a2", "result": {"resultType": "complete"}}
            await until(lambda: not front.patience.statistics().entries)
            await client.send(modern_request("a3", name="t", inputResponses={}))
            assert (await client.hear()).json()["id"] == "a3"
        assert park.answer.is_set()


async def test_a_parked_call_outlives_its_connection_and_can_be_cancelled(tmp_path, nursery):
    async with serve_front(tmp_path) as front:
        park = front.gateway.modern.scripts["tools/call"] = Park(nursery)
        async with keep_alive(front.url) as client:
            await client.send(CALL)
            await client.hear()
        async with keep_alive(front.url) as other:
            await other.send(modern_request(2, "ping"))
            assert (await other.hear()).status == 404
        assert not front.gateway.cancelled
        park.first.cancel()
        await until(lambda: front.gateway.cancelled)
        assert not front.patience.statistics().entries


async def test_a_call_that_settles_itself_and_stays_does_not_hold_its_connection(tmp_path):
    async with serve_front(tmp_path) as front:

        async def stay(round) -> bytes | None:
            if round.message.id == b'"a1"':
                round.turn.settle((DONE, None))
                await trio.sleep_forever()
            return DONE

        front.gateway.modern.scripts["tools/call"] = stay
        async with keep_alive(front.url) as client:
            for id in ("a1", "a2"):
                await client.send(modern_request(id, name="t"))
                assert (await client.hear()).json()["id"] == id


async def test_the_end_of_the_daemon_is_a_last_word(tmp_path):
    async with trio.open_nursery() as nursery:
        replies: list[Reply] = []

        async def ask(url: str) -> None:
            replies.append(await post(url))

        async with serve_front(tmp_path) as front:
            front.gateway.modern.scripts["tools/call"] = hang
            nursery.start_soon(ask, front.url)
            await front.gateway.started.wait()
    assert [(reply.status, reply.json()["id"]) for reply in replies] == [(503, "a1")]
    assert "stopping" in replies[0].json()["error"]["message"]


# ---- news


async def test_listening(tmp_path):
    async with serve_front(tmp_path, Config(streams=Times(keepalive=0.02))) as front:
        listens = front.gateway.listens
        async with open_request("POST", front.url, modern_headers(LISTEN), json.dumps(LISTEN).encode()) as exchange:
            assert exchange.is_stream
            first = await exchange.next_event()
            assert (first.id, json.loads(first.data)["method"]) == (None, "ack")
            [outlet] = listens.outlets
            outlet.send((b'{"n":1}',))
            assert json.loads((await exchange.next_event()).data) == {"n": 1}
            assert outlet.queued == 0
            while not exchange._reader.comments:
                exchange._reader.feed((await exchange.next_chunk()).decode())
            listens.end.set()
            assert json.loads((await exchange.next_event()).data)["id"] == "l1"
            assert await exchange.next_event() is None
        [(caller, id, members)] = listens.heard
        assert (caller.stateless, id) == (True, b'"l1"')
        assert json.loads(bytes(members["notifications"])) == {"toolsListChanged": True}
        await until(lambda: not front.patience.statistics().entries)


async def test_a_listener_that_hangs_up_is_gone_at_once(tmp_path):
    async with serve_front(tmp_path) as front:
        async with open_request("POST", front.url, modern_headers(LISTEN), json.dumps(LISTEN).encode()) as exchange:
            await exchange.next_event()
        await until(lambda: front.gateway.cancelled)
        assert not front.gateway.listens.outlets
        assert not front.patience.statistics().entries


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (RpcError(INVALID_PARAMS, "bad filter"), 400, -32602),
        (RpcError(INTERNAL_ERROR, "too many", http_status=503), 503, -32603),
        (RpcError(INTERNAL_ERROR, "too many"), 200, -32603),
        (KeyError("secret"), 200, -32603),
    ],
)
async def test_a_listen_that_is_refused_is_plain_json(tmp_path, refusal, status, code):
    async with serve_front(tmp_path) as front:
        front.gateway.listens.refusal = refusal
        async with keep_alive(front.url) as client:
            for _ in range(2):
                await client.send(LISTEN)
                reply = await client.hear()
                assert (reply.status, reply.json()["id"], reply.json()["error"]["code"]) == (status, "l1", code)
                assert "secret" not in reply.body.decode()


async def test_a_listen_needs_an_event_stream(tmp_path):
    async with serve_front(tmp_path) as front:
        assert (await post(front.url, LISTEN, Accept="application/json")).status == 406
        assert not front.gateway.listens.heard


async def test_the_connection_of_a_listen_serves_on_after_a_graceful_end(tmp_path):
    async with serve_front(tmp_path) as front:
        front.gateway.modern.scripts["tools/call"] = done
        front.gateway.listens.end.set()
        async with keep_alive(front.url) as client:
            await client.send(LISTEN)
            assert (await client.hear()).message()["result"] == {"end": True}
            await client.send(CALL)
            assert (await client.hear()).status == 200


# ---- beside sessions


async def test_both_eras_on_one_endpoint(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:

        async def old(talk) -> bytes:
            return b'{"old":true}'

        front.gateway.scripts["tools/call"] = old
        front.gateway.modern.scripts["tools/call"] = done
        assert (await peer.modern("tools/call", {"name": "t"}))["result"] == {"resultType": "complete"}
        await peer.initialize()
        assert await peer.request("tools/call", {"name": "t"}) == {"old": True}
        mine = {"Mcp-Session-Id": peer.session_id}
        assert (await peer.modern("tools/call", {"name": "t"}, headers=mine))["result"] == {"resultType": "complete"}
        assert await peer.request("tools/call", {"name": META}) == {"old": True}
