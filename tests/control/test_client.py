from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path

import pytest
import trio

from mcpd.control.client import Client, Refused, Unreachable, default_path
from mcpd.errors import ConfigError
from tests.control.parts import controlled


async def in_thread(function, *args):
    return await trio.to_thread.run_sync(function, *args)


async def test_it_asks_and_has_things_done(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        client = Client(path)
        assert (await in_thread(client.get, "/v1/status"))["status"] == "1 ready"
        assert await in_thread(client.post, "/v1/reload", {"dry_run": "1"}) == {"plan": {}}
        assert ops.runner.asked == [True]


async def test_what_mcpd_refuses_is_raised_with_its_words(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.error = ConfigError("it is wrong", file="f", line=2)
        with pytest.raises(Refused, match="1 fault") as caught:
            await in_thread(Client(path).post, "/v1/reload")
        assert (caught.value.status, caught.value.code) == (422, "invalid_configuration")
        assert caught.value.remedy
        assert caught.value.body["errors"][0]["line"] == 2


def test_nobody_there(tmp_path):
    for path in (tmp_path / "none.sock", tmp_path / "none" / "none.sock"):
        with pytest.raises(Unreachable, match="not running") as caught:
            Client(path).get("/v1/status")
        assert caught.value.permitted
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    with pytest.raises(Unreachable, match="not running"):
        Client(tmp_path / "left.sock").get("/v1/status")
    with pytest.raises(Unreachable):
        Client(tmp_path / ("x" * 200)).get("/v1/status")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"])
def test_somebody_else_there(tmp_path, answer):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unreachable, match=r"is no mcpd|connection|not running"):
            Client(path).get("/v1/status")
        thread.join()


def test_an_end_without_an_answer_is_told_from_nobody_there(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unreachable) as caught:
            Client(path).post("/v1/upgrade")
        thread.join()
    assert caught.value.parted
    path.unlink()
    with pytest.raises(Unreachable) as caught:
        Client(path).post("/v1/upgrade")
    assert not caught.value.parted


def whole(connection: socket.socket) -> bytes:
    """A request with its body."""
    data = b""
    while True:
        data += connection.recv(65536)
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            return data


class Answers:
    """Answers each connection with the next of these bytes, whatever is asked, and keeps what was."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.asked: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=answers)

    def _serve(self, *answers: bytes) -> None:
        for answer in answers:
            connection, _ = self._listener.accept()
            with connection:
                self.asked.append(whole(connection))
                connection.sendall(answer)

    def __enter__(self) -> Answers:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join()
        self._listener.close()


def answer(status: int, body: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers, "", body]).encode()


BUSY = answer(503, '{"code": "busy", "message": "full"}', "Retry-After: 0")


def test_it_sends_bodies_and_conditions(tmp_path):
    with Answers(tmp_path / "s", answer(201, '{"a": 1}', 'ETag: "7"'), answer(204, "")) as server:
        client = Client(tmp_path / "s")
        assert client.post("/v1/servers", body={"é": 1}, if_match='"6"') == {"a": 1}
        assert client.etag == '"7"'
        assert client.delete("/v1/servers/a", if_match=client.etag) == {}
        assert client.etag == ""
    first, second = server.asked
    assert b"Content-Type: application/json\r\n" in first
    assert b'If-Match: "6"\r\n' in first
    assert first.endswith(b'{"\\u00e9": 1}')
    assert second.startswith(b"DELETE /v1/servers/a HTTP/1.1\r\n")
    assert b'If-Match: "7"\r\n' in second


def test_it_comes_back_when_it_is_told_to(tmp_path):
    with Answers(tmp_path / "s", BUSY, BUSY, answer(200, "{}")) as server:
        assert Client(tmp_path / "s").get("/v1/status") == {}
    assert len(server.asked) == 3


def test_who_follows_comes_back_too(tmp_path):
    with Answers(tmp_path / "s", BUSY, answer(200, "id: a.1\n\nid: a.2\nevent: x\ndata: {}\n\n")) as server:
        assert [each.cursor for each in Client(tmp_path / "s").stream("/v1/events")] == ["a.1", "a.2"]
    assert len(server.asked) == 2
    with Answers(tmp_path / "t", answer(403, '{"code": "not_permitted"}')), pytest.raises(Refused):
        next(Client(tmp_path / "t").stream("/v1/events"))


def test_it_does_not_come_back_for_ever(tmp_path):
    later = answer(503, '{"code": "busy", "message": "full"}', "Retry-After: 100")
    with Answers(tmp_path / "s", later), pytest.raises(Unreachable, match="busy: full"):
        Client(tmp_path / "s").get("/v1/status")


def test_another_reason_for_503_is_no_reason_to_come_back(tmp_path):
    other = answer(503, '{"code": "unavailable", "message": "away"}', "Retry-After: 0")
    with Answers(tmp_path / "s", other), pytest.raises(Refused, match="away"):
        Client(tmp_path / "s").get("/v1/status")


def test_where_the_line_is_full_it_waits(tmp_path, monkeypatch):
    path, waited = tmp_path / "s", threading.Event()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))

        def serve() -> None:
            waited.wait()
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer(200, "{}"))

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setattr("mcpd.control.client.time.sleep", lambda seconds: waited.set())
        assert Client(path).get("/v1/status") == {}
        assert waited.is_set()
        thread.join()


def socket_in(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "control.sock"
    path.touch()
    return path


def test_the_first_place_that_has_one_is_taken(tmp_path):
    unit, runtime, state = tmp_path / "unit", tmp_path / "run", tmp_path / "state"
    environ = {
        "RUNTIME_DIRECTORY": f"{unit}:/elsewhere",
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_STATE_HOME": str(state),
        "HOME": str(tmp_path / "home"),
    }
    assert default_path(environ, uid=1000) == unit / "control.sock", "what a message names when there is none"
    expected = socket_in(state / "mcpd")
    assert default_path(environ, uid=1000) == expected
    expected = socket_in(runtime / "mcpd")
    assert default_path(environ, uid=1000) == expected
    expected = socket_in(unit)
    assert default_path(environ, uid=1000) == expected


def test_without_a_word_it_is_that_of_the_home_or_the_machine(tmp_path):
    home = socket_in(tmp_path / ".local" / "state" / "mcpd")
    assert default_path({"HOME": str(tmp_path)}, uid=1000) == home
    assert default_path({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "relative"}, uid=1000) == home
    if not os.path.lexists("/run/mcpd/control.sock"):
        assert default_path({"HOME": str(tmp_path)}, uid=0) == home
    assert default_path({}, uid=1000) == default_path({}, uid=0) == Path("/run/mcpd/control.sock")
