from __future__ import annotations

import os
import sys

import msgspec
import pytest
import trio

from mcpd.__main__ import run
from mcpd.upgrade import check as module
from mcpd.upgrade.check import CHECKING, UpgradeRefused, check, checking, command, show
from mcpd.upgrade.state import StateRefused, encode, seal


def runs(monkeypatch, program: str) -> None:
    monkeypatch.setattr(module, "command", lambda: [sys.executable, "-c", program])


async def test_a_program_that_reads_the_state_may_take_over(monkeypatch, make_state):
    state = make_state()
    runs(monkeypatch, "import os; from mcpd.upgrade.check import show; show(os.environ); print('no matter')")
    fd = seal(encode(state))
    try:
        await check(fd)
    finally:
        os.close(fd)


async def test_its_last_words_are_the_reason(monkeypatch):
    runs(monkeypatch, "raise RuntimeError('x' * 5000 + 'the end')")
    with pytest.raises(UpgradeRefused) as caught:
        await check(0)
    text = str(caught.value)
    assert text.startswith("the new code does not come up (status 1): …xxx")
    assert text.endswith("the end")
    assert len(text) < 2100


async def test_one_that_hangs_is_not_waited_for_and_ended(monkeypatch, tmp_path):
    # A shell has written its number long before the time is over, on a busy machine too; Python may not.
    hanging = ["/bin/sh", "-c", 'echo $$ > "$0"; exec sleep 1000', str(tmp_path / "pid")]
    monkeypatch.setattr(module, "command", lambda: hanging)
    monkeypatch.setattr(module, "CHECK_MAX", 3.0)
    with pytest.raises(UpgradeRefused, match="did not come up in 3 s"):
        await check(0)
    pid = await trio.Path(tmp_path / "pid").read_text()
    assert not await trio.Path(f"/proc/{pid.strip()}").exists()


async def test_an_interpreter_that_is_not_there(monkeypatch):
    monkeypatch.setattr(module, "command", lambda: ["/nowhere/python"])
    with pytest.raises(UpgradeRefused, match="cannot be started"):
        await check(0)


def test_the_command_is_the_one_that_runs():
    assert command()[0] == sys.executable
    assert command()[1:] == sys.orig_argv[1:]


def test_only_who_is_asked_for_it_is_a_check():
    assert checking({CHECKING: "3"})
    assert not checking({})
    with pytest.raises(StateRefused, match="not 'x'"):
        show({CHECKING: "x"})


def test_what_a_start_would_end_with_is_found_before_an_upgrade(tmp_path, capsys, monkeypatch, make_state):
    async def sealed(listeners):
        return seal(encode(msgspec.structs.replace(make_state(), listeners=listeners)))

    def looked_at(config, *listeners) -> int:
        file.write_bytes(msgspec.json.encode(config))
        fd = trio.run(sealed, listeners)
        monkeypatch.setenv(CHECKING, str(fd))
        return run(["--config", str(file)])

    file = tmp_path / "c.json"
    servers = {"far": {"url": "https://127.0.0.1:1/mcp", "tls": {"ca": str(tmp_path / "none.pem")}}}
    assert looked_at({"mcpServers": servers}) == 78
    assert "mcpServers.far.tls" in capsys.readouterr().err
    servers["far"]["enabled"] = False
    assert looked_at({"mcpServers": servers}) == 0
    assert looked_at({"listen": {"host": "0.0.0.0"}}) == 78
    assert "behind_authenticating_proxy" in capsys.readouterr().err
    assert looked_at({"listen": {"host": "0.0.0.0"}}, ("http", 10)) == 0, "a socket unit decides"
