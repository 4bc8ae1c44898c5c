"""Run the test suite on every Python from 3.11 to 3.14 that this machine has, and end with one line of totals.

The Python of `.venv` comes first. For each other version a virtual environment `.venv-3.X` is made beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINORS = (11, 12, 13, 14)
SUMMARY = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


def version_of(python: str) -> tuple[int, int] | None:
    """The version of an interpreter, or None when it does not run (a shim without its Python, say)."""
    try:
        done = subprocess.run(
            [python, "-c", "import sys, venv; print(*sys.version_info[:2])"], capture_output=True, text=True, timeout=60
        )
        major, minor = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return major, minor


def interpreters() -> dict[int, str]:
    """Minor version → interpreter, for those that are not the one running this."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found: dict[int, str] = {}
    for minor in MINORS:
        if minor == sys.version_info.minor:
            continue
        candidates = [shutil.which(f"python3.{minor}"), *sorted(map(str, pyenv.glob(f"3.{minor}.*/bin/python")))]
        for candidate in candidates:
            if candidate is not None and version_of(candidate) == (3, minor):
                found[minor] = candidate
                break
    return found


def prepare(minor: int, python: str) -> str:
    """The interpreter of a virtual environment with mcpd and its test tools in it."""
    venv = ROOT / f".venv-3.{minor}"
    inside = str(venv / "bin" / "python")
    ready = venv / ".ready"
    if not ready.exists() or ready.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        subprocess.run([python, "-m", "venv", str(venv)], check=True)
        subprocess.run(
            [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]"],
            check=True,
            cwd=ROOT,
        )
        ready.touch()
    return inside


def run(python: str, totals: dict[str, int]) -> int:
    """Run the suite, show its output as it comes, and add its summary to the totals."""
    process = subprocess.Popen(  # noqa: TID251 - the suites are not servers
        [python, "-m", "pytest", *sys.argv[1:]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        last = line if SUMMARY.search(line) else last
    for count, what in SUMMARY.findall(last):
        totals["failed" if what.startswith("error") else what] += int(count)
    return process.wait()


def main() -> int:
    """All suites; non-zero when one failed."""
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    status = 0
    suites = {sys.version_info.minor: sys.executable}
    suites.update({minor: prepare(minor, python) for minor, python in interpreters().items()})
    for minor, python in sorted(suites.items()):
        sys.stdout.write(f"\n=== Python 3.{minor}\n")
        sys.stdout.flush()
        status = run(python, totals) or status
    missing = [f"3.{minor}" for minor in MINORS if minor not in suites]
    if missing:
        sys.stdout.write(f"\nnot on this machine, so not run: Python {', '.join(missing)}\n")
    sys.stdout.write(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
