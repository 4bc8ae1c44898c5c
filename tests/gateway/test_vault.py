from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

import mcpd
from mcpd.errors import ConfigError
from mcpd.gateway import vault as module
from mcpd.gateway.seal import EPOCH_LENGTH, Claims, Ticket, principal_digest
from mcpd.gateway.vault import HANDOVER_AGE, Vault
from mcpd.protocol.capabilities import NOTHING
from mcpd.protocol.versions import LATEST_HANDSHAKE

DAY = 86_400.0
NOW = 1_800_000_000


def claims(serial: int, epoch: int = NOW) -> Claims:
    return Claims(LATEST_HANDSHAKE, NOTHING, NOW, epoch, serial, principal_digest(""))


TICKET = Ticket(b"p" * 8, b"q" * 8, b"c" * 32, 1, 0, 9)


def open_vault(directory: Path, now: float = NOW) -> Vault:
    return Vault(directory, now=now, session_age=30 * DAY)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_key_survives_and_is_for_its_owner_only(tmp_path):
    state = tmp_path / "deep" / "state"
    id = open_vault(state).seal.make(claims(1))
    assert open_vault(state).seal.open(id) == claims(1)
    assert open_vault(state).states.open(open_vault(state).states.make(TICKET)) == TICKET
    assert files(state) == ["session.key", "sessions.ended"]
    assert state.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.iterdir())


def test_another_directory_has_another_key(tmp_path):
    id = open_vault(tmp_path / "a").seal.make(claims(1))
    assert open_vault(tmp_path / "b").seal.open(id) is None


def test_what_was_ended_stays_ended_without_a_goodbye(tmp_path):
    vault = open_vault(tmp_path)
    for serial in (1, 2, 9):
        vault.revoke(claims(serial))
    again = open_vault(tmp_path)
    assert again.revoked.lines() == [f"{NOW} 1 2", f"{NOW} 9 9"]
    again.revoke(claims(3))
    assert open_vault(tmp_path).revoked.lines() == [f"{NOW} 1 3", f"{NOW} 9 9"]


def test_ten_thousand_ended_sessions_stay_small(tmp_path):
    vault = open_vault(tmp_path)
    for serial in range(10_000):
        vault.revoke(claims(serial))
    assert len(vault.revoked) == 1
    assert (tmp_path / "sessions.ended").stat().st_size < 150_000
    assert open_vault(tmp_path).revoked.lines() == [f"{NOW} 0 9999"]
    assert (tmp_path / "sessions.ended").stat().st_size < 50
    assert files(tmp_path) == ["session.key", "sessions.ended"]


@pytest.mark.parametrize("cut", range(1, 26))
def test_a_crash_in_the_middle_of_a_line_costs_that_line_at_most(tmp_path, cut):
    vault = open_vault(tmp_path)
    vault.revoke(claims(1111))
    vault.revoke(claims(55))
    path = tmp_path / "sessions.ended"
    path.write_bytes(path.read_bytes()[:-cut])
    again = open_vault(tmp_path)
    assert (NOW, 5) not in again.revoked
    assert (NOW, 1111) in again.revoked or cut > len(f"\n{NOW} 55 55")


def test_a_line_that_a_full_disk_cut_short_does_not_spoil_the_next(tmp_path):
    vault = open_vault(tmp_path)
    path = tmp_path / "sessions.ended"
    with path.open("ab") as file:
        file.write(b"\n%d 5" % NOW)
    vault.revoke(claims(77))
    assert open_vault(tmp_path).revoked.lines() == [f"{NOW} 77 77"]


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00" * 100, b"\x00" * 4096, b"9" * 10_000 + b" 1 1\n", b"1 2\n"])
def test_a_spoiled_list_does_not_keep_mcpd_from_starting(tmp_path, junk):
    open_vault(tmp_path).revoke(claims(4))
    path = tmp_path / "sessions.ended"
    path.write_bytes(junk + path.read_bytes())
    assert (NOW, 4) in open_vault(tmp_path).revoked


def test_the_list_forgets_sessions_that_are_too_old_anyway(tmp_path):
    open_vault(tmp_path).revoke(claims(4))
    later = NOW + int(30 * DAY) + EPOCH_LENGTH
    assert len(open_vault(tmp_path, later).revoked) == 1
    assert len(open_vault(tmp_path, later + 1).revoked) == 0
    assert (tmp_path / "sessions.ended").read_bytes() == b""


def test_a_daemon_that_runs_for_months_forgets_too(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMPACT_AT", 1)
    vault = open_vault(tmp_path)
    for day in range(100):
        for serial in range(0, 6, 2):
            vault.revoke(claims(serial, NOW + day * EPOCH_LENGTH))
    assert len(vault.revoked) <= 3 * 33


def test_daemons_that_share_a_directory_keep_what_the_other_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMPACT_AT", 2)
    first, second = open_vault(tmp_path), open_vault(tmp_path)
    for serial in range(0, 40, 4):
        first.revoke(claims(serial))
        second.revoke(claims(serial + 2))
    assert all((NOW, serial) in open_vault(tmp_path).revoked for serial in range(0, 40, 2))


def test_a_disk_that_cannot_be_written_ends_the_session_for_this_run(tmp_path, caplog):
    vault = open_vault(tmp_path)
    (tmp_path / "sessions.ended").unlink()
    (tmp_path / "sessions.ended").mkdir()
    vault.revoke(claims(3))
    assert (NOW, 3) in vault.revoked
    assert "state_not_written" in caplog.text


def test_an_unusable_directory_is_the_operators_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--state-dir"):
        open_vault(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_spoiled_key_is_not_replaced_silently(tmp_path, content):
    (tmp_path / "session.key").write_bytes(content)
    with pytest.raises(ConfigError, match="32"):
        open_vault(tmp_path)
    assert (tmp_path / "session.key").read_bytes() == content


MAKE_KEY = """
import sys
from pathlib import Path
from mcpd.gateway.vault import HANDOVER_AGE, Vault
sys.stdin.readline()
vault = Vault(Path(sys.argv[1]), now=1.8e9, session_age=1e6)
print(vault.seal._key.hex())
"""


async def test_processes_that_make_the_key_at_once_agree_on_one(tmp_path):
    root = Path(mcpd.__file__).parent.parent
    command = [sys.executable, "-c", MAKE_KEY, str(tmp_path)]
    keys = set()

    async def make() -> None:
        done = await trio.run_process(
            command, stdin=b"\n", capture_stdout=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
        )
        keys.add(done.stdout)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(make)
    assert len(keys) == 1
    assert files(tmp_path) == ["session.key", "sessions.ended"]


# ---- what one run leaves to the next


def test_what_is_left_is_found_once_and_for_its_owner_only(tmp_path):
    vault = open_vault(tmp_path)
    assert vault.inherit(NOW) is None
    assert vault.bequeath(b"first")
    assert vault.bequeath(b"last")
    assert (tmp_path / "handover").stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == ["handover", "session.key", "sessions.ended"]
    again = open_vault(tmp_path)
    assert again.inherit(0.0) == b"last"
    assert again.inherit(0.0) is None
    assert files(tmp_path) == ["session.key", "sessions.ended"]


@pytest.mark.parametrize(("age", "found"), [(HANDOVER_AGE - 1, b"it"), (HANDOVER_AGE + 1, None)])
def test_what_is_too_old_is_taken_away_unread(tmp_path, age, found):
    vault = open_vault(tmp_path)
    vault.bequeath(b"it")
    os.utime(tmp_path / "handover", (NOW, NOW))
    assert vault.inherit(NOW + age) == found
    assert not (tmp_path / "handover").exists()


def test_what_cannot_be_left_or_read_is_reported(tmp_path, caplog):
    vault = open_vault(tmp_path)
    (tmp_path / "handover").mkdir()
    assert not vault.bequeath(b"it")
    assert vault.inherit(NOW) is None
    reports = [record.getMessage().split()[0] for record in caplog.records]
    assert reports == ["event=state_not_written", "event=handover_not_read"]
    assert files(tmp_path) == ["handover", "session.key", "sessions.ended"], "nothing half written is left"


def test_only_so_much_is_read(tmp_path, monkeypatch):
    vault = open_vault(tmp_path)
    vault.bequeath(b"x" * 100)
    monkeypatch.setattr(module, "HANDOVER_SIZE", 10)
    assert vault.inherit(0.0) == b"x" * 10
