"""`mcpctl sessions`: the clients that mcpd has sessions with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.table import duration, table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "list the sessions of clients, the one used last first"

HEAD: Final = ("SESSION", "CLIENT", "PRINCIPAL", "VERSION", "AGE", "IDLE", "CALLS", "SUBSCRIPTIONS", "LISTENS")


def arguments(parser: ArgumentParser) -> None:
    """This verb has none of its own."""


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.get("/v1/sessions")


def show(answer: Body, options: Namespace) -> None:
    """A table, and a line for those who have no session and are there all the same."""
    print(table(HEAD, map(_row, answer["sessions"])) if answer["sessions"] else "no sessions")
    if answer["listening"]:
        print(f"and {answer['listening']} without a session that listen for news")


def _row(each: Body) -> tuple[object, ...]:
    age = duration(each["age"]) if "age" in each else None
    listens = "yes" if each["listens"] else "no"
    facts = (each[key] for key in ("tag", "client", "principal", "protocol_version"))
    return (*facts, age, duration(each["idle"]), each["calls"], each["subscriptions"], listens)
