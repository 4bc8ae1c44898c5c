"""File trees of Debian releases, made once and kept: what boxes are booted from. No box changes them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

from tests.fixtures.peer import ROOT
from tests.packages import SetupError
from tests.systemd.machine import require_mirror

if TYPE_CHECKING:
    from pathlib import Path

CACHE = ROOT / ".cache" / "systemd"
RELEASES = {"12": "bookworm", "13": "trixie"}
"""The versions of Debian that mcpd is for: systemd 252 and 257."""
PACKAGES = ("systemd", "systemd-sysv", "python3", "procps", "dbus", "libpam-systemd")
"""On top of what is essential, and apt. As little as a server has: what is missing must not be needed."""
MASKED = ("systemd-modules-load.service", "apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer")
"""The first fails in a box, and the others may start in the middle of a test."""
FORM = 1
"""To be raised when what is done to a tree changes."""
MAKE_LIMIT = 900.0
"""Seconds for one tree; half a minute is usual."""


def image(version: str) -> Path:
    """The tree of a release, made if it is not there. Blocks. Raises: SetupError."""
    release = RELEASES[version]
    key = hashlib.sha256(repr((release, PACKAGES, MASKED, FORM)).encode()).hexdigest()[:12]
    home = CACHE / f"{release}-{key}"
    if home.is_dir():
        return home
    CACHE.mkdir(parents=True, exist_ok=True)
    # Made aside: a tree is there whole or not at all.
    fresh = CACHE / f"{release}-{uuid.uuid4().hex}.new"
    try:
        _make(release, fresh)
        for old in CACHE.glob(f"{release}-????????????"):
            shutil.rmtree(old)
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return home


def _make(release: str, home: Path) -> None:
    site = require_mirror()
    argv = ["mmdebstrap", "--variant=minbase", "--quiet", f"--include={','.join(PACKAGES)}", release, str(home), site]
    # Debian's tools, and not what comes before them in a developer's PATH.
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=MAKE_LIMIT)
    if done.returncode:
        raise SetupError(f"mmdebstrap cannot make {release} from {site}: {done.stderr[-2000:]}")
    # An id of its own: without one systemd takes this for the first boot of a machine, and enables units.
    (home / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    resolv = home / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.write_text("")
    for unit in MASKED:
        (home / "etc/systemd/system" / unit).symlink_to("/dev/null")
