"""What mcpd streams, followed over its restarts and upgrades: a stream that ends is asked for again where it was."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final

from mcpd.control.client import Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mcpd.control.client import Client, Streamed

AGAIN: Final = 0.2
"""Seconds until the first new attempt: an upgrade takes less than a second."""

AGAIN_MOST: Final = 2.0
"""Between later ones: somebody who waits for a service sees it within two seconds."""


def follow(client: Client, path: str, query: Mapping[str, str]) -> Iterator[Streamed]:
    """Events for ever. Raises: Unreachable, Refused, if there was never a stream, or is to be none any more."""
    asked = {key: value for key, value in query.items() if value}
    cursor, wait, missed = "", AGAIN, False
    while True:
        try:
            for event in client.stream(path, asked):
                if missed:
                    print("mcpctl: mcpd is back", file=sys.stderr)
                cursor, wait, missed = event.cursor or cursor, AGAIN, False
                if event.name:
                    yield event
        except Unreachable as error:
            if not cursor:
                raise
            if not missed and not error.parted:
                print("mcpctl: waiting for mcpd, which is not there any more", file=sys.stderr)
                missed = True
        except Refused as refused:
            if not cursor or refused.code != "busy":
                raise
        asked = {**{key: value for key, value in asked.items() if key != "lines"}, "after": cursor}
        time.sleep(wait)  # noqa: TID251 - there is no event loop here
        wait = min(wait * 2, AGAIN_MOST)


def as_line(event: Streamed) -> str:
    """An event as a line of JSON, with its cursor."""
    return json.dumps({**event.data, "cursor": event.cursor}, ensure_ascii=False)


def clock(at: object) -> str:
    """When something was, in local time."""
    return time.strftime("%b %d %H:%M:%S", time.localtime(float(at))) if isinstance(at, (int, float)) else "-"
