"""What `call`, `read` and `prompt` share: the request, its progress on stderr, and questions at the terminal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from mcpd.cli import form
from mcpd.cli.mcp import Talk
from mcpd.cli.table import printable
from mcpd.control.client import Refused

if TYPE_CHECKING:
    from mcpd.control.client import Body, Client

CLEAR: Final = "\r\x1b[K"
"""To the beginning of the line, and nothing on it."""


class Meanwhile:
    """What is told before the result. On a terminal progress is one line, which the next report replaces."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._drawn = False

    def hear(self, method: str, params: Body) -> None:
        """One notification."""
        if method == "notifications/progress":
            self._draw(progress(params))
        elif method == "notifications/message":
            self._say(f"{params.get('level', 'info')}: {_text(params.get('data'))}")

    def answer(self, method: str, params: Body) -> Body:
        """One question."""
        self.clear()
        return form.answer(form.Terminal(), method, params)

    def clear(self) -> None:
        """Take the line of progress away."""
        if self._drawn:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
            self._drawn = False

    def _draw(self, text: str) -> None:
        if not self._terminal:
            return  # in a log nobody wants a line for each step
        sys.stderr.write(CLEAR + printable(text))
        sys.stderr.flush()
        self._drawn = True

    def _say(self, text: str) -> None:
        self.clear()
        print(printable(text), file=sys.stderr)


def progress(params: Body) -> str:
    """`3/10 (30%) fetching`."""
    done, total, message = params.get("progress"), params.get("total"), params.get("message")
    parts = [f"{done:g}" if isinstance(done, (int, float)) else ""]
    if isinstance(total, (int, float)) and isinstance(done, (int, float)) and total > 0:
        parts = [f"{done:g}/{total:g} ({done / total:.0%})"]
    return " ".join([*filter(None, parts), *([message] if isinstance(message, str) else [])])


def ask(client: Client, method: str, params: Body, schema: Body | None = None) -> Body:
    """The result of a request. Nothing can be asked of the user where there is no terminal.

    Raises: Unreachable, Refused."""
    meanwhile = Meanwhile()
    able = sys.stdin.isatty() and sys.stderr.isatty()
    talk = Talk(client.path, hear=meanwhile.hear, answer=meanwhile.answer if able else None)
    try:
        return talk.request(method, params, schema)
    finally:
        meanwhile.clear()


def definition(client: Client, plural: str, name: str) -> Body:
    """What is known of a tool or prompt by its exposed name. Raises: Unreachable, Refused."""
    entries = client.get(f"/v1/{plural}")[plural]
    for each in entries:
        if each["name"] == name:
            found: Body = each["definition"]
            return found
    own = [each["name"] for each in entries if each["own_name"] == name]
    remedy = f"did you mean {' or '.join(own[:3])}?" if own else f"mcpctl {plural} lists them"
    raise Refused(404, {"code": "not_found", "message": f"there is no {plural[:-1]} {name!r}", "remedy": remedy})


def _text(data: object) -> str:
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
