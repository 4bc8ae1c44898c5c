"""The shape of the tree: tests mirror the package, files stay small, nothing is left lying about."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mcpd

ROOT = Path(mcpd.__file__).parent
TESTS = Path(__file__).parent
BENCH = TESTS.parent / "bench"
PACKAGE = TESTS.parent / "package"

LINES_MAX = 400
"""From here on a module is two nouns."""

WITHOUT_TEST = {
    "types.py": "names only: the type checker is its test",
    "backends/base.py": "a contract: the type checker is its test",
    "backends/carrier.py": "a contract: the type checker is its test",
    "gateway/ports.py": "a contract: the type checker is its test",
    "wire/http_limits.py": "numbers only",
    "wire/http_connection.py": "a server's connection: test_http_server drives it over real sockets",
    "wire/http_link.py": "a client's connection: test_http_client drives it over real sockets",
    "wire/http_pool.py": "the same",
    "wire/http_response.py": "the same",
    "__main__.py": "tests/e2e runs it as a process",
    "embedded.py": "the same: `make run`",
    "welcome.py": "the same",
    "fronts.py": "puts parts together: tests/e2e/test_transports.py and nearly all others there",
    "cli/start.py": "three lines: tests/cli/test_switching.py",
    "cli/stop.py": "three lines: tests/cli/test_switching.py",
    "cli/enable.py": "three lines: tests/cli/test_changing.py",
    "cli/disable.py": "three lines: tests/cli/test_changing.py",
    "cli/remove_server.py": "the same",
    "cli/planned.py": "what reload and config say: tests/cli/test_reload.py",
    "cli/restart.py": "three lines: tests/cli/test_switching.py",
    "cli/mcp.py": "tests/e2e/test_call.py: against a daemon and its servers",
    "cli/call.py": "tests/e2e/test_call.py: against a daemon and its servers",
    "cli/read.py": "tests/e2e/test_call.py: against a daemon and its servers",
    "cli/prompt.py": "tests/e2e/test_call.py: against a daemon and its servers",
}
"""Modules whose behaviour is tested elsewhere, with the reason."""

SOURCES = sorted(ROOT.rglob("*.py"))
OURS = SOURCES + sorted(TESTS.rglob("*.py")) + sorted(BENCH.rglob("*.py")) + sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


MODULES = [path for path in SOURCES if path.name != "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_has_its_test(path):
    test = TESTS / path.relative_to(ROOT).parent / f"test_{path.name}"
    if name(path) in WITHOUT_TEST:
        assert not test.exists(), "it has a test now: take it off the list"
    else:
        assert test.is_file(), f"write {test.relative_to(TESTS.parent)}"


def test_the_list_of_exceptions_is_true():
    assert WITHOUT_TEST.keys() <= {name(path) for path in MODULES}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_are_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=name)
def test_folders_hold_prose_only(path):
    _docstring, *rest = tree_of(path).body
    if path.parent == ROOT:
        (version,) = rest
        assert isinstance(version, ast.Assign)
        assert [ast.unparse(target) for target in version.targets] == ["__version__"]
    else:
        assert rest == []


LEFT_OVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")  # in pieces, so that this file is none


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(TESTS.parent).as_posix())
def test_nothing_is_left_for_later(path):
    assert [line for line in path.read_text(encoding="utf-8").splitlines() if LEFT_OVER.search(line)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nobody_prints(path):
    """With --transport stdio, standard output is the protocol: what is for people is written where it is
    meant to be."""
    prints = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    if not name(path).startswith(("demo/", "cli/")):  # mcpctl is there to print
        assert prints == []
