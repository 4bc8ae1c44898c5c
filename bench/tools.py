"""What the benchmark needs and a fresh machine lacks: two compiled programs, an environment for each peer.

Everything goes to `.cache/bench` in the checkout and is used again by the next run. Compiled with `cc`; where
there is none, with the C compiler that the `ziglang` package brings.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.process import Failure

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
CACHE = CHECKOUT / ".cache" / "bench"
FLAGS = ["-O2", "-std=gnu11", "-Wall"]
ZIG = "ziglang>=0.13,<0.17"
INSTALL_SECONDS = 900.0  # FastMCP brings eighty packages
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

    The environment is made without pip and filled by the pip that runs the benchmark: Debian keeps
    `ensurepip` in a package of its own. An environment whose stamp names other requirements is made anew.
    """
    home = CACHE / f"venv-{name}"
    python, stamp = home / "bin" / "python", home / "installed"
    wanted = "\n".join((sys.version, *requirements))
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"  installing {', '.join(requirements)} …", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=False, symlinks=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        str(python),
        "install",
        "-q",
    ]
    run([*pip, *requirements], INSTALL_SECONDS)
    stamp.write_text(wanted)
    return python


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
