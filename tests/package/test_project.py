"""What the package is of."""

from __future__ import annotations

import os

import mcpd
from package.project import moment, read_project


def test_the_version_is_that_of_mcpd():
    assert read_project().version == mcpd.__version__


def test_the_moment_is_given_or_that_of_the_source(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert moment(tmp_path) == 86400
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "CHANGELOG.md").touch()
    os.utime(tmp_path / "CHANGELOG.md", (172800, 172800))
    assert moment(tmp_path) == 172800
