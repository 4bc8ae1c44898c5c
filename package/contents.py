"""What is meant to be in the package, written down apart from what puts it there: so that a file that is forgotten, one
too many, or one with another mode is seen.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from package.errors import PackageError
from package.project import MINORS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("usr/bin/mcpctl", "usr/bin/mcpd", "usr/share/python3/runtime.d/mcpd.rtupdate")
LINKS = {"usr/lib/mcpd/bin/python3": "../../../bin/python3"}
FILES = """
etc/mcpd/mcpd.yaml
usr/lib/mcpd/pyvenv.cfg
usr/lib/systemd/system/mcpd-control.socket
usr/lib/systemd/system/mcpd.service
usr/lib/systemd/system/mcpd.socket
usr/lib/systemd/user/mcpd-control.socket
usr/lib/systemd/user/mcpd.service
usr/lib/systemd/user/mcpd.socket
usr/lib/sysusers.d/mcpd.conf
usr/lib/tmpfiles.d/mcpd.conf
usr/share/bash-completion/completions/mcpctl
usr/share/doc/mcpd/ARCHITECTURE.md.gz
usr/share/doc/mcpd/README.md
usr/share/doc/mcpd/changelog.Debian.gz
usr/share/doc/mcpd/changelog.gz
usr/share/doc/mcpd/copyright
usr/share/doc/mcpd/docs/compatibility.md.gz
usr/share/doc/mcpd/examples/*
usr/share/fish/vendor_completions.d/mcpctl.fish
usr/share/lintian/overrides/mcpd
usr/share/man/man1/mcpctl.1.gz
usr/share/man/man5/mcpd.yaml.5.gz
usr/share/man/man7/mcpd-control.7.gz
usr/share/man/man8/mcpd.8.gz
usr/share/zsh/vendor-completions/_mcpctl
"""
SHARED = """attr attrs h11 idna jsonschema jsonschema_specifications mcpd outcome prometheus_client referencing sniffio
sortedcontainers trio trio_websocket typing_extensions.py wsproto"""
COMPILED = "_yaml msgspec rpds yaml shared.pth"

LISTED = re.compile(r"(?P<mode>\S+) (?P<owner>\S+) +\d+ \S+ \S+ \./(?P<path>.*?)/?(?: -> (?P<target>.*))?")
LIBRARY = re.compile(r"usr/lib/mcpd/lib/(?P<home>shared|python3\.\d+/site-packages)/(?P<top>[^/]+)(?P<rest>/.*)?")
MODES = {"d": "drwxr-xr-x", "l": "lrwxrwxrwx"}
LIST_LIMIT = 60.0


def content_faults(package: Path) -> list[str]:
    """In words, what is in the .deb and should not be, is not and should be, or has the wrong mode or owner."""
    argv = ["dpkg-deb", "--contents", str(package)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIST_LIMIT, check=False)
    if done.returncode:
        raise PackageError(f"dpkg-deb cannot read {package}: {done.stderr.strip()}")
    return faults_in(done.stdout.splitlines(), own_modules(ROOT))


def own_modules(root: Path) -> set[str] | None:
    """The files of mcpd, from the folder `mcpd` on, as git knows them; None where this is no checkout."""
    argv = ["git", "ls-files", "mcpd"]
    try:
        done = subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=LIST_LIMIT, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())


def faults_in(listing: list[str], modules: set[str] | None) -> list[str]:
    """The same, of a listing in the form of tar(1)."""
    faults = []
    found: set[str] = set()
    for line in listing:
        entry = LISTED.fullmatch(line)
        if entry is None:
            faults.append(f"not understood: {line}")
            continue
        path, mode = entry["path"], entry["mode"]
        if entry["owner"] != "root/root":
            faults.append(f"{path} belongs to {entry['owner']}")
        if mode != MODES.get(mode[0], "-rwxr-xr-x" if path in PROGRAMS else "-rw-r--r--"):
            faults.append(f"{path} has the mode {mode}")
        if entry["target"] != LINKS.get(path):
            faults.append(f"{path} is a link to {entry['target']}")
        if mode[0] != "d":
            found.add(path)
    return [*faults, *library_faults(found, modules), *system_faults(found)]


def library_faults(found: set[str], modules: set[str] | None) -> list[str]:
    """Of what is below /usr/lib/mcpd/lib."""
    homes: dict[str, set[str]] = {}
    mine = set()
    for match in filter(None, map(LIBRARY.fullmatch, found)):
        if not match["top"].endswith(".dist-info"):
            homes.setdefault(match["home"], set()).add(match["top"])
        if match["top"] == "mcpd":
            mine.add(f"mcpd{match['rest']}")
    meant = {"shared": set(SHARED.split())}
    meant |= {f"python3.{minor}/site-packages": set(COMPILED.split()) for minor in MINORS}
    faults = compared("usr/lib/mcpd/lib", set(homes), set(meant))
    for home, tops in meant.items():
        faults += compared(home, homes.get(home, set()), tops)
    return faults + (compared("mcpd", mine, modules) if modules is not None else [])


def system_faults(found: set[str]) -> list[str]:
    """Of everything else."""
    examples = "usr/share/doc/mcpd/examples/"
    outside = {examples + "*" if path.startswith(examples) else path for path in found if not LIBRARY.fullmatch(path)}
    return compared("/", outside, {*FILES.split(), *PROGRAMS, *LINKS})


def compared(where: str, found: set[str], meant: set[str]) -> list[str]:
    """What is too much and what is missing."""
    return [f"{where}: {name} is there and should not be" for name in sorted(found - meant)] + [
        f"{where}: {name} is missing" for name in sorted(meant - found)
    ]
