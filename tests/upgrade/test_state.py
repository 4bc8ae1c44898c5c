from __future__ import annotations

import fcntl
import os

import msgspec
import pytest

from mcpd.upgrade.state import FORMAT, SEALS, StateRefused, decode, encode, seal, unseal


async def test_it_comes_back_as_it_was(make_state):
    state = make_state()
    assert decode(encode(state)) == state
    assert list(state.descriptors()) == [10, 20, 21, 30]


async def test_a_field_that_is_not_known_is_no_reason_to_refuse(make_state):
    state = make_state()
    more = {**msgspec.to_builtins(state, builtin_types=(bytes,)), "from the future": 1}
    assert decode(msgspec.msgpack.encode(more)) == state


async def test_another_format_is_refused_before_anything_else():
    other = msgspec.msgpack.encode({"format": FORMAT + 1, "pid": "?"})
    with pytest.raises(StateRefused, match=f"in format {FORMAT + 1}, this one reads {FORMAT}"):
        decode(other)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"format": FORMAT})])
async def test_what_is_no_state_is_refused(data):
    with pytest.raises(StateRefused, match="another shape"):
        decode(data)


async def test_sessions_are_looked_at_too(make_state):
    state = make_state()
    with pytest.raises(StateRefused, match="damaged"):
        decode(encode(msgspec.structs.replace(state, sessions=state.sessions[:-1])))


def test_sealed_memory_cannot_change_and_is_read_whole():
    data = os.urandom(3 << 20)
    fd = seal(data)
    assert not os.get_inheritable(fd)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    assert unseal(fd) == data
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_memory_that_can_change_is_refused():
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with pytest.raises(StateRefused, match="can still change"):
            unseal(fd)
    finally:
        os.close(fd)


def test_what_is_no_memory_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with open(tmp_path / "file", "rb") as file, pytest.raises(StateRefused, match="holds no state"):
        unseal(file.fileno())
