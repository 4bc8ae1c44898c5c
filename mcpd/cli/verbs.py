"""The verbs of `mcpctl`, each of them a module of this folder, which is imported when its verb is asked for.

A verb's module has SUMMARY (a line for `--help`), `arguments` (its own, for the parser), and either `ask` (what it has
mcpd do, the answer as JSON) with `show` (what people read of the answer), or `run`, which does both and returns the
exit status: for what goes on for a while, or has an exit status of its own. With COMMAND_BEHIND what
is behind `--` is a command, which the parser does not see: `options.command`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from mcpd.control.client import Body, Client

VERBS: Final = {
    "status": "status",
    "servers": "servers",
    "show": "show",
    "tools": "tools",
    "resources": "resources",
    "prompts": "prompts",
    "call": "call",
    "read": "read",
    "prompt": "prompt",
    "sessions": "sessions",
    "add-server": "add_server",
    "remove-server": "remove_server",
    "enable": "enable",
    "disable": "disable",
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "check": "check",
    "logs": "logs",
    "events": "events",
    "top": "top",
    "import": "imports",
    "connect": "connect",
    "config": "config",
    "doctor": "doctor",
    "completion": "completion",
    "reload": "reload",
    "upgrade": "upgrade",
}
"""Verb → module, in the order of `--help` and of the manual page."""

GROUPS: Final = {
    "look": (*("status", "servers", "show", "tools", "resources", "prompts", "sessions"), *("logs", "events", "top")),
    "change servers": (
        *("add-server", "remove-server", "import", "enable", "disable", "start", "stop", "restart", "check"),
    ),
    "use servers": ("call", "read", "prompt"),
    "mcpd itself": ("config", "reload", "upgrade", "doctor"),
    "other programs": ("connect", "completion"),
}
"""What verbs are for, as `--help` lists them; those of no group come last."""

VALUED: Final = frozenset({"--socket"})
"""Options before the verb that take the word after them."""


class Verb(Protocol):
    """A verb's module."""

    SUMMARY: str

    def arguments(self, parser: ArgumentParser) -> None:
        """Add those of this verb."""

    def ask(self, client: Client, options: Namespace) -> Body:
        """Have mcpd do it. Raises: Unreachable, Refused."""

    def show(self, answer: Body, options: Namespace) -> None:
        """Say to people what came of it."""


class Running(Protocol):
    """A verb's module that does it all itself."""

    def run(self, client: Client, options: Namespace) -> int:
        """Do it, as `options.json` says; the exit status. Raises: Unreachable, Refused."""


def load(name: str) -> Verb:
    """The module of a verb."""
    return cast("Verb", import_module(f"mcpd.cli.{VERBS[name]}"))


def asked_for(arguments: Sequence[str]) -> str | None:
    """The verb that a command line begins with, options aside; None where a parser had better look at all of it."""
    words = iter(arguments)
    for word in words:
        if word in VALUED:
            next(words, None)
        elif not word.startswith("-"):
            return word if word in VERBS else None
        elif word in ("-h", "--help"):
            return None
    return None
