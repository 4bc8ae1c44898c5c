"""`mcpctl reload`: have mcpd read its configuration anew, and wait for the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.table import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "read the configuration anew, and do what differs"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.post("/v1/reload", {"dry_run": "1"} if options.dry_run else None)


def show(answer: Body, options: Namespace) -> None:
    """One line for everything that differs."""
    plan, states = answer["plan"], answer["servers"]
    for word, names in (("added", plan["added"]), ("changed", plan["changed"])):
        for name in names:
            keys = f" ({', '.join(names[name])})" if isinstance(names, dict) else ""
            print(f"{word:10}{name}{keys}{_state(states.get(name))}")
    for name, keys in plan["adjusted"].items():
        print(f"{'adjusted':10}{name} ({', '.join(keys)})")
    for name in plan["removed"]:
        print(f"{'removed':10}{name}")
    if plan["reordered"]:
        print(f"{'reordered':10}servers that stay")
    for name in plan["settings"]:
        print(f"{'applied':10}{name}")
    for name in plan["needs_restart"]:
        print(f"{'restart':10}{name} differs, which applies when mcpd is restarted")
    print(f"{'unchanged':10}{len(plan['unchanged'])}")
    for name in answer["draining"]:
        print(f"{'draining':10}{name} finishes its calls")


def _state(about: Body | None) -> str:
    if about is None:
        return ""
    return f": {about['state']}" + (f", {printable(about['error'])}" if "error" in about else "")
