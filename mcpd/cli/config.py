"""`mcpctl config check | diff | show`: what is configured, what would be, and where it is from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mcpd.cli import statuses
from mcpd.cli.planned import show_plan
from mcpd.cli.table import json_text, printable, table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "check the configuration, compare it with what runs, or show it"

HEAD: Final = ("SERVER", "ENABLED", "DEFINED IN", "ADDED", "BY", "WITH")


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("what", choices=("check", "diff", "show"), help="what to do; none of them changes anything")


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    if options.what == "check":
        answer = client.post("/v1/config/check")
    else:
        answer = client.get("/v1/config/diff" if options.what == "diff" else "/v1/config")
    if options.json:
        print(json_text(answer))
    else:
        SHOW[options.what](answer)
    return statuses.INVALID if answer.get("errors") else statuses.OK


def _show_check(answer: Body) -> None:
    print("no faults; a reload would do this:")
    show_plan(answer)


def _show_diff(answer: Body) -> None:
    """What a reload would do, then what was changed while mcpd ran, then what is wrong with that."""
    for each in answer["errors"]:
        where = ":".join(str(part) for part in (each["file"], each["line"]) if part)
        parts = [part for part in (where, each["path"], each["message"]) if part]
        print(printable("fault     " + ": ".join(parts) + (f" ({each['remedy']})" if each["remedy"] else "")))
    if answer["errors"]:
        print("A reload would change nothing.")
        return
    show_plan({"servers": {}, "draining": [], **answer})
    for each in answer["added"]:
        print(
            printable(f"overlay   {each['name']}: added {_when(each)}" + ("" if each["in_effect"] else ", no effect"))
        )
    for each in answer["marked"]:
        print(printable(f"overlay   {each['name']}: {('disabled', 'enabled')[each['enabled']]} {_when(each)}"))
    _show_oddities(answer)


def _show_oddities(answer: Body) -> None:
    for each in answer["conflicts"]:
        where = ":".join(str(part) for part in (each["file"], each["line"]) if part)
        text = f"conflict  {each['name']}: {where} defines it, so what was added has no effect"
        print(printable(f"{text} (mcpctl remove-server {each['name']})"))
    for problem in answer["problems"]:
        print(printable(f"problem   {problem}"))


def _show_effective(answer: Body) -> None:
    """Settings, then where each server is from; all of a server is in the JSON."""
    for source in answer["sources"]:
        print(printable(f"# {source}"))
    for name, value in _flat(answer["settings"]):
        print(printable(f"{name}: {value}"))
    rows = []
    for name, server in answer["servers"].items():
        origin = answer["origins"].get(name, {})
        added = origin.get("added") or {}
        place = ":".join(str(part) for part in (origin.get("file"), origin.get("line")) if part)
        enabled = ("no", "yes")[server["enabled"]] + (" (switched)" if origin.get("marked") else "")
        rows.append((name, enabled, place, added.get("at"), added.get("by"), added.get("how")))
    print()
    print(table(HEAD, rows) if rows else "no servers")
    _show_oddities(answer)


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, inner in value.items():
        if isinstance(inner, dict):
            found += _flat(inner, f"{prefix}{key}.")
        else:
            found.append((prefix + key, json.dumps(inner, ensure_ascii=False)))
    return found


def _when(each: Body) -> str:
    return f"{each['at']} by {each['by']} with {each['how']}"


SHOW: Final = {"check": _show_check, "diff": _show_diff, "show": _show_effective}
"""What people read of each."""
