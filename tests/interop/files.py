"""Real client programs and their configuration files: what Claude Code and Codex have written is imported, and they
read what `mcpctl connect` writes.

    python -m tests.interop.files

Each has a home directory of its own for that, in which it adds a server with a secret by its own command. Needs npm
and, for the first run, the package registries (660 MB); installs into .cache/interop of the checkout. Nobody is logged
in anywhere. Exit status: 0 when all is as it should be, 1 otherwise, 2 when nothing could be run.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.e2e.test_control import controlled
from tests.fixtures.peer import ROOT
from tests.interop.packages import CLAUDE_CODE, CODEX
from tests.packages import SetupError, install_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.packages import NodePackages

SECRET = "s3cr3t-of-a-client"
COMMAND = (sys.executable, "-m", "mcpd.demo.calculator")
VARIABLES = {"PYTHONPATH": str(ROOT), "CALCULATOR_TOKEN": SECRET}
LIMIT = 120.0
"""Seconds of one command: Claude Code starts all that it knows to tell whether it is well."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A client: its name for mcpctl, its command, and how that adds, lists and shows servers."""

    name: str
    packages: NodePackages
    program: str
    add: Callable[[dict[str, str]], Sequence[str]]
    see: Sequence[str]
    """The command that says what it has of mcpd."""
    expected: Sequence[str]
    """Words of what that says; `URL` stands for mcpd's."""


KINDS = (
    Kind(
        "claude-code",
        CLAUDE_CODE,
        "claude",
        lambda variables: ("mcp", "add", "--scope", "user", "sums", *_variables("-e", variables), "--", *COMMAND),
        ("mcp", "get", "mcpd"),
        ("Connected", "URL"),
    ),
    Kind(
        "codex",
        CODEX,
        "codex",
        lambda variables: ("mcp", "add", "sums", *_variables("--env", variables), "--", *COMMAND),
        ("mcp", "get", "mcpd"),
        ("enabled: true", "streamable_http", "URL"),
    ),
)


class Wrong(Exception):
    """Something is not as it should be."""


def _variables(option: str, variables: dict[str, str]) -> list[str]:
    return [word for name, value in variables.items() for word in (option, f"{name}={value}")]


async def run(argv: Sequence[str], env: dict[str, str], cwd: Path) -> str:
    """What a command says on both streams. Raises: Wrong, unless it ends with 0."""
    with trio.fail_after(LIMIT):
        done = await trio.run_process(
            list(argv), env=env, cwd=cwd, stdin=b"", capture_stdout=True, capture_stderr=True, check=False
        )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.returncode != 0:
        raise Wrong(f"{' '.join(argv)!r} ended with {done.returncode}: {said[-2000:]}")
    return said


def require(condition: object, what: str, said: str) -> None:
    """Raises: Wrong."""
    if not condition:
        raise Wrong(f"{what}: {said[-2000:]}")


async def visit(kind: Kind, home: Path) -> None:
    """Raises: Wrong."""
    quiet = {"DISABLE_TELEMETRY": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **quiet}
    client = kind.packages.program(kind.program)
    await run([client, *kind.add(VARIABLES)], env, home)
    async with controlled({"mcpServers": {}}) as (daemon, path):
        mcpctl = [sys.executable, "-m", "mcpd.cli.main", "--socket", str(path)]
        said = await run([*mcpctl, "import", kind.name], env, home)
        require("sums" in said and SECRET not in said, "the import is not as it should be", said)
        said = await run([*mcpctl, "call", "sums_add", "a=2", "b=40"], env, home)
        require("42" in said, "what was imported does not work", said)
        said = await run([*mcpctl, "config", "show", "--json"], env, home)
        require("CALCULATOR_TOKEN" in said and SECRET not in said, "the secret is not kept, or shown", said)
        await run([*mcpctl, "connect", kind.name, "--write"], env, home)
        said = await run([client, *kind.see], env, home)
        words = [each.replace("URL", daemon.url) for each in kind.expected]
        require(all(word in said for word in words), "it does not find mcpd by what was written", said)
        said = await run([*mcpctl, "import", kind.name, "--dry-run"], env, home)
        require("would import" not in said, "there is something left to import", said)


def leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """What a group has in it, however deep."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from leaves(each)
        else:
            yield each


async def main() -> int:
    """The exit status."""
    try:
        await install_all([kind.packages for kind in KINDS])
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    failed = 0
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix=f"mcpd-{kind.name}-") as directory:
            try:
                await visit(kind, Path(directory))
            except* (Wrong, trio.TooSlowError) as wrong:
                failed += 1
                print(f"FAILED {kind.name}: {' '.join(map(str, leaves(wrong))) or 'it took too long'}")
            else:
                print(f"ok {kind.name}: imported, and connected by what mcpctl has written")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(trio.run(main))
