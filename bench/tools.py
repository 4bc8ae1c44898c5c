"""What the benchmark needs and a fresh machine lacks: two compiled programs, an environment for each peer.

Everything goes to `.cache/bench` in the checkout and is used again by the next run. Compiled with `cc`; where
there is none, with the C compiler that the `ziglang` package brings.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from bench.process import Failure
from tests.packages import PythonPackages, SetupError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
CACHE = CHECKOUT / ".cache" / "bench"
FLAGS = ["-O2", "-std=gnu11", "-Wall"]
ZIG = "ziglang>=0.13,<0.17"
COMPILE_SECONDS = 180.0  # the first run of zig builds its C library stubs
OUTPUT_TAIL = 400


def run(argv: list[str], seconds: float) -> None:
    """Runs a command to its end.

    Raises: Failure with the end of its output.
    """
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Failure(f"{argv[0]}: {e}") from e
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())[-OUTPUT_TAIL:]
        raise Failure(f"{' '.join(argv[:4])} …: status {done.returncode}: {output}")


def install(name: str, *requirements: str) -> Path:
    """A virtual environment of its own with these requirements; its Python.

    Raises: Failure when they cannot be installed.
    """
    packages = PythonPackages(CACHE / f"venv-{name}", requirements)
    try:
        packages.install()
    except SetupError as e:
        raise Failure(str(e)) from e
    return packages.python


def compiler() -> list[str]:
    """The command that compiles C here."""
    found = shutil.which("cc")
    return [found] if found else [str(install("zig", ZIG)), "-m", "ziglang", "cc"]


def build(name: str) -> Path:
    """Compiles `<name>.c` unless this very text is compiled already; the program, called `bench-<name>`."""
    texts = [HERE / f"{name}.c", HERE / "wire.h"]
    key = hashlib.sha256(b"".join(t.read_bytes() for t in texts)).hexdigest()[:16]
    program = CACHE / key / f"bench-{name}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(".partial")
        run([*compiler(), *FLAGS, "-o", str(partial), str(texts[0])], COMPILE_SECONDS)
        partial.rename(program)
    return program
