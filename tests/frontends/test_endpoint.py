from __future__ import annotations

import json

import pytest

from mcpd.config.model import Listen
from mcpd.frontends.endpoint import Endpoint, Verdict
from mcpd.frontends.guard import Guard
from tests.frontends.fakes import FakeRequest


class Head:
    def __init__(self, path: bytes, host: bytes = b"localhost", origin: bytes | None = None) -> None:
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
    await Endpoint(Guard(Listen(), loopback=True), {b"/mcp": recorder.front}).handle(request)
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
