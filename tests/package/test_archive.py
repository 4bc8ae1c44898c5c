"""What dpkg is told about the package."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest

from package.archive import FASTEST, SCRIPTS, build, changelog, control_files, maintainer_from, write
from package.errors import PackageError
from package.project import ROOT
from package.tree import Entry

FIELDS = {"@VERSION@": "1.0-1", "@ARCHITECTURE@": "amd64", "@MAINTAINER@": "A <a@example.org>"}
TREE = {
    "etc/mcpd/mcpd.yaml": Entry(b"{}"),
    "usr/bin/mcpd": Entry(b"x" * 1025, 0o755),
    "usr/lib/link": Entry(target="../bin/mcpd"),
}


def test_configuration_is_kept_and_the_rest_has_sums():
    files = control_files(TREE, FIELDS)
    assert files["DEBIAN/conffiles"].content == b"/etc/mcpd/mcpd.yaml\n"
    digest = hashlib.md5(b"x" * 1025, usedforsecurity=False).hexdigest()
    assert files["DEBIAN/md5sums"].content.decode() == f"{digest}  usr/bin/mcpd\n"
    control = files["DEBIAN/control"].content.decode()
    assert "Version: 1.0-1\n" in control
    assert "Installed-Size: 3\n" in control
    assert "@" not in control.replace("a@example.org", "")


def test_who_builds_is_asked_of_the_environment():
    assert maintainer_from({"DEBEMAIL": "a@example.org", "DEBFULLNAME": "A"}) == "A <a@example.org>"
    assert maintainer_from({}) == "mcpd <mcpd@packages.invalid>"


def test_the_changelog_is_of_the_moment():
    assert changelog("1.0-1", "A <a@example.org>", 0).splitlines()[-1] == (
        " -- A <a@example.org>  Thu, 01 Jan 1970 00:00:00 -0000"
    )


def test_what_is_staged_has_its_modes_and_moment_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        write(TREE, tmp_path / "stage", 86400)
    finally:
        os.umask(before)
    found = {path.relative_to(tmp_path / "stage").as_posix(): path.lstat() for path in (tmp_path / "stage").rglob("*")}
    assert found["usr/bin/mcpd"].st_mode & 0o777 == 0o755
    assert found["etc/mcpd/mcpd.yaml"].st_mode & 0o777 == 0o644
    assert found["etc"].st_mode & 0o777 == 0o755
    assert {status.st_mtime for status in found.values()} == {86400}


def test_the_same_gives_the_same_package(tmp_path):
    if shutil.which("dpkg-deb") is None:
        with pytest.raises(PackageError, match="dpkg-deb is missing"):
            build(TREE, "1.0-1", "amd64", 86400, tmp_path)
        return
    one, two = (build(TREE, "1.0-1", "amd64", 86400, tmp_path / name, compression=FASTEST) for name in "ab")
    assert one.name == "mcpd_1.0-1_amd64.deb"
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", [*SCRIPTS, "rtupdate"])
def test_scripts_are_right_for_a_plain_shell(name):
    script = ROOT / "package" / "files" / name
    subprocess.run(["sh", "-n", script], check=True)
    assert script.read_text().startswith("#!/bin/sh\n")
    assert "\nset -e\n" in script.read_text()
