"""Run the test suite on every Python from 3.11 to 3.14 that this machine has, and end with one line of totals.

The Python of `.venv` is one of them. For each other version a virtual environment `.venv-3.X` is made beside it.

Rules
1. Every test runs, on the oldest Python and on the newest: what a version took away or does another way shows there.
2. Those between leave out what starts whole daemons: what differs in the language and its library shows in-process.
3. What other people's programs and documents say of mcpd is no matter of its Python, and is asked on the oldest alone.
4. With arguments (`make test ARGS=tests`, or a folder of them) every Python runs what they say.
5. Two suites run at once, each in processes of its own: half of a test's time is waiting for others. The bounds in
   tests are set by what they exclude, so a busy machine breaks none. The output of each stays together.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
MINORS = (11, 12, 13, 14)
OTHERS = ("tests/compatibility", "tests/interop")
"""A run of every cell of docs/compatibility.md, and the official SDK as a client."""
DAEMONS = ("tests/e2e", "tests/fixtures")
"""Tests of mcpd, and of the servers behind it, as processes that talk to each other."""
AT_ONCE = min(2, len(os.sched_getaffinity(0)))
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


def left_out(minor: int, minors: list[int]) -> list[str]:
    """The arguments that leave out what is not run on that version, beside those others."""
    if minor == minors[0] or sys.argv[1:]:
        return []
    folders = OTHERS if minor == minors[-1] else (*OTHERS, *DAEMONS)
    return [f"--ignore={folder}" for folder in folders]


def run(python: str, arguments: list[str], lines: SimpleQueue[str | None]) -> int:
    """Run the suite, hand on its output as it comes, None being its end, and return its exit status."""
    try:
        process = subprocess.Popen(  # noqa: TID251 - the suites are not servers
            [python, "-m", "pytest", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        return process.wait()
    finally:
        lines.put(None)


def show(lines: SimpleQueue[str | None], totals: dict[str, int]) -> None:
    """Show the output of one suite to its end, and add its summary to the totals."""
    last = ""
    for line in iter(lines.get, None):
        sys.stdout.write(line)
        sys.stdout.flush()
        last = line if SUMMARY.search(line) else last
    if not last:
        totals["failed"] += 1  # it was killed, or did not come to its tests
    for count, what in SUMMARY.findall(last):
        totals["failed" if what.startswith("error") else what] += int(count)


def main() -> int:
    """All suites; non-zero when one failed."""
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    others = interpreters()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        prepared = pool.map(prepare, others, others.values())
        suites = {sys.version_info.minor: sys.executable, **dict(zip(others, prepared, strict=True))}
        minors = sorted(suites)
        # The two that take longest come first.
        order = [*minors[:1], *minors[:0:-1]]
        running = []
        for minor in order:
            arguments, lines = left_out(minor, minors), SimpleQueue[str | None]()
            done = pool.submit(run, suites[minor], [*arguments, *sys.argv[1:]], lines)
            running.append((minor, arguments, lines, done))
        for minor, arguments, lines, _ in running:
            without = f", without {' '.join(each.partition('=')[2] for each in arguments)}" if arguments else ""
            sys.stdout.write(f"\n=== Python 3.{minor}{without}\n")
            sys.stdout.flush()
            show(lines, totals)
    missing = [f"3.{minor}" for minor in MINORS if minor not in suites]
    if missing:
        sys.stdout.write(f"\nnot on this machine, so not run: Python {', '.join(missing)}\n")
    sys.stdout.write(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped\n")
    return 1 if any(done.result() for *_, done in running) else 0


if __name__ == "__main__":
    sys.exit(main())
