"""Wheels to build with."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from package.wheels import Wheel

if TYPE_CHECKING:
    from pathlib import Path

PURE = "py3-none-any"
COMPILED = "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"


def make_wheel(folder: Path, name: str, tags: str = PURE, head: str = "", files: dict[str, str] | None = None) -> Wheel:
    """A wheel of version 1.0 with `files`; in their names, `@` stands for the folder of metadata."""
    wheel = Wheel(f"{name}-1.0-{tags}.whl")
    with zipfile.ZipFile(folder / wheel.file, "w") as archive:
        for path, text in {"@/METADATA": f"Name: {name}\nVersion: 1.0\n{head}", **(files or {})}.items():
            archive.writestr(path.replace("@", f"{name}-1.0.dist-info"), text)
    return wheel
