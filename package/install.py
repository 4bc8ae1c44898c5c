"""`make install` and `make uninstall`, for systems without dpkg: a virtual environment in PREFIX/lib/mcpd, and
what leads to it.

Rules
1. What is installed is written down, in PREFIX/lib/mcpd/installed; that is removed, and nothing else.
2. The configuration belongs to the operator: one that is there is not touched, and one that was changed stays.
3. With DESTDIR the same files are staged below it, and know nothing of it.
4. Runs on the Python that mcpd will run on, which has nothing but its standard library.
"""

from __future__ import annotations

import argparse
import compileall
import json
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from package.errors import PackageError
from package.project import ROOT, read_project
from package.start import calculator_faults, poisoned_environment
from package.tree import COMPLETIONS, Entry, Tree, launcher

if TYPE_CHECKING:
    from collections.abc import Iterator

REMEDY = "run make install again, with the Python that is here now"
CONFIGURATION = "etc/mcpd/mcpd.yaml"
PIP_LIMIT = 900.0
"""Seconds to fetch and install the libraries."""
NEXT = """Installed. To run it as a service:
    systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
    systemctl enable --now mcpd        # once /etc/mcpd/mcpd.yaml names servers
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things go, as absolute paths on the system that will run mcpd."""

    prefix: Path
    systemd: Path | None
    """The folder with `system` and `user`; None: no units."""
    destdir: Path

    @property
    def home(self) -> Path:
        return self.prefix / "lib" / "mcpd"

    def staged(self, path: Path) -> Path:
        """Where a file is while it is installed."""
        return self.destdir / path.relative_to("/")

    @property
    def record(self) -> Path:
        return self.staged(self.home / "installed")


@dataclass(slots=True)
class Record:
    """What was installed besides PREFIX/lib/mcpd: absolute paths on the system that will run mcpd."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Those that were not there before."""


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m package.install", allow_abbrev=False)
    parser.add_argument("action", choices=("install", "uninstall", "check"))
    parser.add_argument("--prefix", type=Path, default=Path("/usr/local"))
    parser.add_argument("--systemd", default="/usr/local/lib/systemd", help="empty: no units")
    parser.add_argument("--destdir", default="")
    given = parser.parse_args(arguments)
    places = Places(given.prefix, Path(given.systemd) if given.systemd else None, Path(given.destdir or "/"))
    try:
        if not given.prefix.is_absolute() or not places.destdir.is_absolute():
            raise PackageError("PREFIX and DESTDIR are absolute paths")
        if given.action == "check":
            return check(given.prefix, places.systemd)
        if given.action == "uninstall":
            uninstall(places)
        else:
            install(places)
            if not given.destdir and places.systemd is not None:
                sys.stdout.write(NEXT)
    except (PackageError, OSError) as error:
        sys.stderr.write(f"{given.action}: {error}\n")
        return 1
    return 0


def check(prefix: Path, systemd: Path | None) -> int:
    """Installs below a folder of its own, starts mcpd from there, and removes it all. Raises: PackageError, OSError."""
    with TemporaryDirectory(prefix="mcpd-install-") as folder:
        places = Places(prefix, systemd, Path(folder) / "root")
        install(places)
        mcpd = [str(places.staged(places.home / "bin" / "python3")), "-I", str(places.staged(prefix / "bin" / "mcpd"))]
        faults = calculator_faults(mcpd, poisoned_environment(Path(folder) / "run"))
        uninstall(places)
        faults += [f"{path} is left behind" for path in sorted(places.destdir.rglob("*"))]
    for fault in faults:
        sys.stderr.write(f"install: {fault}\n")
    sys.stdout.write(f"install: {len(faults)} faults\n")
    return 1 if faults else 0


def install(places: Places) -> None:
    """Over what an earlier one installed. Raises: PackageError, OSError."""
    old = read_record(places) if places.record.exists() else Record()
    if old.files:
        uninstall(places, keep_configuration=True)
    folders = new_folders(places, places.staged(places.home))
    try:
        make_environment(places.staged(places.home), places.destdir)
    except PackageError:
        shutil.rmtree(places.staged(places.home), ignore_errors=True)
        remove_empty(places, folders)
        raise
    new = place(system_tree(ROOT, places), places, owned=f"/{CONFIGURATION}" in old.files)
    write_record(places, Record(new.files, [*new.folders, *folders, *old.folders]))


def place(tree: Tree, places: Places, *, owned: bool = False) -> Record:
    """Puts files where they belong. A configuration that is there is left alone, and is only counted as installed where
    an earlier `install` put it there (`owned`).
    """
    record = Record()
    for path, entry in tree.items():
        file = places.staged(Path(path))
        if path != f"/{CONFIGURATION}" or not file.exists():
            record.folders.extend(new_folders(places, file.parent))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            file.write_bytes(entry.content)
            file.chmod(entry.mode)
        elif not owned:
            continue
        record.files.append(path)
    return record


def new_folders(places: Places, folder: Path) -> list[str]:
    """Those of a folder and what is above it that are missing, as on the system that will run mcpd."""
    missing = [one for one in [folder, *folder.parents] if not one.exists()]
    return [str("/" / one.relative_to(places.destdir)) for one in missing if one.is_relative_to(places.destdir)]


def uninstall(places: Places, *, keep_configuration: bool = False) -> None:
    """Removes what `install` wrote down. Raises: PackageError, where there is no such record; OSError."""
    record = read_record(places)
    shutil.rmtree(places.staged(places.home))
    for path in record.files:
        file = places.staged(Path(path))
        if path != f"/{CONFIGURATION}":
            file.unlink(missing_ok=True)
        elif not keep_configuration and is_changed(file):
            sys.stdout.write(f"kept, because it was changed: {file}\n")
        elif not keep_configuration:
            file.unlink(missing_ok=True)
    remove_empty(places, record.folders)


def remove_empty(places: Places, folders: list[str]) -> None:
    """Removes those that hold nothing, the deepest first."""
    for path in sorted(set(folders), key=lambda path: len(Path(path).parts), reverse=True):
        folder = places.staged(Path(path))
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def read_record(places: Places) -> Record:
    """Raises: PackageError, where there is none."""
    try:
        found = json.loads(places.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackageError(f"nothing was installed there: {places.record} is missing") from None
    return Record(found["files"], found["folders"])


def write_record(places: Places, record: Record) -> None:
    """Beside what it tells of."""
    text = json.dumps({"files": record.files, "folders": sorted(set(record.folders))}, indent=1)
    places.record.write_text(text, encoding="utf-8")


def is_changed(file: Path) -> bool:
    """Whether the configuration is not the one that was installed."""
    return file.exists() and file.read_bytes() != (ROOT / "package" / "files" / "mcpd.yaml").read_bytes()


def make_environment(home: Path, destdir: Path) -> None:
    """A virtual environment with mcpd and its libraries, and no tools. Raises: PackageError."""
    try:
        venv.create(home, clear=True, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError:
        raise PackageError("Python cannot make a virtual environment: install its venv and ensurepip modules") from None
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    with TemporaryDirectory(prefix="mcpd-source-") as source:
        # A copy: what an earlier build left beside the source would get in.
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, source)
        shutil.copytree(ROOT / "mcpd", Path(source) / "mcpd", ignore=shutil.ignore_patterns("__pycache__"))
        for argv in (["install", "--no-compile", source], ["uninstall", "--yes", "pip", "setuptools"]):
            done = subprocess.run([*pip, *argv], capture_output=True, text=True, timeout=PIP_LIMIT, check=False)
            if done.returncode:
                raise PackageError(f"pip: {done.stderr.strip()[-2000:]}")
    for tool in (home / "bin").iterdir():
        if not tool.name.startswith("python"):
            tool.unlink()
    # Byte code is named after where files will be, and mcpd's user could not write it.
    compileall.compile_dir(home, quiet=2, stripdir=str(destdir), prependdir="/")
    base = Path(getattr(sys, "_base_executable", sys.executable)).parent
    (home / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n", encoding="utf-8")


def system_tree(root: Path, places: Places) -> Tree:
    """What is outside of the environment: absolute path → entry."""
    return dict(_system_files(root, places))


def _system_files(root: Path, places: Places) -> Iterator[tuple[str, Entry]]:
    template = (root / "package" / "files" / "launcher").read_text(encoding="utf-8")
    for name, entry in read_project(root).scripts.items():
        text = launcher(template, entry, str(places.home / "bin" / "python3"), REMEDY)
        yield str(places.prefix / "bin" / name), Entry(text.encode(), 0o755)
    for page in sorted((root / "man").glob("*.[1-8]")):
        yield str(places.prefix / "share" / "man" / f"man{page.suffix[1:]}" / page.name), Entry(page.read_bytes())
    for shell, place in COMPLETIONS.items():
        # Of zsh that is Debian's own place; elsewhere it is the other one.
        file = places.prefix / "share" / place.replace("vendor-completions", "site-functions")
        yield str(file), Entry((root / "completions" / f"mcpctl.{shell}").read_bytes())
    yield str(places.prefix / "share/doc/mcpd/examples/mcpd.yaml"), Entry((root / "etc" / "mcpd.yaml").read_bytes())
    yield f"/{CONFIGURATION}", Entry((root / "package" / "files" / "mcpd.yaml").read_bytes())
    if places.systemd is None:
        return
    units = root / "systemd"
    for path in sorted([*units.glob("*.service"), *units.glob("*.socket"), *(units / "user").iterdir()]):
        folder = places.systemd / ("user" if path.parent.name == "user" else "system")
        text = path.read_text(encoding="utf-8").replace("/usr/bin/mcp", f"{places.prefix}/bin/mcp")
        yield str(folder / path.name), Entry(text.encode())
    for kind in ("sysusers", "tmpfiles"):
        yield str(places.systemd.parent / f"{kind}.d" / "mcpd.conf"), Entry((units / f"mcpd.{kind}").read_bytes())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
