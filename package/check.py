"""Whether the package is what it should be: the same each time, the files that are meant and no others, and an mcpd
that starts from it. `make deb ARGS=--check`; what needs a system of its own is in tests/systemd.
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from package.archive import FASTEST, build
from package.contents import content_faults
from package.project import MINORS, ROOT
from package.start import refusal_faults, start_faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from package.tree import Tree

DEBIAN_PYTHON = "/usr/bin/python3"
UNPACK_LIMIT = 60.0
LINT_LIMIT = 300.0
"""Seconds for lintian, which looks at each file; five are usual."""


def check(tree: Tree, version: str, architecture: str, moment: int) -> int:
    """Exit status: 0, or 1 with each fault on stderr. Raises: PackageError."""
    with TemporaryDirectory(prefix="mcpd-deb-check-") as folder:
        place = Path(folder)
        one, two = (
            build(tree, version, architecture, moment, place / name, compression=FASTEST) for name in ("one", "two")
        )
        faults = [] if one.read_bytes() == two.read_bytes() else ["two builds of it differ"]
        faults += [*content_faults(one), *lint_faults(one)]
        root = place / "root"
        subprocess.run(["dpkg-deb", "--extract", str(one), str(root)], timeout=UNPACK_LIMIT, check=True)
        pythons = interpreters()
        for minor, python in pythons.items():
            faults += start_faults(root, python, place / f"run-3.{minor}")
        for python in list(pythons.values())[:1]:
            faults += refusal_faults(root, python, place / "refused")
    for fault in faults:
        sys.stderr.write(f"deb: {fault}\n")
    ran = ", ".join(f"3.{minor}" for minor in pythons) or "no Python"
    sys.stdout.write(f"deb: {len(tree)} files, {len(faults)} faults, started with {ran}\n")
    if shutil.which("lintian") is None:
        sys.stdout.write("deb: lintian is not on this machine, so it was not asked\n")
    missing = [f"3.{minor}" for minor in MINORS if minor not in pythons]
    if missing:
        sys.stdout.write(f"deb: not on this machine, so not started with: Python {', '.join(missing)}\n")
    return 1 if faults else 0


def lint_faults(package: Path) -> list[str]:
    """What lintian(1) complains of, where it is: errors and warnings that are not among our overrides."""
    if shutil.which("lintian") is None:
        return []
    argv = ["lintian", "--allow-root", "--fail-on=error,warning", str(package)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LINT_LIMIT, check=False)
    return [f"lintian: {line}" for line in (done.stdout + done.stderr).splitlines()] if done.returncode else []


def interpreters() -> dict[int, str]:
    """Minor version → interpreter: Debian's own, and for other versions what the test suites run on."""
    suites = runpy.run_path(str(ROOT / ".ci" / "suites.py"))
    version_of: Callable[[str], tuple[int, int] | None] = suites["version_of"]
    others: Callable[[], dict[int, str]] = suites["interpreters"]
    found = {sys.version_info.minor: sys.executable, **others()}
    version = version_of(DEBIAN_PYTHON)
    if version is not None:
        found[version[1]] = DEBIAN_PYTHON
    # A virtual environment cannot be the Python that another one is made of.
    return {minor: str(Path(path).resolve()) for minor, path in sorted(found.items()) if minor in MINORS}
