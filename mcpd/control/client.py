"""The other side of the control socket: one request, one answer. The standard library alone, for a fast start."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from http.client import HTTPResponse

T = TypeVar("T")
Body = dict[str, Any]

LOOK_TIME: Final = 10.0
"""Seconds to wait for an answer to a question; mcpd has it ready."""

CHANGE_TIME: Final = 300.0
"""Seconds to wait for something to be done. A reload waits half a minute for servers that do not come up, and for those
before it."""

QUEUE_WAIT: Final = 0.1
"""Seconds until another try where the line of those who connect is full; it is served in less."""

SILENCE: Final = 60.0
"""Seconds without a word of a stream, of which mcpd says one every fifteen."""

AGENT: Final = "mcpctl"
"""What mcpd keeps of how something was changed."""

FULL: Final = "too many connect to it"

NOT_THERE: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ENOTSOCK})


class Unreachable(Exception):
    """Nothing answers on the socket. `permitted` is False when this user may not even connect; `parted` is True when
    mcpd had the request, and ended the connection."""

    def __init__(self, path: Path, reason: str, *, permitted: bool = True, parted: bool = False) -> None:
        self.path = path
        self.reason = reason
        self.permitted = permitted
        self.parted = parted
        super().__init__(f"cannot reach mcpd at {path}: {reason}")


class Refused(Exception):
    """mcpd did not do it. `code` is for programs."""

    def __init__(self, status: int, body: Body) -> None:
        self.status = status
        self.body = body
        self.code = str(body.get("code", ""))
        self.remedy = str(body.get("remedy", ""))
        super().__init__(str(body.get("message", f"HTTP {status}")))


class Streamed(NamedTuple):
    """One event of a stream, with the cursor after it."""

    cursor: str
    name: str
    data: Body


class Connection(HTTPConnection):
    """To mcpd, whatever is asked over it. `timeout` is in seconds, for each time that something is waited for."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("mcpd", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def send_all(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> HTTPResponse:
        """Send a request; the head of its answer."""
        try:
            self.request(method, target, data, headers)
        except BrokenPipeError:
            pass  # it was answered before it was read
        return self.getresponse()


class _Busy(Exception):
    """All connections are in use; it is worth another try."""

    def __init__(self, after: float, reason: str) -> None:
        self.after = after
        super().__init__(reason)


class Client:
    """Asks one mcpd."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.etag = ""
        """Of the last answer: what a change may be made to depend on."""

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Body:
        """Look at something. Raises: Unreachable, Refused."""
        return self.ask("GET", path, query, timeout=LOOK_TIME)

    def post(
        self, path: str, query: Mapping[str, str] | None = None, body: object = None, *, if_match: str = ""
    ) -> Body:
        """Have something done; returns when it is. Raises: Unreachable, Refused."""
        return self.ask("POST", path, query, body, if_match=if_match)

    def delete(self, path: str, query: Mapping[str, str] | None = None, *, if_match: str = "") -> Body:
        """Have something removed; returns when it is. Raises: Unreachable, Refused."""
        return self.ask("DELETE", path, query, if_match=if_match)

    def stream(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Streamed]:
        """What mcpd streams, until it ends the stream; the first has no name, and says where the stream begins.

        Raises: Unreachable, Refused."""
        connection = None
        try:
            target = path + (f"?{urlencode(query)}" if query else "")
            connection, answer = self._patiently(lambda: self._open(target), LOOK_TIME)
            cursor, name, data = "", "", ""
            for line in answer:
                field, _, value = line.decode().rstrip("\r\n").partition(": ")
                if field == "id":
                    cursor = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data = value
                elif not field:
                    yield Streamed(cursor, name, json.loads(data) if data else {})
                    name = data = ""
        except PermissionError as error:
            raise Unreachable(self.path, _why(error), permitted=False) from None
        except TimeoutError:
            raise Unreachable(self.path, f"silent for {SILENCE:g} s") from None
        except OSError as error:
            raise Unreachable(self.path, _why(error)) from None
        except (HTTPException, ValueError) as error:
            raise Unreachable(self.path, f"the stream broke off ({error})", parted=True) from None
        finally:
            if connection is not None:
                connection.close()

    def _open(self, target: str) -> tuple[Connection, HTTPResponse]:
        """A stream that has begun. Raises: what a connection raises, Refused, _Busy."""
        connection = Connection(self.path, SILENCE)
        try:
            answer = connection.send_all("GET", target, None, {})
            if answer.status >= 300:
                raise _refusal(answer, json.loads(answer.read()))
        except BlockingIOError:
            connection.close()
            raise _Busy(QUEUE_WAIT, FULL) from None
        except BaseException:
            connection.close()
            raise
        return connection, answer

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        *,
        if_match: str = "",
        timeout: float = CHANGE_TIME,
    ) -> Body:
        """What mcpd answers. While it has no connection to spare it is asked again, for `timeout` seconds at most.

        Raises: Unreachable, Refused."""
        target = path + (f"?{urlencode(query)}" if query else "")
        headers = {"User-Agent": AGENT, **({"If-Match": if_match} if if_match else {})}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return self._patiently(lambda: self._ask(method, target, data, headers, timeout), timeout)

    def _patiently(self, attempt: Callable[[], T], timeout: float) -> T:
        """What an attempt gives that finds mcpd not busy. Raises: Unreachable, and what it raises."""
        until = time.monotonic() + timeout
        while True:
            try:
                return attempt()
            except _Busy as busy:
                # Those that were turned away together do not come back together.
                wait = busy.after * (0.5 + os.getpid() % 64 / 64)
                if time.monotonic() + wait > until:
                    raise Unreachable(self.path, f"it is busy: {busy}") from None
                time.sleep(wait)  # noqa: TID251 - this is no daemon: nobody waits for a loop

    def _ask(self, method: str, target: str, data: bytes | None, headers: dict[str, str], timeout: float) -> Body:
        """Raises: Unreachable, Refused, _Busy."""
        connection = Connection(self.path, timeout)
        try:
            answer = connection.send_all(method, target, data, headers)
            text = answer.read()
            body = json.loads(text) if text else {}
            if not isinstance(body, dict):
                raise ValueError("no JSON object")
        except PermissionError as error:
            raise Unreachable(self.path, _why(error), permitted=False) from None
        except TimeoutError:
            raise Unreachable(self.path, f"no answer within {timeout:g} s") from None
        except BlockingIOError:
            raise _Busy(QUEUE_WAIT, FULL) from None
        except ConnectionResetError:  # with http.client's own for an end without an answer
            raise Unreachable(self.path, "it ended the connection without an answer", parted=True) from None
        except OSError as error:
            raise Unreachable(self.path, _why(error)) from None
        except (HTTPException, ValueError) as error:
            raise Unreachable(self.path, f"what answers is no mcpd ({error})") from None
        finally:
            connection.close()
        if answer.status >= 300:
            raise _refusal(answer, body)
        self.etag = answer.headers.get("ETag", "")
        return body


def _refusal(answer: HTTPResponse, body: Body) -> Exception:
    after = answer.headers.get("Retry-After", "")
    if body.get("code") == "busy" and after.isdigit():
        return _Busy(float(after), str(body.get("message", "")))
    return Refused(answer.status, body)


def _why(error: OSError) -> str:
    if error.errno in NOT_THERE:
        return "it is not running, or has another socket"
    return (error.strerror or str(error)).lower()


def default_path(environ: Mapping[str, str], *, uid: int) -> Path:
    """Where mcpd's socket is, if nobody says where: the first place that has one, else the first place.

    As a service's own command (ExecReload=) that is the service's; else root's is the machine's, and everybody else's
    is their own before the machine's.
    """
    places = []
    by_systemd = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if by_systemd:
        places.append(Path(by_systemd))
    machine = Path("/run/mcpd")
    if uid == 0:
        places.append(machine)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        places.append(Path(runtime) / "mcpd")
    state = environ.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        places.append(Path(state) / "mcpd")
    elif environ.get("HOME", "").startswith("/"):
        places.append(Path(environ["HOME"]) / ".local" / "state" / "mcpd")
    places.append(machine)
    paths = [place / "control.sock" for place in places]
    return next((path for path in paths if os.path.lexists(path)), paths[0])
