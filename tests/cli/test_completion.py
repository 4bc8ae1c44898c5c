from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import trio

from mcpd.cli.clients.places import TITLES
from mcpd.cli.completion import SCRIPTS, candidates, joined, run
from mcpd.cli.verbs import VERBS
from mcpd.control.client import Client, Unreachable
from tests.control.parts import controlled
from tests.e2e.background import ENVIRONMENT

LIMIT = 60.0
"""Seconds for a shell and the mcpctl that it asks, on a machine that is busy."""


class Daemon:
    def get(self, path):
        return {
            "/v1/servers": {"servers": [{"name": "github", "state": "ready"}, {"name": "git"}, {"name": "a\nb"}]},
            "/v1/tools": {"tools": [{"name": "github_x", "definition": {"description": "does\nit"}}]},
            "/v1/resources": {"resources": [{"uri": "file:///a", "definition": {}}]},
            "/v1/prompts": {"prompts": [{"name": "greet", "definition": {}}]},
        }[path]


class Away:
    def get(self, path):
        raise Unreachable(Path("/s"), "not running")


def words(line: str, client=None) -> list[str]:
    return [word for word, _ in candidates(line.split(" "), client or Daemon())]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", list(VERBS)),
        ("sta", [name for name in VERBS if name.startswith("sta")]),
        ("--json sta", [name for name in VERBS if name.startswith("sta")]),
        ("--socket /x show g", ["github", "git"]),
        ("--so", ["--socket"]),
        ("--socket ", []),
        ("nonsense ", []),
        ("status ", []),
        ("status --", ["--help", "--json", "--socket"]),
        ("show gith", ["github"]),
        ("show github ", []),
        ("tools --server git", ["github", "git"]),
        ("reload --d", ["--dry-run"]),
        ("reload --socket ", []),
        ("connect cur", ["cursor"]),
        ("connect cursor --write --u", ["--url"]),
        ("import ", list(TITLES)),
        ("import cursor --only x --dr", ["--dry-run"]),
        ("import cursor --dry-run ", []),
        ("completion ", ["bash", "zsh", "fish"]),
        ("logs github g", ["github", "git"]),
        ("call ", ["github_x"]),
        ("call github_x ", []),
        ("prompt ", ["greet"]),
        ("add-server ", []),
    ],
)
def test_what_may_come_next(line, expected):
    assert words(line) == expected


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_is_offered(verb):
    offered = words(f"{verb} --")
    assert {"--json", "--socket", "--help"} <= set(offered)
    assert words(f"{verb} {offered[-1][:4]}")


def test_what_is_said_of_a_candidate():
    assert candidates(["show", "gith"], Daemon()) == [("github", "ready")]
    assert dict(candidates(["connect", "cu"], Daemon())) == {"cursor": "Cursor"}


def test_nobody_is_told_that_mcpd_is_away(capsys):
    assert words("show ", Away()) == []
    assert run(Away(), Namespace(shell="bash", complete=["show", ""])) == 0
    assert capsys.readouterr() == ("", "")


def test_words_that_bash_took_apart_are_joined(capsys):
    assert joined(["read", "file", ":", "///a"]) == ["read", "file:///a"]
    assert joined(["read", "file", ":"]) == ["read", "file:"]
    assert joined(["x", ""]) == ["x", ""]
    run(Daemon(), Namespace(shell="bash", complete=["read", "file", ":", "/"]))
    assert capsys.readouterr().out == "///a\t\n", "bash keeps what is before the colon"
    run(Daemon(), Namespace(shell="fish", complete=["read", "file:"]))
    assert capsys.readouterr().out == "file:///a\t\n"
    run(Daemon(), Namespace(shell="bash", complete=[]))
    assert capsys.readouterr().out.startswith("status\t")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_what_is_installed_is_what_is_printed(shell, capsys):
    run(Away(), Namespace(shell=shell, complete=None))
    installed = Path(__file__).parents[2] / "completions" / f"mcpctl.{shell}"
    assert capsys.readouterr().out == installed.read_text()


# ---- in real shells


@pytest.fixture
def program(tmp_path):
    """A directory with mcpctl in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "mcpctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m mcpd.cli.main --socket "{tmp_path}/control.sock" "$@"\n')
    script.chmod(0o755)
    return folder


BASH = """
source <(mcpctl completion bash)
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _mcpctl; echo "${COMPREPLY[*]}"; }
ask mcpctl relo; ask mcpctl reload --dr; ask mcpctl show ""; ask mcpctl tools --server ""
complete -p mcpctl
"""
ZSH = """
compdef() { : }
_describe() { print -r -- ${${(P)2}%%:*} }
_files() { print -r -- files }
source <(mcpctl completion zsh)
ask() { words=("$@"); CURRENT=$#; _mcpctl }
ask mcpctl relo; ask mcpctl reload --dr; ask mcpctl show ""; ask mcpctl tools --server ""; ask mcpctl --socket ""
"""
FISH = """
mcpctl completion fish | source
for line in 'mcpctl relo' 'mcpctl reload --dr' 'mcpctl show ' 'mcpctl tools --server '
    complete -C $line
end
"""
EXPECTED = ["reload", "--dry-run", "b", "b"]


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
async def test_a_shell_completes(tmp_path, program, shell, script):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    quiet = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    environment = {
        **ENVIRONMENT,
        "PATH": f"{program}:{ENVIRONMENT.get('PATH', '/usr/bin:/bin')}",
        "HOME": str(tmp_path),
    }
    async with controlled(tmp_path):
        with trio.fail_after(LIMIT):
            done = await trio.run_process(
                [shell, *quiet, "-c", script], capture_stdout=True, capture_stderr=True, check=False, env=environment
            )
    lines = [line.split("\t")[0].strip() for line in done.stdout.decode().splitlines()]
    assert lines[:4] == EXPECTED, done.stderr.decode()
    extra = {"bash": "complete -o bashdefault -o default -F _mcpctl mcpctl", "zsh": "files"}
    assert lines[4:] == ([extra[shell]] if shell in extra else [])
    assert set(SCRIPTS) == {"bash", "zsh", "fish"}


async def test_names_come_from_a_daemon(tmp_path):
    async with controlled(tmp_path) as (path, _):
        found = await trio.to_thread.run_sync(candidates, ["tools", "--server", ""], Client(path))
    assert found == [("b", "ready")]
