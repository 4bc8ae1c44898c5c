"""`mcpctl check NAME`: start a server once as mcpd would, and say what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli import statuses
from mcpd.cli.switching import add_name, switch
from mcpd.cli.table import json_text, printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "start a server once as mcpd would, beside what runs of it, and say what happened"

COUNTS: Final = ("tools", "resources", "resource_templates", "prompts")


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_name(parser)


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    answer = switch(client, options.name, "check")
    if options.json:
        print(json_text(answer))
    else:
        for line in lines(answer):
            print(printable(line))
    return statuses.OK if answer["ok"] else statuses.FAILED


def lines(answer: Body) -> list[str]:
    """What happened, in its order."""
    words = "came up" if answer["ok"] else "did not come up"
    found = [f"{answer['name']} {words} after {answer['seconds']:.2f} s, over {answer.get('transport')}"]
    server = answer["server"]
    if server is not None:
        who = " ".join(str(server[key]) for key in ("name", "version") if key in server)
        found.append(f"it is {who or 'nameless'}, and speaks {answer.get('protocol_version')}")
        counts = (f"{answer.get(key, 0)} {key.replace('_', ' ')}" for key in COUNTS)
        found.append(f"it has {', '.join(counts)}")
    failure = answer.get("failure")
    if failure is not None:
        found += [f"{failure['kind']}: {failure['reason']}", f"remedy: {failure['remedy']}"]
    elif "error" in answer:
        found.append(str(answer["error"]))
    if answer["stderr"]:
        found += ["it wrote to stderr:", *(f"  {line}" for line in answer["stderr"])]
    return found
