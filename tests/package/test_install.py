"""What `make install` puts outside of its virtual environment, and that exactly that is removed again.

The environment itself needs the package index: `python -m package.install check` makes one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from package.errors import PackageError
from package.install import CONFIGURATION, Places, main, new_folders, place, system_tree, uninstall, write_record
from package.project import ROOT

PREFIX = Path("/opt/mcp")


@pytest.fixture
def places(tmp_path):
    return Places(PREFIX, PREFIX / "lib" / "systemd", tmp_path / "stage")


def found(places):
    return {str(path.relative_to(places.destdir)) for path in places.destdir.rglob("*") if path.is_file()}


def installed(places):
    """Without the environment, but for its folder."""
    folders = new_folders(places, places.staged(places.home))
    places.staged(places.home).mkdir(parents=True)
    record = place(system_tree(ROOT, places), places)
    record.folders.extend(folders)
    write_record(places, record)
    return record


def test_everything_is_where_the_prefix_says(places):
    installed(places)
    units = {
        f"opt/mcp/lib/systemd/{kind}/mcpd.{suffix}" for kind in ("system", "user") for suffix in ("service", "socket")
    }
    assert found(places) >= units | {
        "etc/mcpd/mcpd.yaml",
        "opt/mcp/bin/mcpd",
        "opt/mcp/lib/sysusers.d/mcpd.conf",
        "opt/mcp/lib/tmpfiles.d/mcpd.conf",
        "opt/mcp/share/man/man8/mcpd.8",
        "opt/mcp/share/bash-completion/completions/mcpctl",
        "opt/mcp/share/zsh/site-functions/_mcpctl",
        "opt/mcp/share/fish/vendor_completions.d/mcpctl.fish",
        "opt/mcp/share/man/man5/mcpd.yaml.5",
        "opt/mcp/share/man/man7/mcpd-control.7",
    }
    launcher = places.staged(PREFIX / "bin" / "mcpd")
    assert launcher.read_text().startswith("#!/opt/mcp/lib/mcpd/bin/python3 -I\n")
    assert os.access(launcher, os.X_OK)
    for unit in places.staged(PREFIX / "lib" / "systemd").rglob("*.service"):
        programs = re.findall(r"^Exec\w+=(\S+)", unit.read_text(), flags=re.MULTILINE)
        assert programs
        assert all(program.startswith("/opt/mcp/bin/") for program in programs)
    for file in found(places):
        assert str(places.destdir) not in (places.destdir / file).read_text()


def test_without_systemd_there_are_no_units(places):
    tree = system_tree(ROOT, Places(PREFIX, None, places.destdir))
    assert not [path for path in tree if "systemd" in path or "sysusers.d" in path or "tmpfiles.d" in path]


def test_nothing_is_left(places):
    installed(places)
    uninstall(places)
    assert not places.destdir.exists()


def test_what_was_there_before_stays(places):
    others = places.staged(PREFIX / "bin" / "other")
    others.parent.mkdir(parents=True)
    others.touch()
    installed(places)
    uninstall(places)
    assert found(places) == {"opt/mcp/bin/other"}


def test_a_configuration_that_is_there_is_the_operators(places):
    file = places.staged(Path("/") / CONFIGURATION)
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert f"/{CONFIGURATION}" not in installed(places).files
    uninstall(places)
    assert file.read_text() == "mine"


def test_a_configuration_that_was_changed_stays(places, capsys):
    installed(places)
    file = places.staged(Path("/") / CONFIGURATION)
    file.write_text("mine")
    uninstall(places)
    assert found(places) == {CONFIGURATION}
    assert str(file) in capsys.readouterr().out


def test_an_installation_over_another_still_owns_its_configuration(places):
    installed(places)
    again = place(system_tree(ROOT, places), places, owned=True)
    assert f"/{CONFIGURATION}" in again.files
    assert again.folders == []


def test_what_was_not_installed_is_not_removed(places, capsys):
    with pytest.raises(PackageError, match="nothing was installed there"):
        uninstall(places)
    assert main(["uninstall", "--destdir", str(places.destdir)]) == 1
    assert "nothing was installed there" in capsys.readouterr().err
    assert main(["install", "--prefix", "relative"]) == 1
    assert "absolute" in capsys.readouterr().err


def test_it_runs_on_the_standard_library_alone():
    argv = [sys.executable, "-S", "-c", "import package.install"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
