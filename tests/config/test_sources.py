"""Where a configuration is read from, on a real disk; how the parts become one: test_build."""

from __future__ import annotations

import json
import os

import pytest

from mcpd.config.faults import ConfigErrors
from mcpd.config.load import MAX_FILE
from mcpd.config.model import Config
from mcpd.config.origins import Provenance
from mcpd.config.overlay import ChangeRefused, Mark
from mcpd.config.sources import MAX_FILES, Sources, Still

NOW = Provenance(at="2026-11-28T10:00:00Z", by="alice", how="mcpctl")
SERVER = {"command": "x"}


class Place:
    """A main file, a directory of servers and a state directory."""

    def __init__(self, path):
        self.main = path / "mcpd.yaml"
        self.drop_ins = path / "servers.d"
        self.overlay = path / "state" / "overlay.json"
        self.overlay.parent.mkdir()
        self.environ = {}
        self.main.write_text(json.dumps({"mcpServers": {"a": SERVER}}))

    @property
    def sources(self):
        return Sources(self.main, overlay=self.overlay, environ=self.environ)

    def drop_in(self, name, text=None):
        self.drop_ins.mkdir(exist_ok=True)
        (self.drop_ins / name).write_text(text or json.dumps({"servers": {name.partition(".")[0]: SERVER}}))

    def add(self, **tables):
        sources = self.sources
        reading = sources.read(lambda overlay, defined: overlay.with_servers(tables, NOW, defined, replace=False))
        assert sources.write(reading)
        return reading


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def servers(config):
    return [spec.name for spec in config.servers]


def test_drop_ins_are_read_by_name_and_nothing_else_is(place):
    for name in ("2.yml", "1.json", "3.yaml", ".hidden.yaml", "4.yaml~", "README"):
        place.drop_in(name, None if name[0] in "123" else "nonsense")
    config = place.sources.read().config
    assert servers(config) == ["a", "1", "2", "3"]
    assert [os.path.basename(each) for each in config.drop_ins] == ["1.json", "2.yml", "3.yaml"]
    assert config.origins["1"].place == f"{place.drop_ins}/1.json:1"


def test_every_file_with_a_fault_is_told_at_once(place):
    place.main.write_text("nonsense: [\n")
    place.drop_in("1.yaml", "\n\tx")
    place.drop_in("2.yaml", "ok: 1\n")
    (place.drop_ins / "dir.yaml").mkdir()
    os.mkfifo(place.drop_ins / "fifo.yaml")
    with pytest.raises(ConfigErrors) as caught:
        place.sources.read()
    files = [os.path.basename(error.file) for error in caught.value.errors]
    assert files == ["mcpd.yaml", "1.yaml", "dir.yaml", "fifo.yaml"]


def test_what_is_read_is_bounded(place):
    place.drop_in("1.yaml", "mcpServers: {} #" + "x" * (MAX_FILE // 2))
    place.drop_in("2.yaml", "mcpServers: {} #" + "x" * (MAX_FILE // 2))
    with pytest.raises(ConfigErrors, match="the directory has more than"):
        place.sources.read()
    for number in range(MAX_FILES):
        place.drop_in(f"x{number}.yaml")
    with pytest.raises(ConfigErrors, match=f"more than {MAX_FILES} files"):
        place.sources.read()


def test_a_directory_that_is_none_is_a_fault(place):
    place.drop_ins.write_text("")
    with pytest.raises(ConfigErrors, match=r"servers\.d: cannot be read: Not a directory"):
        place.sources.read()


def test_what_was_added_is_there_the_next_time_as_it_was_given(place):
    place.environ["TOKEN"] = "first-secret"
    reading = place.add(z={"command": "x", "env": {"T": "${TOKEN}"}}, y=SERVER)
    assert servers(reading.config) == ["a", "z", "y"]
    assert "first-secret" not in place.overlay.read_text()
    assert reading.config == place.sources.read().config, "as it is read again, lines included"
    place.environ["TOKEN"] = "second-secret"
    assert place.sources.read().config.server("z").env == {"T": "second-secret"}


def test_a_change_that_is_none_writes_nothing(place):
    place.add(z=SERVER)
    before = place.overlay.stat()
    reading = place.sources.read(lambda overlay, defined: overlay.with_mark("z", Mark(True, NOW), defined))
    assert place.sources.write(reading)
    assert place.overlay.stat().st_ino == before.st_ino


def test_nothing_is_written_before_everything_is_right(place):
    with pytest.raises(ConfigErrors, match=r"^mcpServers.z: neither"):
        place.add(z={})
    with pytest.raises(ChangeRefused):
        place.add(a=SERVER)
    assert not place.overlay.exists()


@pytest.mark.parametrize("text", ["", "{", '{"format": 7}'])
def test_a_broken_overlay_keeps_nobody_from_starting_and_is_kept(place, text):
    place.overlay.write_text(text)
    for change in (None, lambda overlay, defined: overlay):
        with pytest.raises(ConfigErrors, match=r"overlay\.json"):
            place.sources.read(change)
    assert place.sources.read(lenient=True).config.problems, "who only looks touches nothing"
    assert place.overlay.read_text() == text
    config = place.sources.read(lenient=True, set_aside=True).config
    assert servers(config) == ["a"]
    assert "servers that were added while mcpd ran are missing" in config.problems[0]
    assert "overlay.json.broken was set aside" in config.problems[-1]
    aside = place.overlay.with_name("overlay.json.broken")
    assert aside.read_text() == text
    place.add(z=SERVER)
    (problem,) = place.sources.read().config.problems
    assert str(aside) in problem, "until somebody has looked"
    aside.unlink()
    assert place.sources.read().config.problems == ()


def test_an_overlay_that_cannot_be_read_is_not_written_either(place):
    place.overlay.mkdir()
    with pytest.raises(ConfigErrors, match=r"overlay\.json: cannot be read"):
        place.add(z=SERVER)
    config = place.sources.read(lenient=True, set_aside=True).config
    assert servers(config) == ["a"]
    assert "cannot be read" in config.problems[0]
    assert place.overlay.is_dir(), "it is not known to be broken"


def test_a_variable_that_went_away_leaves_one_server_out_at_the_start(place):
    place.environ["TOKEN"] = "x"
    place.add(z={"command": "x", "env": {"T": "${TOKEN}"}}, y=SERVER)
    place.environ.clear()
    with pytest.raises(ConfigErrors, match=r"overlay\.json:\d+: mcpServers\.z\.env\.T: .*TOKEN is not set"):
        place.sources.read()
    config = place.sources.read(lenient=True, set_aside=True).config
    assert servers(config) == ["a", "y"]
    assert place.overlay.exists()
    gone = place.sources.read(lambda overlay, defined: overlay.without_server("z", defined))
    assert place.sources.write(gone)
    assert place.sources.read().config.problems == ()


def test_without_a_file_there_is_the_built_in_one_and_the_overlay(place):
    sources = Sources(None, built_in=("demo.json", '{"mcpServers": {"d": {"command": "x"}}}'), environ={})
    assert servers(sources.read().config) == ["d"]
    assert sources.stamp() == ()
    with pytest.raises(ChangeRefused) as caught:
        sources.read(lambda overlay, defined: overlay)
    assert (caught.value.code, "--state-dir" in caught.value.remedy) == ("no_overlay", True)
    place.add(z=SERVER)
    both = Sources(None, built_in=("demo.json", "{}"), overlay=place.overlay, environ={})
    assert servers(both.read().config) == ["z"]


def test_a_stamp_tells_that_a_file_changed(place):
    seen = [place.sources.stamp()]

    def other():
        seen.append(place.sources.stamp())
        return seen[-1] != seen[-2]

    assert not other()
    place.drop_in("1.yaml")
    assert other()
    place.drop_in("1.yaml", "mcpServers: {}")
    assert other()
    place.main.rename(place.main.with_name("x"))
    assert other()
    place.drop_ins.joinpath("1.yaml").unlink()
    assert other()
    assert not other()


def test_what_stays_as_it_is():
    config = Config()
    still = Still(config)
    assert still.read().config is config
    assert still.write(still.read())
    with pytest.raises(ChangeRefused):
        still.read(lambda overlay, defined: overlay)
