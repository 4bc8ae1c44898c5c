"""Connections that one server gives up and another one goes on with. Both are in this process; the descriptors are
duplicated, as the first server closes its own.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.wire.http_carrying import ConnectionState, encode_request
from mcpd.wire.http_limits import HttpLimits
from tests.wire.http_peer import TEXT, Client, chunked, post, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mcpd.wire.http_request import Request
    from tests.wire.http_peer import Serving

GET = b"GET /news HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def echo(request: Request) -> None:
    head = request.head
    request.answer(200, TEXT, b"%b %b %b" % (head.method, head.target, request.body))


async def never(request: Request) -> None:
    raise AssertionError("this request is another program's")


async def hold(request: Request) -> None:
    request.hold()
    await trio.sleep_forever()


def keep(state: ConnectionState) -> ConnectionState:
    """As after an exec: the descriptor is left when the first server is gone."""
    copy = msgspec.structs.replace(state, fd=os.dup(state.fd))
    return msgspec.msgpack.decode(msgspec.msgpack.encode(copy), type=ConnectionState)


@asynccontextmanager
async def handed_over(
    first: Callable[[Request], Awaitable[None]],
    second: Callable[[Request], Awaitable[None]],
    before: Callable[[Client, Serving], Awaitable[None]],
) -> AsyncIterator[tuple[Client, ConnectionState]]:
    """A client of the second server, which it thinks is the first one's still; and what was written down of it."""
    async with serving(second) as new, AsyncExitStack() as stack:
        async with serving(first) as old:
            client = Client(await stack.enter_async_context(await old.connect()))
            await before(client, old)
            await wait_all_tasks_blocked()
            assert old.server.busy() == 0
            [state] = map(keep, old.server.capture())
        new.server.take_up([state])
        yield client, state


async def test_an_idle_connection_goes_on():
    async def before(client, old):
        await client.send(post(b"one"))
        assert (await client.answer())[2] == b"POST /mcp one"

    async with handed_over(echo, echo, before) as (client, state):
        assert state == ConnectionState(fd=state.fd)
        await client.send(post(b"two"))
        assert (await client.answer())[2] == b"POST /mcp two"


@pytest.mark.parametrize("cut", [1, 20, 60, 90])
async def test_a_request_that_is_not_whole_is_completed(cut):
    request = post(b"x" * 40)

    async def before(client, old):
        await client.send(request[:cut])

    async with handed_over(never, echo, before) as (client, state):
        assert state.received == request[:cut]
        await client.send(request[cut:])
        assert (await client.answer())[2] == b"POST /mcp " + b"x" * 40


async def test_a_chunked_body_that_is_not_whole_is_waited_for():
    async with serving(echo) as old, await old.connect() as stream:
        client = Client(stream)
        whole = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"cd")
        await client.send(whole[:-5])
        await wait_all_tasks_blocked()
        assert old.server.busy() == 1
        assert old.server.capture() == ()
        await client.send(whole[-5:])
        assert (await client.answer())[2] == b"POST /mcp abcd"
        await wait_all_tasks_blocked()
        assert old.server.busy() == 0


async def test_a_handler_at_work_is_waited_for():
    done = trio.Event()

    async def slow(request):
        await done.wait()
        await echo(request)

    async with serving(slow) as old, await old.connect() as stream:
        client = Client(stream)
        await client.send(post(b"slow"))
        await wait_all_tasks_blocked()
        assert (old.server.busy(), old.server.capture()) == (1, ())
        done.set()
        assert (await client.answer())[2] == b"POST /mcp slow"
        await wait_all_tasks_blocked()
        assert old.server.busy() == 0


async def test_a_request_held_back_is_served_by_the_second_and_what_follows_it_too():
    async def before(client, old):
        await client.send(post(b"held") + post(b"next"))

    async with handed_over(hold, echo, before) as (client, _state):
        assert (await client.answer())[2] == b"POST /mcp held"
        assert (await client.answer())[2] == b"POST /mcp next"


async def test_a_request_that_was_held_and_released_is_the_firsts_own():
    going = trio.Event()

    async def handler(request):
        request.hold()
        await going.wait()
        request.release()
        await trio.sleep_forever()

    async with serving(handler) as old, await old.connect() as stream:
        await stream.send_all(post(b"held"))
        await wait_all_tasks_blocked()
        assert old.server.busy() == 0
        going.set()
        await wait_all_tasks_blocked()
        assert old.server.busy() == 1


async def test_an_open_stream_goes_on_without_a_second_head():
    seen = []

    async def first(request):
        stream = request.open_stream(200, TEXT)
        stream.write(b"first ")
        request.carry(lambda: b"my token")
        await trio.sleep_forever()

    async def second(request):
        seen.append((request.head.target, request.carried, request.opened))
        if request.carried is None:
            await echo(request)
            return
        stream = request.open_stream(200, TEXT)
        stream.write(b"second")
        stream.end()

    async def before(client, old):
        await client.send(GET)

    async with handed_over(first, second, before) as (client, state):
        assert state.opened
        status, headers, body = await client.answer()
        assert (status, body) == (200, b"first second")
        assert headers[b"transfer-encoding"] == b"chunked"
        for number in range(2):  # the same connection, and what was carried is not said of later requests
            await client.send(post(b"%d" % number))
            assert (await client.answer())[2] == b"POST /mcp %d" % number
        assert seen == [(b"/news", b"my token", True), *[(b"/mcp", None, False)] * 2]


async def test_an_answer_that_is_not_begun_can_be_given_by_the_second():
    async def first(request):
        request.carry(lambda: b"news")
        await trio.sleep_forever()

    async def second(request):
        request.answer(200, TEXT, b"there are %b" % request.carried)

    async def before(client, old):
        await client.send(GET)

    async with handed_over(first, second, before) as (client, state):
        assert not state.opened
        assert (await client.answer())[2] == b"there are news"


async def test_a_stream_that_cannot_go_on_ends_properly():
    async def first(request):
        request.open_stream(200, TEXT).write(b"first")
        request.carry(lambda: b"")
        await trio.sleep_forever()

    async def second(request):
        request.answer(404, TEXT, b"no such session")

    async def before(client, old):
        await client.send(GET)

    async with handed_over(first, second, before) as (client, _state):
        assert (await client.answer())[2] == b"first"


async def test_what_the_client_has_not_taken_yet_is_sent_by_the_second():
    size = 32 << 20  # more than the kernel holds between the two
    answered = trio.Event()

    async def large(request):
        request.answer(200, TEXT, b"x" * size)
        answered.set()

    async def before(client, old):
        await client.send(post(b"large"))
        await answered.wait()

    async with handed_over(large, echo, before) as (client, state):
        assert state.unsent
        assert (await client.answer())[2] == b"x" * size
        await client.send(post(b"next"))
        assert (await client.answer())[2] == b"POST /mcp next"


async def test_the_last_answer_of_a_connection_stays_the_last():
    size = 32 << 20  # more than the kernel holds between the two
    answered = trio.Event()

    async def large(request):
        request.answer(200, TEXT, b"x" * size)
        answered.set()

    async def before(client, old):
        await client.send(post(b"large", b"Connection: close"))
        await answered.wait()

    async with handed_over(large, never, before) as (client, state):
        assert state.closing
        assert (await client.answer())[2] == b"x" * size
        assert await client.rest() == b""


async def test_a_request_means_the_same_when_it_is_served_again():
    got = []

    async def note(request):
        got.append((request.head.method, request.head.target, dict(request.head.headers), request.body))
        again = encode_request(request.head, request.body)
        request.answer(200, TEXT, again)

    async with serving(note, HttpLimits()) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(
            b"POST /mcp?a=b HTTP/1.1\r\nHost: localhost\r\nAccept: a\r\nAccept: b\r\nX-Y:  z \r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"bo", b"dy")
        )
        again = (await client.answer())[2]
        await client.send(again)
        assert (await client.answer())[2] == again
    (method, target, headers, body), second = got
    del headers[b"transfer-encoding"]
    assert second == (method, target, {**headers, b"content-length": b"4"}, body)
