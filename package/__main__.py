"""`python -m package`: builds the Debian package into dist/, or checks that it can be built and started."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from package.archive import build
from package.check import check
from package.copyright import copyright_file
from package.errors import PackageError
from package.project import ROOT, moment, read_project
from package.tree import DOC, Entry, Tree, whole_tree
from package.wheels import check_closed, fetch, lock, read_lock, wheels_for

CACHE = ROOT / ".cache" / "wheels"


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="make deb ARGS=...", allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR", help="default: dist")
    parser.add_argument("--revision", default="1", help="the part of the version after the dash; default: 1")
    parser.add_argument("--lock", action="store_true", help="take the newest libraries, and write down which they are")
    parser.add_argument("--check", action="store_true", help="build it aside, look at it, and start mcpd from it")
    given = parser.parse_args(arguments)
    project = read_project()
    try:
        if given.lock:
            lock(project.dependencies, CACHE)
            return 0
        if given.check and shutil.which("dpkg-deb") is None:
            sys.stdout.write("deb: not checked, because there is no dpkg-deb on this machine\n")
            return 0
        architecture = host_architecture()
        tree = content(architecture)
        version = f"{project.version}-{given.revision}"
        if given.check:
            return check(tree, version, architecture, moment())
        sys.stdout.write(f"{build(tree, version, architecture, moment(), given.output)}\n")
    except PackageError as error:
        sys.stderr.write(f"deb: {error}\n")
        return 1
    return 0


def host_architecture() -> str:
    """As dpkg calls it. Raises: PackageError."""
    try:
        done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise PackageError(f"dpkg does not tell the architecture: {error}") from None
    return done.stdout.strip()


def content(architecture: str) -> Tree:
    """Every file of the package but its changelog. Raises: PackageError."""
    project, digests = read_project(), read_lock()
    wheels = wheels_for(digests, architecture)
    fetch(wheels, digests, architecture, CACHE)
    check_closed(project.dependencies, wheels, CACHE)
    tree = whole_tree(ROOT, project, wheels, CACHE)
    bundled = {CACHE / wheel.file for ones in wheels.values() for wheel in ones}
    tree[f"{DOC}/copyright"] = Entry(copyright_file(sorted(bundled)).encode())
    return tree


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
