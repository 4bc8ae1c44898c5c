from __future__ import annotations

import os
import socket
import struct

import pytest

from mcpd.journal import FIELD_MAX, Journal, encoded, is_journal


@pytest.fixture
def journald(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.settimeout(30)
        yield sock


@pytest.fixture
def journal(tmp_path):
    journal = Journal(str(tmp_path / "socket"))
    yield journal
    journal.close()


def read(data: bytes) -> dict[str, str]:
    """What journald makes of an entry."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            (size,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields[name.decode()] = value.decode()
        data = rest
    return fields


def test_fields_arrive_as_they_are(journald, journal):
    fields = {"MESSAGE": "a = b ä", "PRIORITY": "6", "TRACE": "one\ntwo=2\n", "EMPTY": ""}
    journal.send(fields)
    assert read(journald.recv(65536)) == fields


def test_a_value_cannot_pass_for_another_field():
    assert read(encoded("MESSAGE", "x\nPRIORITY=0\n_UID=0")) == {"MESSAGE": "x\nPRIORITY=0\n_UID=0"}


def test_text_that_is_no_unicode():
    assert encoded("A", "\udcff") == b"A=\\udcff\n"


def test_what_is_too_long_is_cut_off():
    data = encoded("A", "x" * (FIELD_MAX + 1))
    assert data.endswith(b"xxx [cut off]\n")
    assert len(data) == FIELD_MAX + len("A=\n")


def test_an_entry_that_is_too_large_for_a_datagram_comes_in_sealed_memory(journald, journal):
    large = "x" * (FIELD_MAX // 2)
    fields = {f"F{number}": large for number in range(8)}
    journal.send(fields)
    data, fds, _, _ = socket.recv_fds(journald, 65536, 4)
    assert (data, len(fds)) == (b"", 1)
    with open(fds[0], "rb+", buffering=0) as file:
        file.seek(0)
        assert read(file.readall()) == fields
        with pytest.raises(PermissionError):
            file.write(b"x")
    journal.send({"MESSAGE": "small again"})
    assert read(journald.recv(65536)) == {"MESSAGE": "small again"}


def test_another_journald_is_found(tmp_path, journal):
    address = str(tmp_path / "socket")
    for round in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
            journal.send({"MESSAGE": str(round)})
            assert read(sock.recv(65536)) == {"MESSAGE": str(round)}
        os.unlink(address)
    with pytest.raises(FileNotFoundError):
        journal.send({"MESSAGE": "nobody"})


def test_a_journald_that_reads_nothing_is_not_waited_for(journald, journal):
    def fill() -> None:
        for _ in range(100_000):
            journal.send({"MESSAGE": "x"})

    with pytest.raises(TimeoutError):
        fill()


def test_only_what_is_connected_to_the_journal_is_taken_for_it():
    read_end, write_end = os.pipe()
    try:
        found = os.fstat(write_end)
        assert is_journal(write_end, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not is_journal(write_end, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        for text in ("", "1", ":", "a:b"):
            assert not is_journal(write_end, {"JOURNAL_STREAM": text})
        assert not is_journal(write_end, {})
    finally:
        os.close(read_end)
        os.close(write_end)
    assert not is_journal(write_end, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
