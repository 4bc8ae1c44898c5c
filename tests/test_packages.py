"""What is installed already is found again, and what is not, or is another version, is not taken for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.packages import STAMP, NodePackages, PythonPackages, SetupError, install_all, run

if TYPE_CHECKING:
    from pathlib import Path

LOCK = {"packages": {"node_modules/node": {"version": "22.4.1"}, "node_modules/@a/b": {"version": "2.0.0-rc.1"}}}


@pytest.mark.parametrize(
    ("packages", "there"),
    [
        (("node@22",), True),
        (("node@22", "@a/b@2.0.0-rc.1"), True),
        (("node@2",), False),
        (("node@22", "@a/b@2.0.0"), False),
        (("@a/c@1",), False),
    ],
)
def test_npm_packages_are_known_by_what_npm_wrote_down(tmp_path: Path, packages, there) -> None:
    home = tmp_path / "set"
    assert not NodePackages(home, packages).is_installed
    (home / "node_modules").mkdir(parents=True)
    assert not NodePackages(home, packages).is_installed  # npm was interrupted.
    (home / "node_modules" / ".package-lock.json").write_text(json.dumps(LOCK))
    assert NodePackages(home, packages).is_installed is there


def test_python_packages_are_known_by_their_stamp_and_need_their_interpreter(tmp_path: Path) -> None:
    packages = PythonPackages(tmp_path, ("a==1", "b<2"))
    assert not packages.is_installed
    (tmp_path / STAMP).write_text(json.dumps(["a==1", "b<2"]))
    assert not packages.is_installed
    packages.python.parent.mkdir()
    packages.python.touch()
    assert packages.is_installed
    assert not PythonPackages(tmp_path, ("a==1",)).is_installed


def test_what_an_installer_says_last_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"status 3: no such package"):
        run(["sh", "-c", "echo no such package >&2; exit 3"], tmp_path)
    with pytest.raises(SetupError, match="/no/such/installer"):
        run(["/no/such/installer"], tmp_path)


async def test_all_that_goes_wrong_is_said_and_the_rest_is_installed() -> None:
    installed = []

    class Set:
        is_installed = False

        def __init__(self, name: str, problem: str = "") -> None:
            self.name, self.problem = name, problem

        def install(self) -> None:
            if self.problem:
                raise SetupError(self.problem)
            installed.append(self.name)

    with pytest.raises(SetupError, match=r"no npm; no pip|no pip; no npm"):
        await install_all([Set("a"), Set("b", "no npm"), Set("c", "no pip"), Set("d")])
    assert sorted(installed) == ["a", "d"]
