"""What pyproject.toml says about mcpd, and which moment the package is of."""

from __future__ import annotations

import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINORS = (11, 12, 13, 14)
"""Minor versions of Python 3 that the package has libraries for: Debian 12 has 3.11, Debian 13 has 3.13, and what
comes between and after them costs a megabyte each."""


@dataclass(frozen=True, slots=True)
class Project:
    version: str
    dependencies: tuple[str, ...]
    """Requirements, in pip's words."""
    scripts: dict[str, str]
    """Program → `module:function`."""


def read_project(root: Path = ROOT) -> Project:
    """What `pyproject.toml` below `root` says."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return Project(project["version"], tuple(project["dependencies"]), project["scripts"])


def moment(root: Path = ROOT) -> int:
    """Seconds since 1970 that every file of the package is dated with: SOURCE_DATE_EPOCH, else the last commit's,
    else, outside of git, the day of the last change that was written down. The same source gives the same package.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdigit():
        return int(given)
    try:
        done = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True, timeout=60, check=True
        )
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return int((root / "CHANGELOG.md").stat().st_mtime)
