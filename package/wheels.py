"""The libraries that come along, as wheels: which, from where, and that they are the ones meant.

Theory of operation. `wheels.sha256` names every wheel for every Python and architecture, in the form of sha256sum(1).
A build takes exactly those: what is not in the cache is fetched by pip, whose index is whatever this machine has
configured, and compared. `lock` writes the file anew from the dependencies in pyproject.toml.

Rules
1. A wheel is unpacked, never installed: no code of it runs while the package is built.
2. Every dependency of every library is in, as each Python's markers say, or the build ends: pip resolves markers for
   the Python that runs it, which is not the one that will run mcpd.
3. One version of each library for all Pythons: what is not compiled is shared by them.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from package.errors import PackageError
from package.project import MINORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from email.message import Message

LOCK = Path(__file__).with_name("wheels.sha256")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's name of an architecture → the one in wheels. The libraries offer wheels for these two."""
GLIBC = ("manylinux_2_17", "manylinux2014", "manylinux_2_28")
"""Debian 12 has glibc 2.36; no library asks for more than these."""
FETCH_LIMIT = 600.0
"""Seconds for one run of pip: it fetches a few megabytes."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's file name, taken apart (PEP 427)."""

    file: str

    @property
    def name(self) -> str:
        return canonical(self.file.split("-")[0])

    @property
    def version(self) -> str:
        return self.file.split("-")[1]

    @property
    def is_pure(self) -> bool:
        return self.file.endswith("-none-any.whl")

    def suits(self, minor: int, machine: str) -> bool:
        """Whether Python 3.`minor` on a machine, in the words of wheels, can use it."""
        python, _, platforms = self.file.removesuffix(".whl").split("-")[2:]
        if self.is_pure:
            return "py3" in python.split(".")
        return python == f"cp3{minor}" and any(platform.endswith("_" + machine) for platform in platforms.split("."))


def canonical(name: str) -> str:
    """A distribution's name as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path = LOCK) -> dict[Wheel, str]:
    """Wheel → SHA-256, in hexadecimal."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", ""))
    return {Wheel(file): digest for digest, file in lines}


def wheels_for(lock: Iterable[Wheel], architecture: str) -> dict[int, list[Wheel]]:
    """Minor version → its wheels, by name. Raises: PackageError for an architecture that has none."""
    machine = MACHINES.get(architecture)
    if machine is None:
        raise PackageError(f"the libraries have no wheels for {architecture}; there are some for {', '.join(MACHINES)}")
    lock = sorted(lock, key=lambda wheel: wheel.name)
    return {minor: [wheel for wheel in lock if wheel.suits(minor, machine)] for minor in MINORS}


def fetch(wheels: Mapping[int, list[Wheel]], lock: Mapping[Wheel, str], architecture: str, cache: Path) -> None:
    """Makes every wheel be in the cache, with the content that the lock says. Raises: PackageError."""
    cache.mkdir(parents=True, exist_ok=True)
    for minor, ones in wheels.items():
        missing = [wheel for wheel in ones if not (cache / wheel.file).exists()]
        if missing:
            pip_download(minor, architecture, cache, ["--no-deps", *(f"{one.name}=={one.version}" for one in missing)])
        for wheel in ones:
            path = cache / wheel.file
            if not path.exists():
                raise PackageError(f"the package index has no {wheel.file} (any more): make deb ARGS=--lock")
            if hashlib.sha256(path.read_bytes()).hexdigest() != lock[wheel]:
                path.unlink()
                raise PackageError(f"{wheel.file} is not the file that {LOCK.name} means; it was removed, try again")


def pip_download(minor: int, architecture: str, into: Path, arguments: list[str]) -> None:
    """Fetches wheels for another Python than the one running this. Raises: PackageError."""
    platforms = [f"--platform={glibc}_{MACHINES[architecture]}" for glibc in GLIBC]
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", f"--dest={into}"]
    argv += ["--only-binary=:all:", "--implementation=cp", f"--python-version=3.{minor}", f"--abi=cp3{minor}"]
    done = subprocess.run(
        [*argv, *platforms, *arguments], capture_output=True, text=True, timeout=FETCH_LIMIT, check=False
    )
    if done.returncode:
        raise PackageError(f"pip cannot fetch the libraries for Python 3.{minor}: {done.stderr.strip()[-2000:]}")


def metadata(path: Path) -> Message[str, str]:
    """The METADATA of a wheel."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        return HeaderParser().parsestr(archive.read(name).decode())


def closure(dependencies: Iterable[str], required: Mapping[str, list[str]], minor: int) -> set[str]:
    """Names of all libraries that these dependencies need on Python 3.`minor`, told what each one `required`.

    Raises: KeyError with the name of a library that is needed and not in `required`.
    """
    # What a marker may ask for and Linux does not change; `extra` is empty because nobody asks for one of an extra.
    environment = {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "extra": "",
    }
    found: set[str] = set()
    left = [Requirement(text) for text in dependencies]
    while left:
        requirement = left.pop()
        name = canonical(requirement.name)
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate(environment)):
            continue
        found.add(name)
        left += map(Requirement, required[name])
    return found


def requirements_of(wheels: Iterable[Wheel], cache: Path) -> dict[str, list[str]]:
    """Library → what it requires, in pip's words."""
    return {wheel.name: metadata(cache / wheel.file).get_all("Requires-Dist") or [] for wheel in wheels}


def check_closed(dependencies: Iterable[str], wheels: Mapping[int, list[Wheel]], cache: Path) -> None:
    """Raises: PackageError, when the lock lacks a library that some Python needs."""
    for minor, ones in wheels.items():
        try:
            closure(dependencies, requirements_of(ones, cache), minor)
        except KeyError as error:
            raise PackageError(
                f"{LOCK.name} has no {error.args[0]} for Python 3.{minor}: make deb ARGS=--lock"
            ) from None


def lock(dependencies: tuple[str, ...], cache: Path, path: Path = LOCK) -> None:
    """Writes the lock anew: the newest libraries that the dependencies allow. Raises: PackageError."""
    digests: dict[str, str] = {}
    for architecture in MACHINES:
        for minor in MINORS:
            into = cache / f"{architecture}-3.{minor}"
            into.mkdir(parents=True, exist_ok=True)
            for old in into.glob("*.whl"):
                old.unlink()
            wanted = list(dependencies)
            while True:
                pip_download(minor, architecture, into, wanted)
                ones = [Wheel(file.name) for file in into.glob("*.whl")]
                try:
                    closure(dependencies, requirements_of(ones, into), minor)
                    break
                except KeyError as error:  # for this Python, but not for the one that runs pip
                    wanted.append(error.args[0])
            for wheel in ones:
                content = (into / wheel.file).read_bytes()
                digests[wheel.file] = hashlib.sha256(content).hexdigest()
                (cache / wheel.file).write_bytes(content)
    versions: dict[str, str] = {}
    for wheel in map(Wheel, digests):
        if versions.setdefault(wheel.name, wheel.version) != wheel.version:
            raise PackageError(f"no version of {wheel.name} suits every Python: bound it in pyproject.toml")
    head = "# Wheels in the Debian package, for each Python and architecture. Written by: make deb ARGS=--lock\n"
    lines = (f"{digests[file]}  {file}\n" for file in sorted(digests, key=str.lower))
    path.write_text(head + "".join(lines), encoding="utf-8")
