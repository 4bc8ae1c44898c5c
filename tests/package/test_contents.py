"""A file that is missing, one too many, or one with another mode or owner is seen."""

from __future__ import annotations

import pytest

from package.contents import COMPILED, FILES, LINKS, PROGRAMS, SHARED, faults_in
from package.project import MINORS

MODULES = {"mcpd/__init__.py"}


def line(path, mode="-rw-r--r--", owner="root/root"):
    return f"{mode} {owner}         7 2026-01-01 00:00 ./{path}"


def listing():
    found = ["drwxr-xr-x root/root         0 2026-01-01 00:00 ./"]
    found += [line(path.replace("*", "a.yaml")) for path in FILES.split()]
    found += [line(path, "-rwxr-xr-x") for path in PROGRAMS]
    found += [f"{line(path, 'lrwxrwxrwx')} -> {target}" for path, target in LINKS.items()]
    found += [line(f"usr/lib/mcpd/lib/shared/{top}/__init__.py") for top in SHARED.split()]
    found += [
        line(f"usr/lib/mcpd/lib/python3.{minor}/site-packages/{top}") for minor in MINORS for top in COMPILED.split()
    ]
    return found


def test_what_is_meant_is_right():
    assert faults_in(listing(), MODULES) == []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (line("usr/bin/other", "-rwxr-xr-x"), "/: usr/bin/other is there and should not be"),
        (line("usr/lib/mcpd/lib/shared/left/__init__.py"), "shared: left is there and should not be"),
        (line("usr/lib/mcpd/lib/shared/mcpd/left.py"), "mcpd: mcpd/left.py is there and should not be"),
        (line("usr/lib/mcpd/lib/python3.9/site-packages/a"), "usr/lib/mcpd/lib: python3.9/site-packages is there"),
        (line("etc/mcpd/mcpd.yaml", "-rw-rw-rw-"), "etc/mcpd/mcpd.yaml has the mode -rw-rw-rw-"),
        (line("etc/mcpd/mcpd.yaml", owner="me/me"), "etc/mcpd/mcpd.yaml belongs to me/me"),
        (line("etc/mcpd/mcpd.yaml", "lrwxrwxrwx") + " -> /tmp/a", "etc/mcpd/mcpd.yaml is a link to /tmp/a"),
        ("what is this", "not understood: what is this"),
    ],
)
def test_what_is_too_much_is_said(more, fault):
    assert [found for found in faults_in([*listing(), more], MODULES) if found.startswith(fault)]


def test_what_is_missing_is_said():
    for index, left_out in enumerate(listing()[1:], start=1):
        lines = listing()
        del lines[index]
        assert len(faults_in(lines, MODULES)) >= 1, left_out
    assert faults_in(listing(), {*MODULES, "mcpd/new.py"}) == ["mcpd: mcpd/new.py is missing"]
