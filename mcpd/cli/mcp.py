"""`mcpctl` as a client of MCP, over the control socket: one request, with all that comes before its result.

Theory of operation. A request stands alone (2026-07-28), on a connection of its own. What the server tells meanwhile is
handed on; when it needs something of the user the answer is `input_required`, and the request is sent again with it. To
close the connection is to cancel the request, so an interrupted mcpctl has nothing more to do.

Source: 2026-07-28 "Streamable HTTP", "Multi round-trip requests".
"""

from __future__ import annotations

import itertools
import json
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcpd import __version__
from mcpd.control.client import Connection, Refused, Unreachable
from mcpd.errors import ProtocolError
from mcpd.protocol.envelope import CAPABILITIES, CLIENT_INFO, VERSION
from mcpd.protocol.mirror import Parameters, request_headers
from mcpd.protocol.sse import EventDecoder
from mcpd.protocol.versions import MODERN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPResponse
    from pathlib import Path

    from mcpd.control.client import Body

ROUNDS_MAX: Final = 50
"""Times that input is given for one request: more than a person types. A server that never has enough meets an end."""

SILENCE: Final = 1800.0
"""Seconds without a byte; mcpd sends a comment every quarter of a minute, so it is no limit of calls."""

PAUSE: Final = 0.25
"""Seconds before a request is sent again for which nothing was asked."""

MESSAGE_MAX: Final = 64 << 20
"""Bytes of one message: as much as mcpd takes from a server."""

READ: Final = 64 << 10
TOKEN: Final = "mcpctl"
"""Of progress; the one request on a connection needs no other."""


class Talk:
    """Requests to the mcpd behind a socket. `hear` is given each notification, `answer` each question with its params,
    and returns the answer; without it nothing can be asked."""

    def __init__(
        self, path: Path, *, hear: Callable[[str, Body], None], answer: Callable[[str, Body], Body] | None
    ) -> None:
        self._path = path
        self._hear = hear
        self._answer = answer
        self._ids = itertools.count(1)
        asked: Body = {} if answer is None else {"elicitation": {"form": {}, "url": {}}}
        self._meta = {
            VERSION: MODERN.text,
            CAPABILITIES: asked,
            CLIENT_INFO: {"name": "mcpctl", "version": __version__},
            "progressToken": TOKEN,
        }

    def request(self, method: str, params: Body, schema: Body | None = None) -> Body:
        """The result. `schema` is the inputSchema of the tool that is called.

        Raises: Refused, with the error's code as a number in words; Unreachable.
        """
        more: Body = {}
        for _ in range(ROUNDS_MAX):
            result = self._exchange(method, {**params, **more}, schema)
            if result.get("resultType") != "input_required":
                return result
            asked = result.get("inputRequests") or {}
            if not asked:
                time.sleep(PAUSE)  # noqa: TID251 - this is no daemon: nobody waits for a loop
            more = {"inputResponses": {key: self._answered(each) for key, each in asked.items()}}
            if "requestState" in result:
                more["requestState"] = result["requestState"]
        raise Refused(0, {"code": "endless", "message": f"the server asked {ROUNDS_MAX} times", "remedy": ""})

    def _answered(self, asked: Body) -> Body:
        assert self._answer is not None, "what was not declared is not asked"
        return self._answer(str(asked.get("method")), asked.get("params") or {})

    def _exchange(self, method: str, params: Body, schema: Body | None) -> Body:
        id = next(self._ids)
        params = {**params, "_meta": self._meta}
        headers = _headers(method, params, schema)
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        connection = Connection(self._path, SILENCE)
        try:
            answer = connection.send_all("POST", "/mcp", json.dumps(message).encode(), headers)
            for each in _messages(answer):
                if "method" in each:
                    self._hear(str(each["method"]), each.get("params") or {})
                else:
                    return _result(each, answer.status)
        except PermissionError as error:
            raise Unreachable(self._path, str(error.strerror).lower(), permitted=False) from None
        except (OSError, HTTPException) as error:
            raise Unreachable(self._path, f"{error or type(error).__name__}") from None
        except ValueError as error:
            raise Unreachable(self._path, f"what answers is no mcpd ({error})") from None
        finally:
            connection.close()
        raise Unreachable(self._path, "it ended the connection without an answer", parted=True)


def _headers(method: str, params: Body, schema: Body | None) -> dict[str, str]:
    """Those of a request, the repeated parameters among them. Raises: Refused."""
    members = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in params.items()}
    try:
        parameters = Parameters.read(msgspec.json.encode(schema) if schema is not None else None)
        lines = request_headers(method, members, parameters).decode("latin-1")
    except (ValueError, ProtocolError) as error:
        raise Refused(0, {"code": "invalid_arguments", "message": str(error), "remedy": ""}) from None
    own = dict(line.split(": ", 1) for line in lines.splitlines())
    return {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN.text,
        **own,
    }


def _messages(answer: HTTPResponse) -> Iterator[Body]:
    """What arrives, until its end. Raises: ValueError."""
    if answer.headers.get_content_type() != "text/event-stream":
        yield _message(answer.read())
        return
    decoder = EventDecoder(MESSAGE_MAX)
    while data := answer.read1(READ):
        decoder.receive_data(data)
        while (event := decoder.next_event()) is not None:
            if event.data:
                yield _message(event.data)


def _message(data: bytes) -> Body:
    message: Any = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("no JSON object")
    return message


def _result(message: Body, status: int) -> Body:
    """Raises: Refused, ValueError."""
    result = message.get("result")
    if isinstance(result, dict):
        return result
    error = message.get("error")
    if isinstance(error, dict):
        data = error.get("data")
        about = data if isinstance(data, dict) else {}
        # mcpd's own errors name the remedy apart and at their end.
        remedy = str(about.get("remedy", ""))
        text = str(error.get("message", "")).removesuffix(f" ({remedy})")
        code = str(about.get("kind") or error.get("code"))
        raise Refused(status, {"code": code, "message": text, "remedy": remedy, "data": data})
    if "code" in message:
        raise Refused(status, message)
    raise ValueError("neither a result nor an error")
