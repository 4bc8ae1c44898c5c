from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from mcpd import __version__
from mcpd.cli import statuses
from mcpd.cli.main import _parse as understood
from mcpd.cli.main import listed, main, parser, run
from mcpd.cli.verbs import VERBS, load
from mcpd.errors import ConfigError
from tests.control.parts import controlled
from tests.e2e.background import ENVIRONMENT

PAGE = (Path(__file__).parents[2] / "man" / "mcpctl.1").read_text()
FORBIDDEN = ("trio", "msgspec", "yaml", "h11", "jsonschema", "asyncio")


async def mcpctl(path, *arguments: str) -> int:
    return await trio.to_thread.run_sync(run, ["--socket", str(path), *arguments])


async def test_people_read_lines_and_scripts_json(tmp_path, capsys):
    async with controlled(tmp_path) as (path, _):
        assert await mcpctl(path, "status") == statuses.OK
        assert "1 ready" in capsys.readouterr().out
        for arguments in (("--json", "status"), ("status", "--json")):
            assert await mcpctl(path, *arguments) == statuses.OK
            assert json.loads(capsys.readouterr().out)["status"] == "1 ready"
        assert await mcpctl(path, "servers") == statuses.OK
        assert capsys.readouterr().out.startswith("SERVER")


async def test_the_socket_may_be_named_behind_the_verb_too(tmp_path, capsys):
    async with controlled(tmp_path) as (path, _):
        assert await trio.to_thread.run_sync(run, ["status", "--socket", str(path)]) == statuses.OK


async def test_faults_are_told_one_a_line(tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.error = ConfigError("it is wrong", file="f.yaml", line=2, path="a.b", remedy="mend it")
        assert await mcpctl(path, "reload") == statuses.INVALID
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines()[1] == "  f.yaml:2: a.b: it is wrong (mend it)"
        assert await mcpctl(path, "reload", "--json") == statuses.INVALID
        out, err = capsys.readouterr()
        assert json.loads(out)["errors"][0]["path"] == "a.b"
        assert err == ""


async def test_what_mcpd_cannot_do_is_a_failure(tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.error = RuntimeError("a bug")
        assert await mcpctl(path, "reload") == statuses.FAILED
        assert "its log says why" in capsys.readouterr().err


def test_nobody_there(tmp_path, capsys):
    assert run(["--socket", str(tmp_path / "none"), "status"]) == statuses.UNAVAILABLE
    err = capsys.readouterr().err
    assert str(tmp_path / "none") in err
    assert "--socket" in err
    assert run(["--socket", str(tmp_path / "none"), "--json", "status"]) == statuses.UNAVAILABLE
    assert json.loads(capsys.readouterr().out)["code"] == "unreachable"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["status", "--nonsense"], ["reload", "--dry"]])
def test_a_wrong_command_line(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(arguments)
    assert caught.value.code == statuses.USAGE
    assert capsys.readouterr().err


def test_it_says_its_version(capsys):
    with pytest.raises(SystemExit) as caught:
        run(["--version"])
    assert caught.value.code == statuses.OK
    assert capsys.readouterr().out == f"mcpctl {__version__}\n"


def test_nothing_slow_is_imported():
    program = "import sys, mcpd.cli.main; print('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    modules = done.stdout.split()
    assert not [name for name in modules if name.partition(".")[0] in FORBIDDEN]
    ours = {name for name in modules if name.startswith("mcpd.")}
    assert {name for name in ours if not name.startswith("mcpd.cli")} == {"mcpd.control", "mcpd.control.client"}


@pytest.mark.parametrize("verb", VERBS)
def test_of_the_verbs_the_one_that_is_asked_for_is_imported(verb):
    program = f"""
import sys
from mcpd.cli.main import run
try:
    run([{verb!r}, "--help"])
except SystemExit:
    print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    modules = done.stdout.split()
    assert {each for each in VERBS.values() if f"mcpd.cli.{each}" in modules} == {VERBS[verb]}
    # Verbs that are MCP clients read and write its messages as mcpd does.
    slow = {*FORBIDDEN} - {"msgspec"}
    assert not [name for name in modules if name.partition(".")[0] in slow]
    assert not [name for name in modules if name.startswith(("mcpd.gateway", "mcpd.backends", "mcpd.wire"))]


def test_help_lists_every_verb_in_its_group(capsys):
    with pytest.raises(SystemExit) as caught:
        run(["--help"])
    assert caught.value.code == statuses.OK
    lines = capsys.readouterr().out.splitlines()
    for name in VERBS:
        assert f"  {name:14}{load(name).SUMMARY}" in lines
    assert "change servers:" in lines
    assert listed({"odd": "it is in none"}).startswith("more:\n  odd           it is in none\n")


def test_the_keyboard_ends_it(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mcpd.cli.main.run", interrupted)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == statuses.INTERRUPTED


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    argv = f"{sys.executable} -m mcpd.cli.main --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", argv], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "")


# ---- its manual page


def test_every_verb_and_option_is_in_the_manual():
    verbs = set(re.findall(r"^\.It Cm (\S+)", PAGE, flags=re.M))
    assert verbs == set(VERBS)
    documented = {"-" + flag for line in re.findall(r"^\.It (.*)$", PAGE, flags=re.M) for flag in flags_in(line)}
    known = set()
    for each in (parser(), *(choice for choice in _subparsers().values())):
        known |= {option for action in each._actions for option in action.option_strings}
    assert documented == known
    for name, each in _subparsers().items():
        own = {option for action in each._actions for option in action.option_strings}
        part = re.split(rf"\n\.It Cm {name}(?=\s)", PAGE, maxsplit=1)[1].split("\n.It Cm", 1)[0].split("\n.Sh", 1)[0]
        shared = {"--socket", "--json", "--help", "-h"}
        assert {"-" + flag for flag in flags_in(part)} == own - shared, name


def flags_in(text: str) -> list[str]:
    return [
        flag
        for part in re.findall(r"Fl ([^\n]*)", text)
        for flag in re.findall(r"(?<![\w-])(-?[a-z][a-z-]*)", part.split(" Ar ")[0])
    ]


def _subparsers():
    return next(action.choices for action in parser()._actions if action.dest == "verb")


def test_every_exit_status_is_in_the_manual():
    part = PAGE.split(".Sh EXIT STATUS", 1)[1].split("\n.Sh", 1)[0]
    assert [int(status) for status in re.findall(r"^\.It (\d+)$", part, flags=re.M)] == list(statuses.ALL)


@pytest.mark.parametrize(
    "arguments",
    [
        ["t", "a=1", "b=2", "--json"],
        ["t", "--json", "a=1", "b=2"],
        ["--json", "t", "a=1", "b=2"],
        ["t", "a=1", "--json", "b=2"],
    ],
)
def test_options_may_stand_between_words(arguments):
    options = understood(parser(["call"]), ["call", *arguments])
    assert (options.tool, options.words, options.json) == ("t", ["a=1", "b=2"], True)


@pytest.mark.parametrize("arguments", [["call", "t", "a=1", "--no-such"], ["show", "a", "b"]])
def test_what_is_not_known_is_refused_all_the_same(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        understood(parser([arguments[0]]), arguments)
    assert caught.value.code == 2
    assert f"unrecognized arguments: {arguments[-1]}" in capsys.readouterr().err
