from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.config.model import Listen
from mcpd.frontends.endpoint import LOG_EVERY, Endpoint, Verdict
from mcpd.frontends.guard import Guard
from mcpd.gateway.gate import Gate
from tests.frontends.fakes import FakeRequest


class Head:
    def __init__(self, path: bytes, host: bytes = b"localhost", origin: bytes | None = None) -> None:
        self.method = b"POST"
        self.path = path
        self.headers = {b"host": host, **({} if origin is None else {b"origin": origin})}
        self.repeated = frozenset()
        self.notes = None


class HeadRequest(FakeRequest):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head


class Recorder:
    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    async def front(self, request, verdict) -> None:
        self.verdicts.append(verdict)
        request.answer(200, b"", b"front")


async def handle(head: Head, recorder: Recorder) -> FakeRequest:
    request = HeadRequest(head)
    await Endpoint(Guard(Listen(), loopback=True), {b"/mcp": recorder.front}, Gate()).handle(request)
    return request


@pytest.mark.parametrize("path", [b"/mcp", b"/mcp/"])
async def test_a_path_leads_to_its_front(path):
    assert (await handle(Head(path), Recorder())).answers[0][2] == b"front"


@pytest.mark.parametrize("path", [b"/", b"//", b"", b"/mcpx", b"/mcp/x", b"/MCP", b"/%6dcp"])
async def test_an_unknown_path_is_404_and_says_what_there_is(path):
    [(status, _, body)] = (await handle(Head(path), Recorder())).answers
    assert status == 404
    assert "/mcp" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(("host", "origin", "status"), [(b"evil", None, 421), (b"localhost", b"http://evil", 403)])
async def test_origin_and_host_come_first(host, origin, status):
    for path in (b"/mcp", b"/nowhere"):
        recorder = Recorder()
        request = await handle(Head(path, host, origin), recorder)
        assert request.answers[0][0] == status
        assert not recorder.verdicts


async def test_a_verdict_is_made_once_for_a_head():
    recorder, head = Recorder(), Head(b"/mcp")
    await handle(head, recorder)
    await handle(head, recorder)
    first, second = recorder.verdicts
    assert first is second


# ---- while the gate is closed

CALL = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
NOTICE = b'{"jsonrpc":"2.0","method":"notifications/cancelled"}'


@pytest.mark.parametrize(
    ("method", "body", "waits"),
    [
        (b"POST", CALL, True),
        (b"POST", ANSWER, False),
        (b"POST", NOTICE, False),
        (b"POST", b"[%b,%b]" % (ANSWER, NOTICE), False),
        (b"POST", b"[%b,%b]" % (ANSWER, CALL), True),
        (b"POST", b"no JSON", False),
        (b"GET", b"", True),
        (b"DELETE", b"", True),
    ],
)
async def test_only_what_a_call_in_flight_may_wait_for_passes_a_closed_gate(nursery, method, body, waits):
    gate, recorder = Gate(), Recorder()
    endpoint = Endpoint(Guard(Listen(), loopback=True), {b"/mcp": recorder.front}, gate)
    request = HeadRequest(Head(b"/mcp"))
    request.head.method, request.body = method, body
    gate.close()
    nursery.start_soon(endpoint.handle, request)
    await wait_all_tasks_blocked()
    assert bool(recorder.verdicts) is not waits
    assert request.held is waits
    gate.open()
    await wait_all_tasks_blocked()
    assert len(recorder.verdicts) == 1
    assert request.held is False


async def test_what_another_program_began_goes_on_behind_a_closed_gate():
    gate, recorder = Gate(), Recorder()
    endpoint = Endpoint(Guard(Listen(), loopback=True), {b"/mcp": recorder.front}, gate)
    request = HeadRequest(Head(b"/mcp"))
    request.head.method, request.carried = b"GET", b""
    gate.close()
    await endpoint.handle(request)
    assert recorder.verdicts


async def test_who_may_not_is_told_of_in_the_log_now_and_then(caplog, autojump_clock):
    endpoint = Endpoint(Guard(Listen(), loopback=True), {}, Gate())
    for peer, method, times in (("127.0.0.1", b"GET", 1), ("127.0.0.1", b"DELETE", 3), ("::1", b"POST", 2)):
        for _ in range(times):
            request = FakeRequest()
            request.peer = peer
            request.head = SimpleNamespace(
                method=method,
                path=b"/servers/x\n" + b"y" * 9000,
                headers={b"host": b"evil" * 1000},
                repeated=frozenset(),
                notes=None,
            )
            await endpoint.handle(request)
    first, second = caplog.text.splitlines()
    assert r"event=request_refused method=b'DELETE' path=b'/servers/x\ny" in first
    assert "peer=127.0.0.1:1 reason=Host 'evil" in first
    assert "method=b'POST'" in second
    assert "peer=::1:1" in second
    assert all(line.endswith("suppressed=0") and len(line) < 900 for line in (first, second))
    await trio.sleep(LOG_EVERY)
    await endpoint.handle(_again(request))
    assert caplog.text.endswith("suppressed=1\n")


def _again(request):
    again = FakeRequest()
    again.head, again.peer = request.head, request.peer
    again.head.notes = None
    return again


async def test_paths_below_one_are_its_fronts():
    seen = []

    async def front(request, verdict):
        seen.append(request.head.path)
        request.answer(204, b"")

    endpoint = Endpoint(None, {}, Gate(), below={b"/servers/": front})
    for path in (b"/servers/x", b"/servers/x%2Fy"):
        request = FakeRequest()
        request.head = SimpleNamespace(method=b"DELETE", path=path, headers={}, repeated=frozenset(), notes=None)
        await endpoint.handle(request)
    assert seen == [b"/servers/x", b"/servers/x%2Fy"]
