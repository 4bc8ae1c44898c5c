"""What `mcpctl status` takes with an mcpd that runs: the whole process, as somebody who types it waits for it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

from bench.process import Failure, Process
from bench.rig import Rig, say
from bench.tools import CHECKOUT, HERE

RUNS, QUICK_RUNS = 31, 11
SERVERS = 10
START_SECONDS = 30.0
RUN_SECONDS = 20.0
PROBLEM_MAX = 160


@dataclass
class Command:
    """Seconds of each run, after one that was not counted: its modules had to be read from the disk."""

    seconds: list[float] = field(default_factory=list)
    interpreter: list[float] = field(default_factory=list)
    """The same for a Python that does nothing: what no program in it can be faster than."""
    problem: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None


def measure_command(rig: Rig) -> Command:
    """Not pinned, as somebody's terminal is not; each run of mcpctl beside one of a bare interpreter."""
    say("mcpctl status")
    home = rig.folder / "command"
    home.mkdir()
    socket = home / "s"
    backend = f'{{"command": "{sys.executable}", "args": ["{HERE / "server.py"}"]}}'
    servers = ", ".join(f'"be{number}": {backend}' for number in range(SERVERS))
    (home / "mcpd.json").write_text(f'{{"listen": {{"port": 0}}, "mcpServers": {{{servers}}}}}')
    argv = [sys.executable, "-m", "mcpd", "--config", str(home / "mcpd.json"), "--state-dir", str(home / "state")]
    result = Command()
    try:
        with Process([*argv, "--control-socket", str(socket)], log=home / "log", cwd=CHECKOUT) as process:
            process.wait_until(socket.exists, START_SECONDS)
            status = [sys.executable, "-m", "mcpd.cli.main", "--socket", str(socket), "status"]
            process.wait_until(lambda: f"{SERVERS} ready" in _run(status)[1], START_SECONDS)
            for _ in range(QUICK_RUNS if rig.quick else RUNS):
                result.seconds.append(_run(status)[0])
                result.interpreter.append(_run([sys.executable, "-c", "pass"])[0])
    except (Failure, OSError, subprocess.SubprocessError) as e:
        result.problem = f"{type(e).__name__}: {e}"
        result.seconds.clear()
    return result


def command_lines(command: Command) -> list[str]:
    """For the report."""
    lines = ["", f"mcpctl status, the whole process, {len(command.seconds)} runs; milliseconds"]
    for name, seconds in (("mcpctl status", command.seconds), ("python -c pass", command.interpreter)):
        if seconds:
            lowest, middle, highest = (1000 * of(seconds) for of in (min, statistics.median, max))
            lines.append(f"  {name:<16}lowest {lowest:>7.1f}  median {middle:>7.1f}  highest {highest:>7.1f}")
    return [*lines, f"  {command.problem[:PROBLEM_MAX]}"] if command.problem else lines


def _run(argv: list[str]) -> tuple[float, str]:
    """Seconds, and what was printed. Raises: subprocess.SubprocessError."""
    began = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, timeout=RUN_SECONDS, check=True)
    return time.perf_counter() - began, done.stdout
