"""Runs of the load generator, with the gateway's CPU time counted for exactly the measured calls."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.process import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.peers import Running

PATIENCE = 30.0  # seconds without any answer until the generator gives up
MEASURE_SECONDS = 120.0  # the longest that a run may take on top of that
SESSIONS_SECONDS = 240.0  # ten thousand sessions through the slowest peer that has to open so many
STOP_SECONDS = 10.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Payload:
    """What a call carries: bytes of argument, or (with `result`) bytes asked back."""

    name: str
    tool: str
    size: int
    result: bool = False

    def options(self) -> list[str]:
        return ["--result-bytes" if self.result else "--argument-bytes", str(self.size)]


SMALL = Payload("small", "echo", 32)
RESULT = Payload("1 MiB result", "blob", MIB, result=True)
ARGUMENT = Payload("1 MiB argument", "echo", MIB)


class Generator:
    """The compiled load generator on its CPU."""

    def __init__(self, program: Path, cpu: int) -> None:
        self.program, self.cpu = program, cpu

    @contextlib.contextmanager
    def _run(self, running: Running, options: list[str]) -> Iterator[subprocess.Popen[str]]:
        argv = [str(self.program), "--cpu", str(self.cpu), "--patience", str(PATIENCE), *options, running.url]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as popen:
            try:
                yield popen
            finally:
                if popen.poll() is None:
                    popen.kill()

    @staticmethod
    def _wait_line(popen: subprocess.Popen[str], seconds: float) -> str:
        assert popen.stdout is not None
        if not select.select([popen.stdout], [], [], seconds)[0]:
            raise Failure(f"the load generator said nothing for {seconds:.0f} s")
        return popen.stdout.readline()

    @staticmethod
    def _result(line: str) -> dict[str, Any]:
        try:
            result: dict[str, Any] = json.loads(line)
        except ValueError as e:
            raise Failure("the load generator gave no figures") from e
        return result

    def measure(
        self,
        running: Running,
        payload: Payload,
        tool: str,
        clients: int,
        seconds: float,
        warmup: float,
        more: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Calls in a closed loop. The generator's figures and the gateway's `cpu_us` a call and `pss_kib`."""
        options = ["--gate", "--connections", str(clients), "--tool", tool, *payload.options()]
        options += ["--seconds", str(seconds), "--warmup", str(warmup), *more]
        process = running.process
        with self._run(running, options) as popen:
            line = self._wait_line(popen, MEASURE_SECONDS)
            if line.strip() != "READY":
                return self._result(line)
            before = process.cpu_ns()
            assert popen.stdin is not None
            popen.stdin.write("\n")
            popen.stdin.flush()
            result = self._result(self._wait_line(popen, MEASURE_SECONDS))
            after = process.cpu_ns()
        if result["calls"]:
            result["cpu_us"] = (after - before) / 1000 / result["calls"]
            result["pss_kib"] = process.memory_kib()
        return result

    @contextlib.contextmanager
    def holding(self, running: Running, kind: str, tool: str, sessions: int) -> Iterator[None]:
        """Keeps this many sessions of a kind open, each having made a call.

        Raises: Failure when not all of them could be opened.
        """
        options = ["--hold", kind, "--sessions", str(sessions), "--connections", "8", "--tool", tool]
        with self._run(running, options) as popen:
            line = self._wait_line(popen, SESSIONS_SECONDS)
            if line.strip() != "READY":
                raise Failure(line.strip() or "the load generator ended")
            yield
            try:
                result = self._result(popen.communicate(timeout=STOP_SECONDS)[0])
            except subprocess.TimeoutExpired as e:
                raise Failure("the load generator did not end") from e
        if result["errors"]:
            raise Failure(f"{result['errors']} errors: {result['first_error']}")

    def churn(self, running: Running, tool: str, sessions: int) -> dict[str, Any]:
        """Opens sessions, makes a call in each, and ends each by DELETE."""
        options = ["--churn", "--sessions", str(sessions), "--connections", "8", "--tool", tool]
        with self._run(running, options) as popen:
            return self._result(self._wait_line(popen, SESSIONS_SECONDS))
