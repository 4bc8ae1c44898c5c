from __future__ import annotations

from types import SimpleNamespace

import trio

from mcpd.control.ask import STREAMED
from mcpd.control.metrics import metrics
from tests.control.parts import ask, operations
from tests.frontends.fakes import FakeRequest


async def test_the_text_is_answered_as_it_is(tmp_path):
    async def scrape(accept: str) -> tuple[str, bytes]:
        await trio.lowlevel.checkpoint()
        return f"text/plain; of={accept}", b"x 1\n"

    ops, request = operations(tmp_path), FakeRequest()
    ops.scrape = scrape
    request.head = SimpleNamespace(headers={b"accept": b"a"})
    assert await metrics(ops, ask(request=request)) is STREAMED
    [(status, headers, text)] = request.answers
    assert (status, text) == (200, b"x 1\n")
    assert b"Content-Type: text/plain; of=a\r\n" in headers


async def test_without_a_daemon_there_is_none(tmp_path):
    request = FakeRequest()
    request.head = SimpleNamespace(headers={})
    await metrics(operations(tmp_path), ask(request=request))
    assert request.answers[0][::2] == (200, b"")
