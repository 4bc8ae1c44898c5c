"""An HTTP request and its stream as an exchange sees them, with a client that can be made to vanish."""

from __future__ import annotations

from tests.fixtures.peer_wire import SseEvent, SseReader


class FakeStream:
    """Remembers what was written; a write fails once the client is `gone`."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.ended = False
        self.gone = False

    @property
    def closed(self) -> bool:
        return self.ended or self.gone

    def write(self, data) -> bool:
        if self.closed:
            return False
        self.written += data if isinstance(data, bytes) else b"".join(bytes(part) for part in data)
        return True

    def end(self) -> None:
        self.ended = True

    @property
    def events(self) -> list[SseEvent]:
        return SseReader().feed(self.written.decode())

    @property
    def data(self) -> list[str]:
        """The messages, without priming events."""
        return [event.data for event in self.events if event.data]

    @property
    def comments(self) -> int:
        return self.written.count(b": keep-alive")


class FakeRequest:
    """Remembers the answer, and whether it was cancelled or detached."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, bytes]] = []
        self.stream: FakeStream | None = None
        self.cancelled = 0
        self.detached = 0
        self.body = b"body"
        self.peer, self.peer_port = "127.0.0.1", 1
        self.gone = False
        self.held = False
        self.carried: bytes | None = None
        self.opened = False
        """Whether another program opened the stream."""

    def answer(self, status: int, headers: bytes, body=b"") -> None:
        assert not self.answers
        assert self.stream is None
        whole = body if isinstance(body, bytes) else b"".join(bytes(part) for part in body)
        self.answers.append((status, headers, whole))

    def open_stream(self, status: int, headers: bytes) -> FakeStream:
        assert not self.answers
        assert self.stream is None
        assert status == 200
        self.stream = FakeStream()
        return self.stream

    @property
    def complete(self) -> bool:
        return bool(self.answers) or (self.stream is not None and self.stream.ended)

    def is_gone(self) -> bool:
        return self.gone or (self.stream is not None and self.stream.gone)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False

    def carry(self, say) -> None:
        self.carrying = say

    def cancel(self) -> None:
        self.cancelled += 1

    def detach(self) -> None:
        assert self.complete, "a request is detached only after its answer is complete"
        self.detached += 1
