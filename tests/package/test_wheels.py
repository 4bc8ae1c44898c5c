"""Which wheels are taken, that they are the ones meant, and that none is missing."""

from __future__ import annotations

import hashlib
import importlib.metadata

import pytest

from package import wheels
from package.errors import PackageError
from package.project import MINORS, read_project
from package.wheels import MACHINES, Wheel, check_closed, closure, fetch, read_lock, wheels_for
from tests.package.parts import COMPILED, make_wheel


@pytest.mark.parametrize(
    ("file", "minor", "machine", "suits"),
    [
        ("h11-0.16.0-py3-none-any.whl", 14, "aarch64", True),
        ("outcome-1.3-py2.py3-none-any.whl", 11, "x86_64", True),
        ("old-1.0-py2-none-any.whl", 11, "x86_64", False),
        ("rpds_py-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", 11, "x86_64", True),
        ("rpds_py-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", 12, "x86_64", False),
        ("rpds_py-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", 11, "aarch64", False),
    ],
)
def test_a_wheel_suits_its_python_and_machine(file, minor, machine, suits):
    assert Wheel(file).suits(minor, machine) is suits


def test_names_are_compared_as_the_index_does():
    assert (Wheel("rpds_py-1.0-py3-none-any.whl").name, Wheel("rpds_py-1.0-py3-none-any.whl").version) == (
        "rpds-py",
        "1.0",
    )


def test_an_architecture_without_wheels_is_refused():
    with pytest.raises(PackageError, match=r"no wheels for riscv64; there are some for amd64, arm64"):
        wheels_for([], "riscv64")


def test_markers_are_those_of_the_python_that_will_run_it():
    required = {
        "a": ["B_b>=1; python_version < '3.13'", "windows-only; sys_platform == 'win32'", "more; extra == 'x'"],
        "b-b": ["a"],
    }
    assert closure(["a>=1"], required, 11) == {"a", "b-b"}
    assert closure(["a>=1"], required, 13) == {"a"}


@pytest.mark.parametrize("architecture", MACHINES)
@pytest.mark.parametrize("minor", MINORS)
def test_the_lock_has_everything_that_mcpd_needs(minor, architecture):
    """By what the libraries that are installed here require; a build asks the wheels themselves."""
    required = {}
    for one in importlib.metadata.distributions():
        required[wheels.canonical(one.name)] = one.requires or []
    needed = closure(read_project().dependencies, required, minor)
    locked = {wheel.name for wheel in wheels_for(read_lock(), architecture)[minor]}
    assert needed - locked == set(), "a library is new: make deb ARGS=--lock"


def test_each_library_is_there_once_for_each_python():
    for architecture in MACHINES:
        for ones in wheels_for(read_lock(), architecture).values():
            names = [wheel.name for wheel in ones]
            assert len(names) == len(set(names))


def test_a_library_that_is_needed_and_not_locked_ends_the_build(tmp_path):
    wheel = make_wheel(tmp_path, "a", head="Requires-Dist: b; python_version < '3.13'\n")
    check_closed(["a"], {13: [wheel]}, tmp_path)
    with pytest.raises(PackageError, match=r"has no b for Python 3\.11: make deb ARGS=--lock"):
        check_closed(["a"], {13: [wheel], 11: [wheel]}, tmp_path)


def test_a_wheel_with_other_content_is_not_used(tmp_path):
    wheel = make_wheel(tmp_path, "a", COMPILED)
    digest = hashlib.sha256((tmp_path / wheel.file).read_bytes()).hexdigest()
    fetch({11: [wheel]}, {wheel: digest}, "amd64", tmp_path)
    with pytest.raises(PackageError, match=r"is not the file that wheels\.sha256 means"):
        fetch({11: [wheel]}, {wheel: "0" * 64}, "amd64", tmp_path)
    assert not (tmp_path / wheel.file).exists()
