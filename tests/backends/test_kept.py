"""Catalogues on disk: what is read again, what is not, and that nothing about it ever fails."""

from __future__ import annotations

import logging
import math
import os
import stat
import threading
import time
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends import kept as module
from mcpd.backends.base import Catalogue, Entry, Hint
from mcpd.backends.kept import DELAY, FORMAT, MAGIC, UNUSED, KeptCatalogues, LastKnown
from mcpd.config.model import ServerSpec, Timeouts, Tls
from mcpd.protocol.capabilities import ServerCapabilities
from mcpd.protocol.handshake import ServerHello
from mcpd.protocol.versions import Version

KEY = b"k" * 32
SPEC = ServerSpec(
    name="b",
    transport="stdio",
    command="server",
    args=("--token", "s3cret-argument"),
    env={"TOKEN": "s3cret-variable"},
    inherit_env=("LANG",),
)
REMOTE = ServerSpec(
    name="b", transport="auto", url="https://example.org/mcp?key=s3cret-url", headers={"Authorization": "s3cret-header"}
)
HELLO = ServerHello(
    Version.V2026_07_28,
    ServerCapabilities(tools=True, tools_list_changed=True, extensions=("example.org/x",)),
    b'{"name":"s"}',
    "be nice\n",
)
LISTED = Catalogue(
    tools=(Entry("t", b'{"name":"t", "x":1.0, "y":"\\u00e4"}'), Entry("u", b'{"name":"u"}')),
    prompts=(Entry("p", b'{"name":"p"}'),),
    hints={"tools": Hint(5, public=True)},
)
KNOWN = LastKnown(HELLO, LISTED)


@asynccontextmanager
async def keeping(directory, key=KEY):
    """The files of one daemon. What was noted is written when the block is over."""
    kept = KeptCatalogues(directory, key)
    async with trio.open_nursery() as nursery:
        await nursery.start(kept.run)
        yield kept
        nursery.cancel_scope.cancel()


async def keep(directory, spec=SPEC, known=KNOWN):
    async with keeping(directory) as kept:
        kept.load(spec)
        kept.store(spec, known)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


async def test_what_was_kept_is_read_byte_for_byte(tmp_path):
    await keep(tmp_path)
    assert KeptCatalogues(tmp_path, KEY).load(SPEC) == KNOWN


async def test_the_directory_is_made_and_both_are_for_their_owner_only(tmp_path):
    directory = tmp_path / "catalogues"
    assert KeptCatalogues(directory, KEY).load(SPEC) is None
    await keep(directory)
    assert names(directory) == ["b"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "b").stat().st_mode) == 0o600


@pytest.mark.parametrize("spec", [SPEC, REMOTE])
async def test_no_secret_is_in_the_file_nor_can_be_tried_out_on_it(spec, tmp_path):
    await keep(tmp_path, spec)
    data = (tmp_path / "b").read_bytes()
    assert b"s3cret" not in data
    other = KeptCatalogues(tmp_path, b"another key")
    assert other.load(spec) is None, "who does not have the key cannot tell whose it is"


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "other"},
        {"args": ("--token",)},
        {"args": ("--token s3cret-argument",)},
        {"env": {"TOKEN": "another"}},
        {"env": {"OTHER": "s3cret-variable"}},
        {"inherit_env": ()},
        {"cwd": "/tmp"},
        {"era": "legacy"},
        {"user": "nobody"},
        {"group": "nogroup"},
        {"transport": "streamable-http", "command": None, "url": "http://127.0.0.1:1/mcp"},
    ],
)
async def test_another_configuration_is_another_server(changes, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    await keep(tmp_path)
    async with keeping(tmp_path) as kept:
        assert kept.load(msgspec.structs.replace(SPEC, **changes)) is None
    assert "its configuration is another one" in caplog.text
    assert names(tmp_path) == [], "it is removed"


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": {}},
        {"headers": {"Authorization": "x"}},
        {"url": "https://a.b/c"},
        {"tls": Tls(cert="/etc/other.pem")},
    ],
)
async def test_the_same_for_a_remote(changes, tmp_path):
    await keep(tmp_path, REMOTE)
    assert KeptCatalogues(tmp_path, KEY).load(msgspec.structs.replace(REMOTE, **changes)) is None


async def test_what_changes_nothing_about_the_server_changes_nothing_here(tmp_path):
    await keep(tmp_path)
    changed = msgspec.structs.replace(SPEC, timeouts=Timeouts(init=3), prefix="x", description="d", instances="leased")
    assert KeptCatalogues(tmp_path, KEY).load(changed) == KNOWN


def other_format(data):
    return data.replace(b" %d " % FORMAT, b" %d " % (FORMAT + 1), 1)


def sealed(body):
    """A file that is whole, whatever is in it."""

    def make(data):
        identity = data.split(b" ")[2]
        return b"%b %d %b %b\n%b" % (MAGIC, FORMAT, identity, module._digest(body), body)

    return make


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: b"", "no kept catalogue"),
        (lambda data: b"\0" * 100, "no kept catalogue"),
        (lambda data: data[:-1], "damaged"),
        (lambda data: data + b"x", "damaged"),
        (lambda data: data[: data.index(b"\n")], "damaged"),
        (lambda data: data[:-20] + b"\0" * 20, "damaged"),
        (other_format, "another version of mcpd"),
        (sealed(b""), "catalogue_ignored"),
        (sealed(b"\x93" * 5000), "catalogue_ignored"),
        (sealed(msgspec.msgpack.encode({"hello": 1, "catalogue": 2})), "catalogue_ignored"),
        (sealed(msgspec.msgpack.encode({"hello": HELLO})), "catalogue_ignored"),
    ],
)
async def test_what_cannot_be_used_is_said_and_removed(spoil, reason, tmp_path, caplog):
    await keep(tmp_path)
    file = tmp_path / "b"
    file.write_bytes(spoil(file.read_bytes()))
    async with keeping(tmp_path) as kept:
        assert kept.load(SPEC) is None
    assert reason in caplog.text
    assert names(tmp_path) == []


async def test_every_beginning_of_a_file_is_damaged(tmp_path):
    await keep(tmp_path)
    file = tmp_path / "b"
    data = file.read_bytes()
    for length in range(len(data)):
        file.write_bytes(data[:length])
        assert KeptCatalogues(tmp_path, KEY).load(SPEC) is None


async def test_a_file_has_a_bound(tmp_path, caplog, monkeypatch):
    await keep(tmp_path)
    size = (tmp_path / "b").stat().st_size
    monkeypatch.setattr(module, "SIZE_MAX", size)
    assert KeptCatalogues(tmp_path, KEY).load(SPEC) == KNOWN
    monkeypatch.setattr(module, "SIZE_MAX", size - 1)
    assert KeptCatalogues(tmp_path, KEY).load(SPEC) is None
    assert f"more than {size - 1} bytes" in caplog.text
    await keep(tmp_path)
    assert "event=catalogue_too_large" in caplog.text
    assert names(tmp_path) == []


async def test_changes_that_come_together_are_one_write(tmp_path, autojump_clock, monkeypatch):
    autojump_clock.autojump_threshold = math.inf  # a clock that jumps does not know of threads
    writes = []
    written = threading.Event()
    write = KeptCatalogues._write

    def note(self, name, *what):
        write(self, name, *what)
        writes.append(name)
        written.set()

    monkeypatch.setattr(KeptCatalogues, "_write", note)
    async with keeping(tmp_path) as kept:
        kept.load(SPEC)
        for count in range(10):
            kept.store(SPEC, LastKnown(HELLO, Catalogue(tools=LISTED.tools[:count])))
            await wait_all_tasks_blocked()
            autojump_clock.jump(DELAY / 20)
        kept.store(SPEC, KNOWN)
        await wait_all_tasks_blocked()
        assert writes == []
        for _ in range(600):  # its first thread may not be through yet
            autojump_clock.jump(DELAY)
            if await trio.to_thread.run_sync(written.wait, 0.05):
                break
    assert writes == ["b"]
    assert KeptCatalogues(tmp_path, KEY).load(SPEC) == KNOWN


async def test_what_is_on_disk_already_is_not_written_again_but_used(tmp_path):
    await keep(tmp_path)
    file = tmp_path / "b"
    os.utime(file, (0, time.time() - 10 * 86400))
    before = file.stat()
    async with keeping(tmp_path) as kept:
        assert kept.load(SPEC) == KNOWN
        kept.store(SPEC, KNOWN)
    assert file.stat().st_ino == before.st_ino
    assert file.stat().st_mtime > before.st_mtime
    async with keeping(tmp_path) as kept:
        kept.load(SPEC)
        file.unlink()  # another daemon has another configuration
        kept.store(SPEC, KNOWN)
    assert KeptCatalogues(tmp_path, KEY).load(SPEC) == KNOWN


async def test_what_is_forgotten_is_gone_unless_it_comes_again(tmp_path):
    await keep(tmp_path)
    async with keeping(tmp_path) as kept:
        kept.load(SPEC)
        kept.forget("b")
        kept.forget("never there")
    assert names(tmp_path) == []
    async with keeping(tmp_path) as kept:
        kept.load(SPEC)
        kept.forget("b")
        kept.store(SPEC, KNOWN)
    assert KeptCatalogues(tmp_path, KEY).load(SPEC) == KNOWN


async def test_a_server_that_lost_its_place_has_nothing_to_say_any_more(tmp_path):
    await keep(tmp_path)
    other = msgspec.structs.replace(SPEC, command="other")
    async with keeping(tmp_path) as kept:
        assert kept.load(SPEC) == KNOWN
        assert kept.load(other) is None
        kept.store(other, LastKnown(HELLO, Catalogue()))
        kept.store(SPEC, KNOWN)  # it drains, and lists something else meanwhile
    assert KeptCatalogues(tmp_path, KEY).load(other) == LastKnown(HELLO, Catalogue())
    third = msgspec.structs.replace(SPEC, name="c")
    async with keeping(tmp_path) as kept:
        kept.load(other)
        kept.load(third)
        kept.store(third, KNOWN)
        kept.retain(["c", "new"])
        kept.store(other, KNOWN)
    assert names(tmp_path) == ["c"]


async def test_a_disk_that_takes_nothing_fails_nobody(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    async with keeping(tmp_path / "file" / "catalogues") as kept:
        assert kept.load(SPEC) is None
        kept.store(SPEC, KNOWN)
        other = msgspec.structs.replace(SPEC, name="c")
        kept.load(other)
        kept.store(other, KNOWN)
    assert "event=catalogue_unreadable" in caplog.text
    assert [record.levelname for record in caplog.records if "event=catalogue_not_kept" in record.getMessage()] == [
        "WARNING"
    ] * 2
    assert names(tmp_path) == ["file"]


async def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch, caplog):
    await keep(tmp_path)

    def full(path, flags):
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        os.close(handle)
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(module, "_private", full)
    await keep(tmp_path, known=LastKnown(HELLO, Catalogue()))
    assert "event=catalogue_not_kept" in caplog.text
    assert names(tmp_path) == ["b"]
    assert KeptCatalogues(tmp_path, KEY).load(SPEC) == KNOWN


async def test_files_that_nobody_uses_go_after_a_long_time(tmp_path):
    for name in ("b", "gone", "recent"):
        await keep(tmp_path, msgspec.structs.replace(SPEC, name=name))
    # The sweeps of those that kept them were left behind, and must not find what is made old now.
    limiter = trio.to_thread.current_default_thread_limiter()
    with trio.fail_after(30):
        while limiter.borrowed_tokens:  # noqa: ASYNC110 - a thread tells nothing
            await trio.sleep(0.01)
    (tmp_path / ".b.1.abcd").write_bytes(b"what a crash left")
    old = time.time() - UNUSED - 100
    for name in ("b", "gone", ".b.1.abcd"):
        os.utime(tmp_path / name, (old, old))
    kept = KeptCatalogues(tmp_path, KEY)
    assert kept.load(SPEC) == KNOWN
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        with trio.fail_after(30):
            while len(names(tmp_path)) > 2:  # noqa: ASYNC110 - a thread tells nothing
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert names(tmp_path) == ["b", "recent"], "b is old, but configured"


def test_the_format_says_what_is_in_a_file():
    """If this fails, count FORMAT up: files of the last release must not be misread."""
    fields = {each.__name__: each.__struct_fields__ for each in (LastKnown, ServerHello, Catalogue, Entry, Hint)}
    assert FORMAT == 1
    assert fields == {
        "LastKnown": ("hello", "catalogue"),
        "ServerHello": ("version", "capabilities", "server_info", "instructions"),
        "Catalogue": ("tools", "resources", "resource_templates", "prompts", "hints"),
        "Entry": ("key", "raw"),
        "Hint": ("ttl_ms", "public"),
    }
    families = [f"{family}{what}" for family in ("tools", "resources", "prompts") for what in ("", "_list_changed")]
    assert set(ServerCapabilities.__struct_fields__) == {
        *families,
        *("resources_subscribe", "completions", "logging", "extensions"),
    }
    assert [(each.value, each.text) for each in Version] == [
        (0, "2024-11-05"),
        (1, "2025-03-26"),
        (2, "2025-06-18"),
        (3, "2025-11-25"),
        (4, "2026-07-28"),
    ]
