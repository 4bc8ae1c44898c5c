from __future__ import annotations

from types import SimpleNamespace

import trio

from mcpd.frontends.endpoint import Verdict
from mcpd.frontends.metrics import Metrics
from tests.frontends.fakes import FakeRequest


async def answered(method: bytes, **headers: bytes) -> tuple[int, bytes, bytes]:
    async def scrape(accept: str) -> tuple[str, bytes]:
        await trio.lowlevel.checkpoint()
        return f"text/plain; of={accept}", b"x 1\n"

    request = FakeRequest()
    request.head = SimpleNamespace(method=method, headers={name.encode(): value for name, value in headers.items()})
    await Metrics(scrape).handle(request, Verdict(None, None))
    [answer] = request.answers
    return answer


async def test_who_scrapes_says_which_form():
    assert await answered(b"GET", accept=b"a") == (200, b"Content-Type: text/plain; of=a\r\n", b"x 1\n")
    assert await answered(b"HEAD") == (200, b"Content-Type: text/plain; of=\r\n", b"x 1\n")


async def test_it_is_read_only():
    status, headers, _ = await answered(b"POST")
    assert status == 405
    assert b"Allow: GET, HEAD\r\n" in headers
