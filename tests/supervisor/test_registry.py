from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import replace

import pytest

from mcpd.supervisor import registry
from mcpd.supervisor.registry import (
    CHILDREN_DIR,
    INSTANCE_FILE,
    Owner,
    Record,
    Registry,
    decode_records,
    encode_records,
    parse_marker,
    read_pid_namespace,
)
from mcpd.supervisor.tree import read_process


def test_the_instance_word_is_kept_and_private(tmp_path):
    first, second = Registry(tmp_path / "state"), Registry(tmp_path / "state")
    assert first.instance == second.instance
    assert Registry(tmp_path / "other").instance != first.instance
    path = tmp_path / "state" / INSTANCE_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == [CHILDREN_DIR, INSTANCE_FILE]


@pytest.mark.parametrize("damaged", ["", "../../x\n", "\x00"])
def test_a_damaged_instance_word_is_replaced(tmp_path, damaged):
    (tmp_path / INSTANCE_FILE).write_text(damaged)
    found = Registry(tmp_path).instance
    assert len(found) == 32
    assert Registry(tmp_path).instance == found


def test_markers_name_the_owner_and_are_all_different(tmp_path):
    registry = Registry(tmp_path)
    one, two = registry.next_marker(), registry.next_marker()
    assert one != two
    marker = parse_marker(one)
    assert marker.owner == registry.owner == Owner(os.getpid(), read_process(os.getpid()).start)
    assert (marker.instance, marker.serial) == (registry.instance, 1)


@pytest.mark.parametrize("text", ["", "x", "1.2.3.4", "a" * 32 + ".1.2", "a" * 32 + ".1.2.x", "A" * 32 + ".1.2.3"])
def test_other_markers_are_not_ours(text):
    assert parse_marker(text) is None


def test_an_owner_is_alive_by_pid_and_start_time():
    info = read_process(os.getpid())
    assert Owner(info.pid, info.start).alive
    assert not Owner(info.pid, info.start + 1).alive
    assert not Owner(1 << 30, 1).alive


def test_an_owner_that_proc_hides_is_not_taken_for_dead(monkeypatch):
    monkeypatch.setattr(registry, "read_process", lambda _: None)
    assert Owner(os.getpid(), 1).alive
    assert Owner(1, 1).alive
    assert not Owner(1 << 30, 1).alive


def test_a_daemon_is_known_for_as_long_as_it_runs(tmp_path):
    mine, other = Registry(tmp_path), Registry(None)
    me = read_process(os.getpid())
    assert mine.knows(me)
    mine.record(Record("a", 1, 2))
    mine.forget(1)
    assert mine.records == ()
    assert mine.knows(me), "a child that is made when the disk is full is below it, too"
    assert not mine.knows(replace(me, start=me.start + 1))
    assert not other.knows(me)
    mine.close()
    assert not mine.knows(me)


def test_children_are_recorded_and_forgotten(tmp_path):
    registry = Registry(tmp_path)
    file = tmp_path / CHILDREN_DIR / f"{registry.owner.pid}.{registry.owner.start}"
    registry.record(Record("a", 10, 100))
    registry.record(Record("b", 11, 101, (7, 8, 9)))
    assert registry.records == (Record("a", 10, 100), Record("b", 11, 101, (7, 8, 9)))
    assert decode_records(file.read_bytes()) == registry.records
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    registry.forget(10)
    registry.forget(99)
    assert decode_records(file.read_bytes()) == (Record("b", 11, 101, (7, 8, 9)),)
    registry.close()
    assert file.exists(), "something is left to be swept"
    registry.forget(11)
    assert decode_records(file.read_bytes()) == ()
    registry.close()
    assert list(file.parent.iterdir()) == []


def test_a_child_is_expected_with_its_pipes_before_it_has_a_pid(tmp_path):
    registry = Registry(tmp_path)
    file = tmp_path / CHILDREN_DIR / f"{registry.owner.pid}.{registry.owner.start}"
    one, two = (registry.expect("a", 100, frozenset({inode})) for inode in (7, 8))
    assert one != two
    assert max(one, two) < 0
    assert decode_records(file.read_bytes()) == (Record("a", one, 100, (7,)), Record("a", two, 100, (8,)))
    registry.record(Record("a", 10, 101, (7,)), expected=one)
    registry.forget(two)
    assert decode_records(file.read_bytes()) == (Record("a", 10, 101, (7,)),)


def test_a_disk_that_refuses_does_not_keep_a_child_from_starting(tmp_path):
    registry = Registry(tmp_path)
    shutil.rmtree(tmp_path / CHILDREN_DIR)
    registry.record(Record("a", 10, 100))
    registry.forget(10)
    registry.close()


def test_without_a_state_directory_there_is_only_the_marker():
    registry = Registry(None)
    registry.record(Record("a", 10, 100))
    assert registry.records == (Record("a", 10, 100),)
    assert parse_marker(registry.next_marker()) is not None


def test_records_of_another_boot_or_namespace_or_damaged_ones():
    good = json.loads(encode_records((Record("a", 1, 2),)))
    assert good["namespace"] == read_pid_namespace("self") != ""
    earlier = json.dumps(good | {"children": [["a", 1, 2]]}).encode()
    assert decode_records(earlier) == (Record("a", 1, 2),), "as it was before pipes were recorded"
    assert decode_records(json.dumps(good | {"boot": "x"}).encode()) == ()
    assert decode_records(json.dumps(good | {"namespace": "x"}).encode()) is None
    for damaged in (b"", b"{}", b"[]", json.dumps(good | {"children": [1]}).encode()):
        assert decode_records(damaged) == ()


def test_what_the_program_before_an_upgrade_wrote_stays_until_it_is_known_anew(tmp_path):
    before = Registry(tmp_path)
    before.record(Record("a", 10, 100))
    file = tmp_path / CHILDREN_DIR / f"{before.owner.pid}.{before.owner.start}"
    after = Registry(tmp_path)
    assert decode_records(file.read_bytes()) == (Record("a", 10, 100),)
    assert after.records == ()
    fresh = tmp_path / "fresh"
    Registry(fresh)
    (empty,) = (fresh / CHILDREN_DIR).iterdir()
    assert (decode_records(empty.read_bytes()), stat.S_IMODE(empty.stat().st_mode)) == ((), 0o600)
