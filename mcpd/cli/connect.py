"""`mcpctl connect`: what to put into a client's configuration to reach mcpd; or puts it there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpd.cli.clients import own
from mcpd.cli.clients.places import TITLES, main_file, surroundings
from mcpd.cli.clients.writing import CannotWrite, NoChange, snippet, write
from mcpd.cli.table import printable
from mcpd.control.client import Refused, Unreachable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "say, or write, what an MCP client needs to reach mcpd"

ONLY_PROGRAMS: Final = frozenset({"claude-desktop"})
"""Clients whose files name programs, and no remote servers."""


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument(
        "client", metavar="CLIENT", nargs="?", choices=tuple(TITLES), help=f"{', '.join(TITLES)}; all when left out"
    )
    parser.add_argument(
        "--write", metavar="FILE", nargs="?", const="", help="put it into the client's own file, or into this one"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--url", action="store_true", help="connect to this mcpd over HTTP; what most clients do")
    how.add_argument("--stdio", action="store_true", help="have the client start an mcpd of its own")


def ask(client: Client, options: Namespace) -> Body:
    """What belongs where, and what was done about it. Raises: Unreachable, Refused."""
    if options.write is not None and options.client is None:
        raise Refused(
            400,
            {
                "code": "no_client",
                "message": "which client is to be written for?",
                "remedy": "name it first: mcpctl connect cursor --write",
            },
        )
    names = [options.client] if options.client is not None else list(TITLES)
    return {"clients": [_connect(client, name, options, alone=options.client is not None) for name in names]}


def show(answer: Body, options: Namespace) -> None:
    """The text to put in, or what was done."""
    for number, each in enumerate(answer["clients"]):
        if "written" in each:
            print(
                f"{each['title']} reaches mcpd now by {printable(each['file'])}"
                if each["written"]
                else f"nothing to do: it is in {printable(each['file'])} already"
            )
            if each["kept"] is not None:
                print(f"what was there is kept as {printable(each['kept'])}")
            if each["written"]:
                print(f"start {each['title']} again, so that it reads it")
            continue
        print(("\n" if number else "") + f"# {each['title']}: {printable(each['file'])}")
        print(each["snippet"], end="")


def _connect(client: Client, name: str, options: Namespace, *, alone: bool) -> Body:
    table = _entry(client, name, options, alone=alone)
    file = Path(options.write) if options.write else main_file(name, surroundings())
    about: Body = {"client": name, "title": TITLES[name], "file": str(file), "entry": table}
    about["snippet"] = snippet(name, table)
    if options.write is not None:
        try:
            kept = write(name, file, table)
            about |= {"written": True, "kept": None if kept is None else str(kept)}
        except NoChange:
            about |= {"written": False, "kept": None}
        except CannotWrite as error:
            section = ".".join(own.HOMES[name])
            raise Refused(
                409,
                {
                    "code": "cannot_write",
                    "message": f"{file} is left as it was: {error}",
                    "remedy": f"put {section} into it by hand, as 'mcpctl connect {name}' prints it",
                },
            ) from None
    return about


def _entry(client: Client, name: str, options: Namespace, *, alone: bool) -> dict[str, object]:
    if options.url and name in ONLY_PROGRAMS and alone:
        remedy = "leave --url out: it starts a program that goes there; or add the address in its settings"
        message = f"{TITLES[name]} reads no addresses from its file"
        raise Refused(400, {"code": "not_possible", "message": message, "remedy": remedy})
    status: Body = {}
    try:
        status = client.get("/v1/status")
    except Unreachable:
        if not options.stdio and name not in ONLY_PROGRAMS:
            raise
    listen = status.get("listen") or []
    if name in ONLY_PROGRAMS and listen and not options.stdio:
        return own.by_bridge(name, f"{_reachable(listen[0])}/mcp")
    if options.stdio or name in ONLY_PROGRAMS:
        configuration = status.get("configuration", "")
        return own.by_program(name, configuration if configuration.startswith("/") else "")
    if not listen:
        raise Refused(
            409, {"code": "no_address", "message": "mcpd serves no clients over HTTP", "remedy": "use --stdio"}
        )
    return own.by_url(name, f"{_reachable(listen[0])}/mcp")


def _reachable(address: str) -> str:
    """Where a client on this machine finds what listens on all addresses."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
