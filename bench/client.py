"""A small MCP client over http.client, for what is done once: waiting for tools, comparing payloads."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

from bench.process import Failure

VERSION = "2025-11-25"
READ_BYTES = 1 << 20
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def messages(content_type: str, body: bytes) -> list[bytes]:
    """The JSON texts of an answer: the body, or the data of its events (one `data` line each)."""
    if not content_type.startswith("text/event-stream"):
        return [body]
    lines = (line.rstrip(b"\r") for line in body.split(b"\n"))
    return [data for line in lines if line.startswith(b"data:") and (data := line[5:].strip())]


class Client:
    """One connection with one session; `timeout` bounds each answer as a whole.

    Raises: OSError and http.client.HTTPException while nobody answers, Failure when the answer is no result.
    """

    def __init__(self, port: int, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self.headers = dict(HEADERS)
        self.next_id = 0

    def __enter__(self) -> Client:
        hello = {"name": "bench", "version": "1"}
        params = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": hello}
        answer = json.loads(self.request("initialize", json.dumps(params).encode()))
        self.headers["MCP-Protocol-Version"] = answer["result"].get("protocolVersion", VERSION)
        self._post(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def _post(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        self.connection.request("POST", "/mcp", body, self.headers)
        end = time.monotonic() + self.timeout
        response = self.connection.getresponse()
        sock = self.connection.sock
        received = bytearray()
        # A stream may be kept alive by comments for ever, so that no single read times out.
        while part := response.read1(READ_BYTES):
            received += part
            if sock is not None:
                sock.settimeout(max(0.001, end - time.monotonic()))
        response.read()  # nothing is left; but only this tells http.client so
        return response, bytes(received)

    def request(self, method: str, params: bytes = b"{}") -> bytes:
        """Sends a request whose params are JSON text already; the JSON text of its answer."""
        wanted, self.next_id = self.next_id, self.next_id + 1
        head = f'{{"jsonrpc":"2.0","id":{wanted},"method":"{method}","params":'.encode()
        response, body = self._post(head + params + b"}")
        if response.status != 200:
            raise Failure(f"{method}: status {response.status}: {body[:120].decode(errors='replace')}")
        if session := response.getheader("Mcp-Session-Id"):
            self.headers["Mcp-Session-Id"] = session
        for text in messages(response.getheader("Content-Type") or "", body):
            try:
                message = json.loads(text)
            except ValueError as e:
                raise Failure(f"{method}: not JSON: {text[:120].decode(errors='replace')}") from e
            if isinstance(message, dict) and message.get("id") == wanted and "method" not in message:
                if not isinstance(message.get("result"), dict) or message["result"].get("isError"):
                    raise Failure(f"{method}: {text[:160].decode(errors='replace')}")
                return text
        raise Failure(f"{method}: no answer with our id")

    def tool_names(self) -> list[str]:
        """The names of all tools, every page of them."""
        names: list[str] = []
        params: dict[str, Any] = {}
        while True:
            result = json.loads(self.request("tools/list", json.dumps(params).encode()))["result"]
            names += [tool["name"] for tool in result.get("tools", [])]
            if not (cursor := result.get("nextCursor")):
                return names
            params = {"cursor": cursor}
