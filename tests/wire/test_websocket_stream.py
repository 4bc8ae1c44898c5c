"""The stream under the library, on a line that the test writes; the lines themselves are driven by `test_websocket`."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from mcpd.errors import ConnectionBroken
from mcpd.wire.http_url import WEBSOCKET, parse_url
from mcpd.wire.websocket_frames import UNSUPPORTED_DATA, Frames
from mcpd.wire.websocket_handshake import AnswerReader, HandshakeRefused, Upgrade
from mcpd.wire.websocket_stream import GATHER, Asked, ClientStream, ServerStream

UPGRADE = Upgrade(b"dGhlIHNhbXBsZSBub25jZQ==", "mcp")
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class MemoryLine:
    """Gives what it was made with, piece by piece; an error in its place is raised."""

    progress = 0
    torn = False
    waiting = False

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.sent: list[bytes] = []
        self.fails = False

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise ConnectionBroken("no way")
        self.sent.append(data)


def text(data: str) -> bytes:
    return Connection(ConnectionType.CLIENT).send(TextMessage(data=data))


def served(*pieces: bytes | Exception, limit: int = 1 << 20) -> ServerStream:
    return ServerStream(MemoryLine(*pieces), Frames(limit, "limit"), UPGRADE)


def asking(*pieces: bytes | Exception) -> ClientStream:
    asked = Asked(parse_url("ws://h/", WEBSOCKET), [], "mcp")
    return ClientStream(MemoryLine(*pieces), Frames(1 << 20, "limit"), asked, AnswerReader(1000))


async def opened(stream: ServerStream) -> ServerStream:
    """As the library does: read the request, accept it."""
    assert await stream.receive_some() == UPGRADE.replay()
    await stream.send_all(b"HTTP/1.1 101 X\r\n\r\n")
    return stream


async def drained(stream) -> list[bytes]:
    found = []
    while data := await stream.receive_some():
        found.append(data)
    return found


async def test_what_came_early_waits_until_the_request_is_accepted(nursery):
    early = text("early")
    stream = served(early)
    assert await stream.receive_some() == UPGRADE.replay()
    seen = []

    async def read() -> None:
        seen.append(await stream.receive_some())

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    assert seen == []
    assert stream.reading
    await stream.send_all(b"accepted")
    await wait_all_tasks_blocked()
    assert seen == [early]
    assert not stream.reading


async def test_the_pieces_of_a_frame_are_gathered():
    whole = text("x" * (3 * GATHER))
    stream = await opened(served(*(whole[at : at + 100] for at in range(0, len(whole), 100))))
    pieces = await drained(stream)
    assert b"".join(pieces) == whole
    assert len(pieces) == 4, "the one with the header, and then as much as is gathered at once"
    assert stream.received == len(whole)


async def test_a_message_that_is_whole_does_not_wait_for_the_next():
    whole, begun = text("whole"), text("begun")[:-1]
    stream = await opened(served(whole + begun[:8], begun[8:9], begun[9:]))
    assert await stream.receive_some() == whole + begun[:8]


async def test_the_end_within_a_frame():
    whole = text("x" * 1000)
    stream = await opened(served(whole[:100], whole[100:200], whole[200:300]))
    assert b"".join(await drained(stream)) == whole[:300]
    assert stream.broken is None


async def test_a_refused_frame_looks_like_the_end():
    stream = await opened(served(text("a"), b"\x82\x80\0\0\0\0"))
    assert len(await drained(stream)) == 1
    assert stream.refused is not None
    assert stream.refused.code == UNSUPPORTED_DATA


async def test_a_line_that_breaks_looks_like_the_end_too():
    stream = await opened(served(ConnectionBroken("pulled")))
    assert await drained(stream) == []
    assert str(stream.broken) == "pulled"


async def test_close_frames_of_the_library_are_noticed():
    stream = await opened(served())
    assert not stream.close_sent, "though H and a close frame have bits in common"
    await stream.send_all(bytearray(b"\x88\x02\x03\xe8"))
    assert stream.close_sent
    stream.line.fails = True
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"\x81\x00")
    assert str(stream.broken) == "no way"


async def test_a_client_shows_the_head_and_then_the_frames():
    frame = Connection(ConnectionType.SERVER).send(TextMessage(data="hello"))
    stream = asking(b"HTTP/1.1 103 Early\r\n\r\n" + ACCEPTED[:20], ACCEPTED[20:] + frame[:2], frame[2:])
    assert await stream.receive_some() == ACCEPTED
    assert await drained(stream) == [frame[:2], frame[2:]]
    assert stream.received == len(frame)


@pytest.mark.parametrize("pieces", [(b"HTTP/1.1 403 No\r\n\r\n",), (), (ConnectionBroken("pulled"),)])
async def test_a_handshake_that_fails_ends_the_wait_for_it(pieces):
    stream = asking(*pieces)
    with trio.CancelScope() as stream.opening:
        assert await stream.receive_some() == b""
        await trio.sleep_forever()
    assert stream.opening.cancelled_caught
    assert isinstance(stream.broken, HandshakeRefused if pieces and isinstance(pieces[0], bytes) else ConnectionBroken)


async def test_a_request_that_cannot_be_sent_ends_the_wait_for_the_handshake(autojump_clock):
    stream = asking()
    stream.line.fails = True
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as stream.opening:
                await stream.shake(nursery, 1000)
    assert stream.opening.cancelled_caught
    assert str(stream.broken) == "no way"


async def test_the_library_ends_nothing():
    stream = served()
    with trio.CancelScope() as stream.opening:
        await stream.aclose()
        await trio.sleep_forever()
    assert stream.line.sent == []
    await stream.wait_send_all_might_not_block()
