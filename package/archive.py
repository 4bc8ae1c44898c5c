"""From a tree to a .deb: staged in a folder, with the control files, and handed to dpkg-deb.

dpkg-deb and no debhelper: nothing is compiled here, what debhelper would add is a dozen lines below, and its snippets
for services enable and start, which is not wanted (see files/postinst).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from package.errors import PackageError
from package.tree import DOC, Entry, Tree, compressed

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = Path(__file__).with_name("files")
SCRIPTS = ("postinst", "prerm", "postrm")
BUILD_LIMIT = 300.0
"""Seconds for dpkg-deb: it compresses some twenty megabytes."""
SMALLEST = ("-Zxz",)
FASTEST = ("-Zgzip", "-z1")
"""For a package that is looked at and thrown away."""
MAINTAINER = "mcpd <mcpd@packages.invalid>"
"""Where DEBFULLNAME and DEBEMAIL do not say who builds: nobody who could be written to."""


def build(
    tree: Tree,
    version: str,
    architecture: str,
    moment: int,
    into: Path,
    *,
    compression: tuple[str, ...] = SMALLEST,
) -> Path:
    """Makes the package; the same arguments give the same bytes. Raises: PackageError."""
    if shutil.which("dpkg-deb") is None:
        raise PackageError("dpkg-deb is missing: a .deb is built on Debian or one of its relatives")
    maintainer = maintainer_from(os.environ)
    tree = {**tree, f"{DOC}/changelog.Debian.gz": Entry(compressed(changelog(version, maintainer, moment).encode()))}
    into.mkdir(parents=True, exist_ok=True)
    result = into / f"mcpd_{version}_{architecture}.deb"
    with TemporaryDirectory(prefix="mcpd-deb-") as folder:
        stage = Path(folder) / "stage"
        fields = {"@VERSION@": version, "@ARCHITECTURE@": architecture, "@MAINTAINER@": maintainer}
        write({**tree, **control_files(tree, fields)}, stage, moment)
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(moment)}
        argv = ["dpkg-deb", "--root-owner-group", *compression, "--build", str(stage), str(result)]
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=BUILD_LIMIT, check=False)
    if done.returncode:
        raise PackageError(f"dpkg-deb: {done.stderr.strip()}")
    return result


def maintainer_from(environ: Mapping[str, str]) -> str:
    """Who builds the package, as Debian's tools ask for it."""
    if "DEBEMAIL" in environ:
        return f"{environ.get('DEBFULLNAME', 'mcpd')} <{environ['DEBEMAIL']}>"
    return MAINTAINER


def control_files(tree: Tree, fields: Mapping[str, str]) -> Tree:
    """What dpkg itself reads (deb-control(5), deb-conffiles(5), deb-md5sums(5))."""
    control = (FILES / "control").read_text(encoding="utf-8")
    # Debian policy 5.6.20: kibibytes, each file rounded up.
    size = sum(-(-len(entry.content) // 1024) for entry in tree.values())
    for word, text in {**fields, "@SIZE@": str(size)}.items():
        control = control.replace(word, text)
    sums = (
        f"{hashlib.md5(entry.content, usedforsecurity=False).hexdigest()}  {path}\n"
        for path, entry in sorted(tree.items())
        if not entry.target and not path.startswith("etc/")
    )
    conffiles = (f"/{path}\n" for path in sorted(tree) if path.startswith("etc/"))
    return {
        "DEBIAN/control": Entry(control.encode()),
        "DEBIAN/md5sums": Entry("".join(sums).encode()),
        "DEBIAN/conffiles": Entry("".join(conffiles).encode()),
        **{f"DEBIAN/{name}": Entry((FILES / name).read_bytes(), 0o755) for name in SCRIPTS},
    }


def changelog(version: str, maintainer: str, moment: int) -> str:
    """One entry in Debian's form; what changed is told in CHANGELOG.md."""
    return (
        f"mcpd ({version}) unstable; urgency=medium\n\n  * What changed is in /{DOC}/changelog.gz.\n\n"
        f" -- {maintainer}  {formatdate(moment)}\n"
    )


def write(tree: Tree, stage: Path, moment: int) -> None:
    """The tree as files, all of the same moment and with their own modes, whatever the umask is."""
    for path, entry in tree.items():
        file = stage / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if entry.target:
            file.symlink_to(entry.target)
        else:
            file.write_bytes(entry.content)
            file.chmod(entry.mode)
    for file in [stage, *stage.rglob("*")]:
        if file.is_dir() and not file.is_symlink():
            file.chmod(0o755)
        os.utime(file, (moment, moment), follow_symlinks=False)
