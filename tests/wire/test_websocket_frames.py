from __future__ import annotations

import itertools

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage

from mcpd.wire import websocket_frames
from mcpd.wire.websocket_frames import TOO_BIG, UNSUPPORTED_DATA, FrameRefused, Frames

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70000)


def text(data: str, *, finished: bool = True, side: ConnectionType = ConnectionType.CLIENT) -> bytes:
    """One frame as the library of the other side makes it."""
    return Connection(side).send(TextMessage(data=data, message_finished=finished))


def rest(data: bytes, *, finished: bool) -> bytes:
    """The same payload in a frame that continues a message."""
    whole = bytearray(text(data.decode(), finished=finished))
    whole[0] &= 0xF0
    return bytes(whole)


@pytest.mark.parametrize("side", [ConnectionType.CLIENT, ConnectionType.SERVER])
@pytest.mark.parametrize("step", [1, 3, 1000, 1 << 20])
def test_frames_are_followed_however_they_are_cut(side, step):
    data = b"".join(text("x" * size, side=side) for size in SIZES) + Connection(side).send(Ping(payload=b"p"))
    frames = Frames(70000, "limit")
    for at in range(0, len(data), step):
        frames.feed(data[at : at + step])
    assert frames.begun == len(SIZES) + 1
    assert not frames.inside
    assert not frames.closing


def test_inside_is_within_the_payload_of_a_message():
    whole = text("ab")
    seen = []
    frames = Frames(10, "limit")
    for byte in whole:
        frames.feed(bytes([byte]))
        seen.append(frames.inside)
    assert seen == [False] * 5 + [True, True, False]
    frames.feed(Connection(ConnectionType.CLIENT).send(Ping(payload=b"pp"))[:-1])
    assert not frames.inside, "a ping is no message"


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_message_over_the_limit_is_refused_by_its_header(step):
    header = text("x" * 101)[:6]
    frames = Frames(100, "limits.body")
    for at in range(0, 5, step):
        frames.feed(header[at : min(at + step, 5)])
    with pytest.raises(FrameRefused, match=r"101 bytes or more .* the limit of 100 bytes \(limits.body\)") as caught:
        frames.feed(header[5:])
    assert caught.value.code == TOO_BIG


def test_the_limit_is_for_a_message_in_bytes_and_not_for_many():
    frames = Frames(100, "limit")
    for _ in range(5):
        frames.feed(text("x" * 100))
    frames.feed(text("ä" * 50))
    with pytest.raises(FrameRefused):
        frames.feed(text("ä" * 51))


def test_fragments_count_together():
    frames = Frames(100, "limit")
    for _ in range(3):
        frames.feed(text("x" * 60, finished=False) + rest(b"x" * 20, finished=False) + rest(b"x" * 20, finished=True))
    frames.feed(text("x" * 60, finished=False))
    frames.feed(Connection(ConnectionType.CLIENT).send(Ping(payload=b"y" * 100)))
    with pytest.raises(FrameRefused):
        frames.feed(rest(b"x" * 41, finished=True))


def test_empty_fragments_are_not_taken_for_ever(monkeypatch):
    monkeypatch.setattr(websocket_frames, "FRAGMENTS_MAX", 10)
    frames = Frames(100, "limit")
    for _ in range(3):
        frames.feed(text("", finished=False) + rest(b"", finished=False) * 8 + rest(b"", finished=True))
    frames.feed(text("", finished=False) + rest(b"", finished=False) * 9)
    with pytest.raises(FrameRefused, match="more than 10 pieces") as caught:
        frames.feed(rest(b"", finished=True))
    assert caught.value.code == TOO_BIG


def test_binary_frames_are_refused():
    with pytest.raises(FrameRefused) as caught:
        Frames(100, "limit").feed(b"\x82\x80\0\0\0\0")
    assert caught.value.code == UNSUPPORTED_DATA


def test_after_the_leave_nothing_counts():
    frames = Frames(10, "limit")
    frames.feed(Connection(ConnectionType.CLIENT).send(CloseConnection(code=1000, reason="bye")) + b"\x82\xff" * 100)
    assert frames.closing
    frames.feed(text("x" * 1000))


def test_what_the_library_fails_is_not_failed_here():
    for first, second in itertools.product((0x03, 0x0F, 0xF1), (0x00, 0x7D)):
        Frames(1000, "limit").feed(bytes([first, second]) + b"x" * 10)
