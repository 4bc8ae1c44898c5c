"""What differs between a configuration and what runs, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.cli.table import printable

if TYPE_CHECKING:
    from mcpd.control.client import Body


def show_plan(answer: Body) -> None:
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
