"""Imports point down. Read from the source, so that an import for type checkers alone counts like any
other."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import mcpd

ROOT = Path(mcpd.__file__).parent

RANKS = {
    "errors": 0,
    "types": 0,
    "journal": 0,
    "entries": 0,
    "redaction": 0,
    "protocol": 1,
    "policy": 1,
    "config": 1,
    "failures": 1,
    "events": 1,
    "log": 1,
    "metrics": 1,
    "systemd": 1,
    "wire": 2,
    "supervisor": 2,
    "backends": 3,
    "discovery": 3,
    "gateway": 4,
    "frontends": 5,
    "control": 5,
    "cli": 6,
    "collector": 7,
    "daemon": 7,
    "upgrade": 7,
    "__main__": 7,
    "embedded": 7,
    "fronts": 7,
    "welcome": 7,
    "hangup": 7,
    "offloop": 7,
    "operators": 7,
    "reload": 7,
    "roster": 7,
    "switch": 7,
    "trial": 7,
    "watch": 7,
}
"""Modules and folders of the package. An import goes to a strictly lower rank, or stays in the folder."""

PROGRAM = {name for name, rank in RANKS.items() if rank == 7}
"""The integrator in its parts: at the top, where one may import the other."""

ALONE = {"demo"}
"""Stand-alone programs: they import nothing of mcpd but themselves, and nobody imports them."""

IO = {
    *("trio", "h11", "socket", "select", "ssl", "os", "subprocess", "threading", "asyncio"),
    *("time", "datetime", "random", "secrets", "logging", "signal"),
}

SANS_IO = {
    "protocol": IO,
    "policy": IO,
    # A configuration is read from files and the environment.
    "config": IO - {"os"},
}
"""What the folders that decide must not touch."""

INSIDE_FUNCTIONS = {
    ("config/shape.py", "jsonschema"): "slow to import; only a faulty configuration needs it",
    ("gateway/validation.py", "jsonschema"): "the same; only servers with `validate` need it",
    ("gateway/validation.py", "jsonschema_specifications"): "comes with jsonschema",
    ("gateway/validation.py", "referencing"): "comes with jsonschema",
    ("wire/websocket.py", "trio_websocket"): "2.3 MiB and 30 ms that a daemon without WebSockets does not pay for",
    ("wire/websocket.py", "wsproto"): "comes with trio_websocket",
    ("wire/websocket_stream.py", "trio_websocket"): "the same",
    ("supervisor/trampoline.py", "ctypes"): "twice the time of the start; only some settings need it",
    ("supervisor/trampoline.py", "resource"): "a file to load; only limits need it",
    ("metrics/text.py", "prometheus_client"): "5 MiB and 50 ms that a daemon that nobody scrapes does not pay for",
    ("wire/tls.py", "ssl"): "several MiB of memory that a daemon without https backends does not pay for",
}
"""Imports inside functions, each with its reason. Everything else is imported at the top."""

HANDSHAKE = {
    "protocol/methods.py": "the table of methods",
    "protocol/versions.py": "the table of features",
    "config/servers.py": "the headers of the protocol, which a configuration may not set",
    "frontends/http.py": "the edge to clients: Streamable HTTP",
    "frontends/conversation.py": "the edge to clients: stdio and HTTP+SSE",
    "backends/legacy.py": "the edge to backends: the handshake with one",
    "backends/http.py": "the edge to backends: Streamable HTTP",
    "backends/replies.py": "the edge to backends: what their HTTP replies mean",
    "demo/stdio_server.py": "a server of its own",
}
"""Who may know that there is an `initialize`, or a session id in a header: the two edges and the tables. The
middle is built for requests that stand alone. (`protocol/handshake.py` itself gets along without the
word.)"""

KNOWLEDGE = re.compile(r"(^|\W)(initialize|mcp-session-id)(\W|$)", re.IGNORECASE)


class Import(NamedTuple):
    file: str
    line: int
    target: str
    in_function: bool

    def __str__(self) -> str:
        return f"mcpd/{self.file}:{self.line} imports {self.target}"


def sources() -> dict[str, ast.Module]:
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(ROOT.rglob("*.py"))
    }


def imports_of(file: str, tree: ast.AST, in_function: bool = False) -> list[Import]:
    found: list[Import] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found += [Import(file, node.lineno, name.name, in_function) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"mcpd/{file}:{node.lineno}: imports are absolute"
            assert node.module is not None
            # `from mcpd.protocol import jsonrpc` reaches a module, `from mcpd import __version__` a name.
            found += [Import(file, node.lineno, f"{node.module}.{name.name}", in_function) for name in node.names]
        inside = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        found += imports_of(file, node, inside)
    return found


SOURCES = sources()
IMPORTS = [found for file, tree in SOURCES.items() for found in imports_of(file, tree)]


def unit(file: str) -> str:
    """The folder of a module, or the module itself at the top; empty for the package's own `__init__`."""
    first, slash, _rest = file.partition("/")
    return first if slash else first.removesuffix(".py").replace("__init__", "")


def target_unit(target: str) -> str | None:
    """The unit of this package that an import reaches; empty for the package's own names, None for a foreign
    one."""
    parts = target.split(".")
    if parts[0] != "mcpd":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in RANKS.keys() | ALONE else ""


def fault(found: Import) -> str | None:
    """What is wrong with an import, if anything."""
    source, target = unit(found.file), target_unit(found.target)
    if target is None or (target == source and source):
        return None
    if source in ALONE:
        return "it stands alone"
    if target in ALONE:
        return "nobody imports a demo"
    if source == "":
        return "the package itself imports nothing"
    if target == "":
        return None if found.target in ("mcpd", "mcpd.__version__") else "no such module"
    if source in PROGRAM and target in PROGRAM:
        return None
    if RANKS[target] >= RANKS[source]:
        return f"rank {RANKS[source]} imports rank {RANKS[target]}"
    return None


def test_every_module_has_a_rank():
    assert {unit(file) for file in SOURCES} - {""} <= RANKS.keys() | ALONE


def test_imports_point_down():
    assert [f"{found}: {problem}" for found in IMPORTS if (problem := fault(found))] == []


@pytest.mark.parametrize(
    ("file", "target", "fine"),
    [
        ("wire/tls.py", "mcpd.errors.ConfigError", True),
        ("wire/tls.py", "mcpd.wire.listeners.x", True),
        ("wire/tls.py", "mcpd.supervisor.states.State", False),
        ("wire/tls.py", "mcpd.gateway.gateway.Gateway", False),
        ("wire/tls.py", "trio", True),
        ("wire/tls.py", "mcpdx.gateway", True),
        ("errors.py", "mcpd.types.SessionKey", False),
        ("protocol/lines.py", "mcpd.config.model.Config", False),
        ("gateway/local.py", "mcpd.__version__", True),
        ("gateway/local.py", "mcpd.nothing", False),
        ("gateway/local.py", "mcpd.frontends", False),
        ("demo/clock.py", "mcpd.errors.McpdError", False),
        ("demo/clock.py", "mcpd.demo.call.Call", True),
        ("daemon.py", "mcpd.demo.call.Call", False),
        ("__main__.py", "mcpd.daemon.Daemon", True),
        ("__init__.py", "mcpd.errors.McpdError", False),
    ],
)
def test_the_rule_itself(file, target, fine):
    assert (fault(Import(file, 1, target, False)) is None) is fine


def test_imports_are_found_wherever_they_stand():
    text = """
import a.b
if TYPE_CHECKING:
    from c import d, e
def f():
    from g import h
    class I:
        import j
class K:
    async def l(self):
        import m
"""
    found = [(each.target, each.in_function) for each in imports_of("x.py", ast.parse(text))]
    assert found == [("a.b", False), ("c.d", False), ("c.e", False), ("g.h", True), ("j", True), ("m", True)]


def test_what_decides_does_no_io():
    assert [
        str(found) for found in IMPORTS if found.target.partition(".")[0] in SANS_IO.get(unit(found.file), ())
    ] == []


def test_the_core_needs_little():
    """What `mcpd/protocol/__init__.py` promises: its own folder, the names of rank 0, msgspec, the standard
    library."""
    foreign = {found.target.partition(".")[0] for found in IMPORTS if unit(found.file) == "protocol"}
    assert foreign - {"mcpd", "msgspec"} <= sys.stdlib_module_names


SPEAKS_MCP = {"cli/mcp.py": {"protocol", "errors"}}
"""Where the operator's hand is a client of MCP, it has the same codecs; what needs none of them does not load them."""


def test_the_operators_hand_reaches_mcpd_by_the_socket_alone():
    foreign = {
        found.target
        for found in IMPORTS
        if unit(found.file) == "cli"
        and target_unit(found.target) not in ("cli", None, "", *SPEAKS_MCP.get(found.file, ()))
    } | {
        found.target for found in IMPORTS if found.file == "control/client.py" and target_unit(found.target) is not None
    }
    assert {target.rpartition(".")[0] for target in foreign} == {"mcpd.control.client"}
    files = [
        found
        for found in IMPORTS
        if (unit(found.file) == "cli" and found.file not in SPEAKS_MCP) or found.file == "control/client.py"
    ]
    assert {found.target.partition(".")[0] for found in files} - {"mcpd"} <= sys.stdlib_module_names


def test_imports_inside_functions_have_a_reason():
    inside = {(found.file, found.target.partition(".")[0]) for found in IMPORTS if found.in_function}
    assert sorted(inside - INSIDE_FUNCTIONS.keys()) == []
    assert sorted(INSIDE_FUNCTIONS.keys() - inside) == [], "these are no longer needed"


def strings_of(tree: ast.AST) -> list[tuple[int, str]]:
    """String and bytes literals, but for docstrings and error messages: what the program compares and
    sends."""
    prose = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose.add(id(node.value))
        elif isinstance(node, ast.Call):
            # Messages to people: arguments that hold whole sentences.
            prose.update(
                id(part) for part in ast.walk(node) if isinstance(part, ast.Constant) and _is_sentence(part.value)
            )
    return [
        (node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and id(node) not in prose
    ]


def _is_sentence(value: object) -> bool:
    return isinstance(value, str) and len(value.split()) > 2


def test_only_the_edges_know_the_handshake():
    found = {file for file, tree in SOURCES.items() for _line, text in strings_of(tree) if KNOWLEDGE.search(text)}
    assert sorted(found - HANDSHAKE.keys()) == []
    assert sorted(HANDSHAKE.keys() - found) == [], "these no longer know it: take them off the list"


def test_prose_is_told_from_knowledge():
    tree = ast.parse('''
"""About initialize."""
if method == "initialize":
    raise Error("no answer to initialize in time")
head = b"Mcp-Session-Id: %b"
name = "initialized"
''')
    known = [text for _line, text in strings_of(tree) if KNOWLEDGE.search(text)]
    assert sorted(known) == ["Mcp-Session-Id: %b", "initialize"]
