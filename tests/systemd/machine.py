"""What this machine must have to boot boxes, and a way into their network."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.packages import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux", "dpkg-deb": "dpkg"}
"""Program → Debian package."""
INSTALL_LIMIT = 600.0
"""Seconds for apt-get; it downloads a few MB."""
MIRROR_LIMIT = 30.0
"""Seconds for a mirror to answer."""
CLONE_NEWNET = 0x40000000


class NotHere(SetupError):
    """What this machine cannot do, as opposed to what went wrong."""


def obstacle() -> str | None:
    """Why no box can be booted here, in words; None when one can."""
    if os.geteuid() != 0:
        return "only root can boot a box"
    if shutil.which("apt-get") is None:
        return "there is no apt-get, which the boxes are made with"
    if mirror() is None:
        return "the sources of apt name no mirror of Debian"
    if cgroup2() is None:
        return "no cgroup2 file system is mounted writable, which a systemd of its own needs"
    return None


def install_tools() -> None:
    """Install what is missing. Raises: SetupError."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if not missing:
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=INSTALL_LIMIT)
        # An update may fail for one of many sources; what counts is the installation.
        if done.returncode and "install" in argv:
            require_mirror()
            raise SetupError(f"{' '.join(argv)} failed: {done.stderr[-2000:]}")


def mirror() -> str | None:
    """Where this machine has its Debian from."""
    argv = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE) $(SUITE)", "Created-By: Packages"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    sites = [words[1] for words in map(str.split, done.stdout.splitlines()) if words[:1] == ["Debian"]]
    # Security updates come from a mirror of their own, which has no whole release.
    return next((site for site in sites if "security" not in site), None)


def require_mirror() -> str:
    """The mirror, which answers. Raises: NotHere."""
    site = mirror()
    if site is None:
        raise NotHere("the sources of apt name no mirror of Debian")
    try:
        with urllib.request.urlopen(f"{site}/dists/stable/InRelease", timeout=MIRROR_LIMIT) as answer:
            answer.read(1)
    except OSError as error:
        raise NotHere(f"the mirror of Debian cannot be reached: {error}") from None
    return site


def cgroup2() -> Path | None:
    """Where the unified hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2" and os.access(fields[4], os.W_OK):
            return Path(fields[4])
    return None


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Sockets that this thread opens inside the block are in the network of that process. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(fd: int) -> None:
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(theirs)
        finally:
            os.close(theirs)
        try:
            yield
        finally:
            enter(own)
    finally:
        os.close(own)
