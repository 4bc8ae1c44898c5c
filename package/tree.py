"""Every file of the package, in memory: path from the root of a system → entry.

Layout. /usr/lib/mcpd is a virtual environment of the system's own /usr/bin/python3 (PEP 405), without that Python's
other packages, and with a folder of compiled libraries for each version that may be it. What is not compiled is there
once: `shared.pth` in each folder leads to it. Therefore the same package works before and after a system's upgrade to
another Python, nothing that a user or operator installs elsewhere gets in, and `sys.executable` inside of mcpd is a
Python that has mcpd.
"""

from __future__ import annotations

import gzip
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from package.project import MINORS, Project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from package.wheels import Wheel

HOME = "usr/lib/mcpd"
SHARED = f"{HOME}/lib/shared"
DOC = "usr/share/doc/mcpd"
UNNEEDED = re.compile(r"(^|/)(_?tests?|benchmarks|_tools)/|\.dist-info/(?!METADATA$)")
"""Of a wheel: its own tests, and of what is said about it all but what `importlib.metadata` looks for. Its list of
files is no longer true, and its licences are in the copyright file."""
UNITS = {
    "systemd/*.service": "usr/lib/systemd/system",
    "systemd/*.socket": "usr/lib/systemd/system",
    "systemd/user/*": "usr/lib/systemd/user",
}
COMPLETIONS = {
    "bash": "bash-completion/completions/mcpctl",
    "zsh": "zsh/vendor-completions/_mcpctl",
    "fish": "fish/vendor_completions.d/mcpctl.fish",
}
"""Where shells of Debian look for the completion of commands, below /usr/share."""
REMEDY = "install the package of mcpd that was made for this release"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a link where `target` is given."""

    content: bytes = b""
    mode: int = 0o644
    target: str = ""


Tree = dict[str, Entry]


def whole_tree(root: Path, project: Project, wheels: Mapping[int, list[Wheel]], cache: Path) -> Tree:
    """Everything but what tells the package's own version: changelog and copyright."""
    return {
        **programs(root, project),
        **environment(root),
        **libraries(wheels, cache),
        **system_files(root),
        **manual_pages(root),
        **completions(root),
        **documentation(root),
    }


def programs(root: Path, project: Project) -> Tree:
    """What is started: a small script for each program."""
    template = (root / "package" / "files" / "launcher").read_text(encoding="utf-8")
    return {
        f"usr/bin/{name}": Entry(launcher(template, entry, f"/{HOME}/bin/python3").encode(), 0o755)
        for name, entry in project.scripts.items()
    }


def launcher(template: str, entry: str, python: str, remedy: str = REMEDY) -> str:
    """The script that starts `module:function`."""
    module, _, function = entry.partition(":")
    for word, text in {"PYTHON": python, "MODULE": module, "FUNCTION": function, "REMEDY": remedy}.items():
        template = template.replace(f"@{word}@", text)
    return template


def environment(root: Path) -> Tree:
    """The virtual environment with mcpd in it, without libraries."""
    tree = {
        f"{HOME}/pyvenv.cfg": Entry(b"home = /usr/bin\ninclude-system-site-packages = false\n"),
        f"{HOME}/bin/python3": Entry(target="../../../bin/python3"),
    }
    for minor in MINORS:
        tree[f"{HOME}/lib/python3.{minor}/site-packages/shared.pth"] = Entry(b"../../shared\n")
    for path in sorted((root / "mcpd").rglob("*")):
        if path.is_file() and path.suffix in (".py", ".json", ".typed"):
            tree[f"{SHARED}/{path.relative_to(root).as_posix()}"] = Entry(path.read_bytes())
    return tree


def libraries(wheels: Mapping[int, list[Wheel]], cache: Path) -> Tree:
    """What is in the wheels, where its Python finds it."""
    tree: Tree = {}
    for minor, ones in wheels.items():
        for wheel in ones:
            home = SHARED if wheel.is_pure else f"{HOME}/lib/python3.{minor}/site-packages"
            with zipfile.ZipFile(cache / wheel.file) as archive:
                for name in archive.namelist():
                    if not name.endswith("/") and not UNNEEDED.search(name):
                        tree[f"{home}/{name}"] = Entry(archive.read(name))
    return tree


def system_files(root: Path) -> Tree:
    """What systemd and Debian read."""
    tree = {}
    for pattern, folder in UNITS.items():
        for path in sorted(root.glob(pattern)):
            tree[f"{folder}/{path.name}"] = Entry(path.read_bytes())
    files = root / "package" / "files"
    tree["usr/lib/sysusers.d/mcpd.conf"] = Entry((root / "systemd" / "mcpd.sysusers").read_bytes())
    tree["usr/lib/tmpfiles.d/mcpd.conf"] = Entry((root / "systemd" / "mcpd.tmpfiles").read_bytes())
    tree["etc/mcpd/mcpd.yaml"] = Entry((files / "mcpd.yaml").read_bytes())
    tree["usr/share/python3/runtime.d/mcpd.rtupdate"] = Entry((files / "rtupdate").read_bytes(), 0o755)
    tree["usr/share/lintian/overrides/mcpd"] = Entry((files / "lintian-overrides").read_bytes())
    return tree


def manual_pages(root: Path) -> Tree:
    """man/NAME.SECTION, as man(1) looks for them."""
    return {
        f"usr/share/man/man{path.suffix[1:]}/{path.name}.gz": Entry(compressed(path.read_bytes()))
        for path in sorted((root / "man").glob("*.[1-8]"))
    }


def completions(root: Path) -> Tree:
    """completions/mcpctl.SHELL, where that shell looks for it."""
    return {
        f"usr/share/{place}": Entry((root / "completions" / f"mcpctl.{shell}").read_bytes())
        for shell, place in COMPLETIONS.items()
    }


def documentation(root: Path) -> Tree:
    """What people read besides."""
    tree = {
        f"{DOC}/README.md": Entry((root / "README.md").read_bytes()),
        f"{DOC}/ARCHITECTURE.md.gz": Entry(compressed((root / "ARCHITECTURE.md").read_bytes())),
        f"{DOC}/docs/compatibility.md.gz": Entry(compressed((root / "docs" / "compatibility.md").read_bytes())),
        f"{DOC}/changelog.gz": Entry(compressed((root / "CHANGELOG.md").read_bytes())),
        f"{DOC}/examples/mcpd.yaml": Entry((root / "etc" / "mcpd.yaml").read_bytes()),
    }
    for path in sorted(path for path in (root / "examples").rglob("*") if path.is_file()):
        tree[f"{DOC}/examples/{path.relative_to(root / 'examples')}"] = Entry(path.read_bytes())
    return tree


def compressed(content: bytes) -> bytes:
    """gzip without name and time, so that the same content gives the same bytes."""
    return gzip.compress(content, 9, mtime=0)
