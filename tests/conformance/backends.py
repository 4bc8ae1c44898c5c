"""What stands behind mcpd in a run: our fixture in every era and over both transports, or a server that is given."""

from __future__ import annotations

import shlex
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fixtures.peer import JSON, fixture_command, start_fixture

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

ERAS = ("legacy", "modern", "both")
"""What a server speaks: the versions with a handshake, 2026-07-28, or either as it is asked."""
TRANSPORTS = ("http", "stdio")
FIXTURE = "everything"
POLL_AFTER = 0.15
"""Seconds after which mcpd ends the stream of a running call, so that the client polls. A legacy server on HTTP ends
its own, and with both the suite would not wait long enough; a pipe cannot, and a modern server never does, so without
this the polling scenarios have nothing to see. Their tool takes 0.3 s, and mcpd opens the stream after 0.1 s: the
stream must end before the answer, and the one that the client polls with after it, for the suite polls once."""


@dataclass(frozen=True, slots=True)
class Case:
    """One backend."""

    era: str
    transport: str
    url: str = ""
    """Of a server that runs already."""
    command: tuple[str, ...] = ()
    """Of a server on stdio. With neither it is our fixture over HTTP, started for the run."""

    @asynccontextmanager
    async def entry(self) -> AsyncIterator[JSON]:
        """mcpd's entry for it; what had to be started is stopped at the end of the block."""
        if self.command:
            command, *arguments = self.command
            yield {"command": command, "args": arguments}
        elif self.url:
            yield {"url": self.url}
        else:
            async with start_fixture(FIXTURE, "--era", self.era) as running:
                yield {"url": running.url}


def cases(options: argparse.Namespace) -> list[Case]:
    """What is to be run, from the command line's options."""
    if options.backend_url:
        return [Case(options.backend_era, "http", url=options.backend_url)]
    if options.backend_command:
        given = options.backend_command
        eras = ERAS if "{era}" in given else (options.backend_era,)
        return [Case(era, "stdio", command=tuple(shlex.split(given.replace("{era}", era)))) for era in eras]
    if options.quick:
        return [Case("both", "http")]
    if options.direct:
        return [Case(era, "http") for era in ERAS]
    stdio = {era: tuple(fixture_command(FIXTURE, "--era", era)) for era in ERAS}
    return [
        Case(era, transport, command=stdio[era] if transport == "stdio" else ())
        for era in ERAS
        for transport in TRANSPORTS
    ]


def configuration(entry: JSON, front: str, era: str) -> JSON:
    """mcpd's configuration for one backend whose names are passed on as they are.

    A modern client has no session that a legacy backend's questions could be told apart by: each call that may be
    asked gets a session of the backend for itself (`leased`).
    """
    server = {**entry, "prefix": ""}
    if front == "modern" and era == "legacy":
        server["instances"] = "leased"
    polls_itself = era == "legacy" and "url" in entry
    streams = {} if polls_itself else {"poll_after": POLL_AFTER}
    return {"listen": {"port": 0}, "streams": streams, "mcpServers": {"server": server}}
