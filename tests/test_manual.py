"""mcpd(8) has what a process shows of itself: variables that it reads, files that it leaves, signals, exit statuses,
and what it tells systemd.
"""

from __future__ import annotations

import ast
import re
import signal
from pathlib import Path

import pytest

import mcpd
from mcpd.config.options import EX_USAGE
from mcpd.daemon import SIGNALS
from mcpd.errors import McpdError
from mcpd.systemd.manager import LISTEN, NOTIFY, WATCHDOG
from tests.e2e.background import everything
from tests.fixtures.peer import HttpPeer, start_daemon

SOURCE = Path(mcpd.__file__).parent
PAGE = (SOURCE.parent / "man" / "mcpd.8").read_text(encoding="utf-8")
INTERRUPTED = 130
"""What __main__ returns for a KeyboardInterrupt."""
ENVIRONMENTS = ("environ", "os.environ")


def section(title: str) -> str:
    return re.split(r"^\.Sh ", PAGE.split(f"\n.Sh {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def items(title: str, macro: str) -> set[str]:
    """What the section's list has entries for."""
    lines = re.findall(rf"^\.It {macro}(.*)$", section(title), flags=re.MULTILINE)
    return {word for line in lines for word in line.split() if word != ","}


def nodes(pattern: str = "*.py") -> list[ast.AST]:
    return [node for path in SOURCE.rglob(pattern) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def variables(pattern: str = "*.py") -> set[str]:
    """Names that are looked up in an environment, as constants."""
    found = set()
    for node in nodes(pattern):
        match node:
            case ast.Call(func=ast.Attribute(value=where, attr="get" | "pop"), args=[ast.Constant(str(name)), *_]):
                found |= {name} if ast.unparse(where) in ENVIRONMENTS else set()
            case ast.Subscript(value=where, slice=ast.Constant(str(name))):
                found |= {name} if ast.unparse(where) in ENVIRONMENTS else set()
    return found


def test_every_variable_is_in_the_manual():
    read = variables() - variables("cli/**/*.py") | {"HOME"}
    assert {"STATE_DIRECTORY", "HOME"} <= read, "the search finds nothing"
    assert items("ENVIRONMENT", "Ev") == read | {*LISTEN, *NOTIFY, *WATCHDOG}


def test_every_variable_of_mcpctl_is_in_its_manual():
    page = (SOURCE.parent / "man" / "mcpctl.1").read_text(encoding="utf-8")
    named = {word for line in re.findall(r"^\.It Ev (.*)$", page, flags=re.MULTILINE) for word in line.split(" , ")}
    assert named == variables("cli/**/*.py")


def test_every_signal_is_in_the_manual():
    received = {signal.Signals(number).name for number in SIGNALS}
    for node in nodes():
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("open_signal_receiver"):
            received |= {
                ast.unparse(one).removeprefix("signal.") for one in node.args if isinstance(one, ast.Attribute)
            }
    # Nobody sends that one: it tells of the end of a child.
    assert items("SIGNALS", "Dv") == received - {"SIGCHLD"}


def test_every_exit_status_is_in_the_manual():
    errors = [McpdError]
    for error in errors:
        errors += error.__subclasses__()
    statuses = {error.exit_code for error in errors} | {0, EX_USAGE, INTERRUPTED}
    assert items("EXIT STATUS", "") == set(map(str, statuses))


def test_every_word_to_systemd_is_in_the_manual():
    source = (SOURCE / "systemd" / "notify.py").read_text(encoding="utf-8")
    words = set(re.findall(r'"([A-Z_]+)=', source))
    assert {"READY", "STOPPING"} <= words, "the search finds nothing"
    lines = re.findall(r"^\.Sy (.*)$", section("SYSTEMD"), flags=re.MULTILINE)
    assert words <= {word for line in lines for word in line.split()}


@pytest.mark.slow
async def test_every_file_that_is_left_is_in_the_manual(tmp_path):
    config = {"mcpServers": {"all": everything()}}
    async with start_daemon(config, state_dir=str(tmp_path)) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await peer.call("echo")
    left = {path.name + "/" * path.is_dir() for path in tmp_path.iterdir()}
    assert {"session.key", "children/"} <= left
    assert left <= items("FILES", "Pa")
