"""`mcpctl import`: have mcpd run the servers that clients are configured with."""

from __future__ import annotations

import getpass
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpd.cli.clients.forms import Entry, Unreadable, entries
from mcpd.cli.clients.own import is_own
from mcpd.cli.clients.places import TITLES, files, surroundings
from mcpd.cli.clients.texts import Missing
from mcpd.cli.clients.translate import Translated, translate
from mcpd.cli.table import printable
from mcpd.control.client import Refused, Unreachable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from mcpd.control.client import Body, Client

SUMMARY: Final = "have mcpd run the servers that an MCP client is configured with"

HIDDEN: Final = "***"
_REFERENCE: Final = re.compile(r"\$\{[^{}]*\}")
_TELLTALE: Final = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument(
        "source",
        metavar="CLIENT|FILE",
        nargs="?",
        help=f"{', '.join(TITLES)}, or a file that one of them could read; all of them when left out",
    )
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[], help="only these servers")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be sent to mcpd")
    parser.add_argument("--fill", action="store_true", help="put in the values that variables have here")
    parser.add_argument("--ask", action="store_true", help="ask for what the client would ask for")


def ask(client: Client, options: Namespace) -> Body:
    """What was imported and what was not. Raises: Unreachable, Refused."""
    listen, there = _about(client, options)
    skipped: list[Body] = []
    found = _chosen(_entries(options.source, skipped), options.only, skipped)
    ready: dict[str, Translated] = {}
    places: dict[str, Entry] = {}
    home = surroundings().home
    for entry in found:
        try:
            if is_own(entry, listen):
                raise Missing("it is mcpd itself", "")
            one = translate(
                entry, home, filled=os.environ if options.fill else None, answer=_asker(entry) if options.ask else None
            )
            if one.name in ready:
                if ready[one.name].table == one.table:
                    continue  # the same in another place
                raise Missing(f"another one of that name is in {places[one.name].place}", "import it by its file")
            if one.name in there:
                raise Missing("mcpd has a server of that name", "")
        except Missing as error:
            skipped.append(_skip(entry.name, entry.place, error.reason, error.remedy))
        else:
            ready[one.name], places[one.name] = one, entry
    outcome: Body = {}
    if ready and not options.dry_run:
        outcome = _send(client, ready, places, skipped)
    for each in skipped:
        if "environment variable" in each["reason"] and not options.fill:
            each["remedy"] = "set it for mcpd, or have its value from here put in with --fill"
    return {
        "dry_run": options.dry_run,
        "imported": [_told(one, places[name], outcome, shown=options.dry_run) for name, one in ready.items()],
        "skipped": skipped,
    }


def show(answer: Body, options: Namespace) -> None:
    """A line for each server, and one for each thing to know about it."""
    word = "would import" if answer["dry_run"] else "imported"
    for each in answer["imported"]:
        state = f": {each['state']}" if "state" in each else ""
        print(f"{word} {each['name']} from {printable(each['place'])}{state}")
        for key, value in each.get("server", {}).items():
            print(f"    {key}: {printable(_plainly(value))}")
        if "error" in each:
            print(f"    {printable(each['error'])}")
        if each["variables"]:
            print(f"    needs in mcpd's environment: {', '.join(each['variables'])} (or use --fill)")
        for note in each["notes"]:
            print(f"    note: {printable(note)}")
    for each in answer["skipped"]:
        remedy = f" ({each['remedy']})" if each["remedy"] else ""
        print(printable(f"skipped {each['name']} from {each['place']}: {each['reason']}{remedy}"))
    if not answer["imported"]:
        print("nothing new")


def _about(client: Client, options: Namespace) -> tuple[list[str], set[str]]:
    """mcpd's addresses and the names of its servers."""
    try:
        return client.get("/v1/status").get("listen", []), {
            each["name"] for each in client.get("/v1/servers")["servers"]
        }
    except Unreachable:
        if not options.dry_run:
            raise
        return [], set()


def _entries(source: str | None, skipped: list[Body]) -> list[Entry]:
    """Of the file, the client or all clients. Raises: Refused."""
    around = surroundings()
    if source is not None and source not in TITLES:
        try:
            return entries(Path(source))
        except FileNotFoundError:
            remedy = f"name a file, or one of {', '.join(TITLES)}"
            raise _refused("no_such_file", f"there is no file {source}", remedy) from None
        except Unreadable as error:
            raise _refused("unreadable", str(error)) from None
    found: list[Entry] = []
    looked: list[Path] = []
    for client in [source] if source is not None else TITLES:
        for file in dict.fromkeys(files(client, around)):  # in the home directory, the user's own are the project's
            looked.append(file)
            try:
                found += entries(file, client)
            except FileNotFoundError:
                pass
            except Unreadable as error:
                skipped.append(_skip("*", str(file), str(error), "mend it, then import it"))
    if not any(map(os.path.lexists, looked)):
        who = TITLES[source] if source is not None else "any client"
        remedy = "name its file: mcpctl import FILE"
        raise _refused("no_such_file", f"no configuration of {who} is in {', '.join(map(str, looked))}", remedy)
    return found


def _chosen(found: list[Entry], only: list[str], skipped: list[Body]) -> list[Entry]:
    if not only:
        return found
    names = {entry.name for entry in found}
    skipped += [
        _skip(name, "the command line", "no such server is configured there") for name in only if name not in names
    ]
    return [entry for entry in found if entry.name in only]


def _send(client: Client, ready: dict[str, Translated], places: dict[str, Entry], skipped: list[Body]) -> Body:
    """Have mcpd add them. Those that it finds a fault with are left out, and the others added. Raises: Refused."""
    while ready:
        try:
            return client.post("/v1/servers", body={"mcpServers": {name: one.table for name, one in ready.items()}})
        except Refused as error:
            faulty = _faulty(error, ready)
            if not faulty:
                raise
            for name, (reason, remedy) in faulty.items():
                skipped.append(_skip(name, places[name].place, reason, remedy))
                del ready[name]
    return {}


def _faulty(error: Refused, ready: dict[str, Translated]) -> dict[str, tuple[str, str]]:
    """Of the servers that were sent, those that mcpd names in its refusal."""
    found: dict[str, tuple[str, str]] = {}
    for each in error.body.get("errors") or ():
        path = str(each.get("path", ""))
        # A name may have dots in it, so that the longest one that fits is meant.
        names = [name for name in ready if path == f"mcpServers.{name}" or path.startswith(f"mcpServers.{name}.")]
        if names:
            name = max(names, key=len)
            what = path.removeprefix(f"mcpServers.{name}").lstrip(".")
            reason = f"{what}: {each.get('message')}" if what else str(each.get("message"))
            found.setdefault(name, (reason, str(each.get("remedy") or "")))
    return found


def _told(one: Translated, entry: Entry, outcome: Body, *, shown: bool) -> Body:
    about: Body = {
        "name": one.name,
        "place": entry.place,
        "notes": one.notes,
        "variables": sorted(one.variables),
    }
    about |= {key: outcome.get("servers", {}).get(one.name, {}).get(key) for key in ("state", "error")}
    if shown:
        about["server"] = hidden(one.table)
    return {key: value for key, value in about.items() if value is not None}


def hidden(table: dict[str, Any]) -> Body:
    """A server's table without what may be a secret; which variable it is in may be shown."""
    result = dict(table)
    for key in ("env", "headers"):
        if key in table:
            result[key] = {name: _hide(value) for name, value in table[key].items()}
    if "args" in table:
        result["args"] = _arguments(table["args"])
    if "url" in table:
        address, question, rest = table["url"].partition("?")
        result["url"] = address + (f"?{_hide(rest)}" if question else "")
    return result


def _arguments(given: list[str]) -> list[str]:
    shown: list[str] = []
    previous = ""
    for each in given:
        option, equals, value = each.partition("=")
        if equals and _TELLTALE.search(option):
            shown.append(f"{option}={_hide(value)}")
        elif _TELLTALE.search(previous) and not each.startswith("-"):
            shown.append(_hide(each))
        else:
            # What a header says, behind `--header`, and what looks like a token.
            header = each.partition(":")
            telling = previous.lstrip("-") in ("header", "H") and header[1]
            shown.append(f"{header[0]}: {HIDDEN}" if telling else each)
        previous = each if each.startswith("-") and not equals else ""
    return shown


def _hide(value: str) -> str:
    found = _REFERENCE.findall(value)
    return HIDDEN if not found else " ".join(found)


def _plainly(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _asker(entry: Entry) -> Callable[[str, bool], str]:
    def answer(what: str, secret: bool) -> str:
        prompt = f"{printable(entry.name)}: {printable(what)}: "
        if secret:
            return getpass.getpass(prompt)
        print(prompt, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().rstrip("\n")

    return answer


def _skip(name: str, place: str, reason: str, remedy: str = "") -> Body:
    return {"name": name, "place": place, "reason": reason, "remedy": remedy}


def _refused(code: str, message: str, remedy: str = "") -> Refused:
    return Refused(404, {"code": code, "message": message, "remedy": remedy})
