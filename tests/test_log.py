from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

import pytest

from mcpd.journal import Journal
from mcpd.log import JournalHandler, RedactingFormatter, Seldom, complain, redact_with
from tests.test_journal import read

if TYPE_CHECKING:
    from pathlib import Path


def redact(text: str) -> str:
    return text.replace("s3cret", "***")


class Kept(logging.Handler):
    """What would have gone to stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(RedactingFormatter(redact))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Rig:
    """A logger whose journald is the test."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "socket")
        self.fallback = Kept()
        self.journal = Journal(self.address)
        self.log = logging.Logger("mcpd.backends")  # of its own: pytest listens to all that are registered
        self.log.addHandler(JournalHandler(self.journal, redact, self.fallback))
        self.listen()

    def listen(self) -> None:
        self.journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journald.bind(self.address)
        self.journald.settimeout(30)

    def entry(self) -> dict[str, str]:
        return read(self.journald.recv(65536))


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.journald.close()
    rig.journal.close()


def test_an_entry_has_the_fields_that_are_asked_for(rig):
    rig.log.warning("backend=%s event=%s retry_in=%.1f reason=%s", "github", "backing-off", 2.0, "token s3cret is old")
    entry = rig.entry()
    assert entry.pop("CODE_FILE") == __file__
    assert entry.pop("CODE_LINE").isdigit()
    assert entry == {
        "MESSAGE": "backend=github event=backing-off retry_in=2.0 reason=token *** is old",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "mcpd",
        "CODE_FUNC": "test_an_entry_has_the_fields_that_are_asked_for",
        "LOGGER": "mcpd.backends",
        "MCPD_SERVER": "github",
        "MCPD_EVENT": "backing-off",
    }


@pytest.mark.parametrize(
    ("line", "server", "event"),
    [
        ("event=ready listening on x", None, "ready"),
        ("backend=a stderr=event=x backend=b", "a", "stderr"),
        ("event=session_opened client='event=x backend=b'", None, "session_opened"),
        ("words", None, None),
        ("", None, None),
    ],
)
def test_only_the_beginning_of_a_line_is_ours(line, server, event, rig):
    rig.log.info("%s", line)
    entry = rig.entry()
    assert (entry.get("MCPD_SERVER"), entry.get("MCPD_EVENT")) == (server, event)


def test_levels_are_syslogs(rig):
    for level in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        rig.log.log(level, "x")
    assert [rig.entry()["PRIORITY"] for _ in range(5)] == ["2", "3", "4", "6", "7"]


def test_a_traceback_comes_whole_and_without_secrets(rig):
    try:
        raise ValueError("s3cret")
    except ValueError:
        rig.log.exception("event=internal_error")
    entry = rig.entry()
    assert entry["MESSAGE"].startswith("event=internal_error\nTraceback (most recent call last):\n")
    assert entry["MESSAGE"].endswith("ValueError: ***")


def test_without_a_journald_it_goes_to_stderr_until_there_is_one(rig):
    rig.journald.close()
    os.unlink(rig.address)
    rig.log.error("event=a token=s3cret")
    assert [line.split(" ", 1)[1] for line in rig.fallback.lines] == ["ERROR mcpd.backends event=a token=***"]
    rig.listen()
    rig.log.error("event=b")
    assert rig.entry()["MCPD_EVENT"] == "b"
    assert len(rig.fallback.lines) == 1


def test_what_a_slow_journald_does_not_take_is_counted(rig, monkeypatch):
    monkeypatch.setattr("mcpd.journal.SEND_TIME", 0.001)
    lost, sent = 0, 0
    while lost < 3:
        rig.log.info("event=x")
        sent += 1
        lost = rig.log.handlers[0]._dropped
        assert sent < 100_000
    for _ in range(sent - lost):
        assert rig.entry()["MCPD_EVENT"] == "x"
    rig.log.info("event=y")
    first, second = rig.entry(), rig.entry()
    assert first["MESSAGE"].startswith("event=log_dropped entries=3 ")
    assert second["MCPD_EVENT"] == "y"
    assert rig.fallback.lines == [], "stderr ends in the same journald, and would block"


def test_other_secrets_are_hidden_after_a_reload_wherever_lines_go(rig, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", rig.log.handlers)
    redact_with(lambda text: text.replace("newer", "***"))
    rig.log.info("s3cret newer")
    assert rig.entry()["MESSAGE"] == "s3cret ***"
    rig.journald.close()
    rig.log.info("s3cret newer")
    assert rig.fallback.lines[0].endswith(" s3cret ***")


def test_last_words_are_marked_where_the_journal_reads_them(capfd, monkeypatch):
    complain("one\ntwo")
    assert capfd.readouterr().err == "mcpd: one\ntwo\n"
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", open(2, "w", closefd=False))  # noqa: SIM115 - closing it would close nothing
        complain("one\ntwo")
    assert capfd.readouterr().err == "<3>mcpd: one\n<3>two\n"


def test_each_caller_is_heard_once_in_a_while_and_told_how_often_it_was_not():
    seldom = Seldom(1.0)
    assert [seldom.suppressed("a", at) for at in (0.0, 0.1, 0.9)] == [0, None, None]
    assert seldom.suppressed("b", 0.9) == 0, "whoever else makes noise"
    assert [seldom.suppressed("a", at) for at in (1.0, 1.5, 2.5)] == [2, None, 1]
    assert seldom.suppressed("b", 2.5) == 0


def test_of_many_callers_those_beyond_the_bound_share_a_turn():
    seldom = Seldom(1.0, kept=3)
    heard = [seldom.suppressed(str(number), 0.5) for number in range(10)]
    assert heard == [0, 0, 0, 0, *[None] * 6]
    assert seldom.suppressed("2", 1.5) == 0, "who was there first"
    assert seldom.suppressed("again", 1.5) == 0, "there is room once the others are silent"


def test_what_was_kept_silent_of_a_caller_that_is_forgotten_is_told_with_others():
    seldom = Seldom(1.0, kept=2)
    assert [seldom.suppressed("a", 0.0) for _ in range(4)] == [0, None, None, None]
    heard = [seldom.suppressed(name, 5.0) for name in ("b", "c", "d", "e")]
    assert sum(each for each in heard if each is not None) == 3
    assert heard[0] == 0
