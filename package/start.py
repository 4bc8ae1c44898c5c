"""A start of mcpd from the unpacked package, with the libraries in it and no others."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import IO

RUN_LIMIT = 60.0
"""Seconds for one start of mcpd and what it is asked; it takes one or two."""
POISON = ("trio", "h11", "msgspec", "yaml", "mcpd")
"""Modules that a user may have as well, in another version: put in PYTHONPATH, they must not be the ones used."""
UNSUPPORTED = 78


def start_faults(root: Path, python: str, place: Path) -> list[str]:
    """In words, what is wrong with an mcpd that this Python runs from the package unpacked at `root`; `place` is a
    folder for what the run leaves.
    """
    set_python(root, python)
    environ = poisoned_environment(place)
    mcpd = [str(root / "usr/lib/mcpd/bin/python3"), "-I", str(root / "usr/bin/mcpd")]
    argv = [*mcpd, "--check", "--config", str(root / "etc/mcpd/mcpd.yaml")]
    checked = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=RUN_LIMIT, check=False)
    if checked.returncode:
        return [f"{python}: the configuration in the package: {checked.stderr.strip()}"]
    return [f"{python}: {fault}" for fault in calculator_faults(mcpd, environ)]


def calculator_faults(mcpd: list[str], environ: dict[str, str]) -> list[str]:
    """What is wrong with an mcpd that is started by these words and asked what 2 + 3 is."""
    try:
        answer = call_calculator([*mcpd, "--demo", "--transport", "stdio", "--log-level", "error"], environ)
    except ValueError as error:
        return [str(error)]
    return [] if answer == {"result": 5} else [f"2 + 3 is {answer}"]


def refusal_faults(root: Path, python: str, place: Path) -> list[str]:
    """The same of a Python that the package has no libraries for."""
    set_python(root, python)
    homes = sorted((root / "usr/lib/mcpd/lib").glob("python3.*"))
    for home in homes:
        home.rename(home.with_name("none-" + home.name))
    argv = [str(root / "usr/lib/mcpd/bin/python3"), "-I", str(root / "usr/bin/mcpd"), "--version"]
    done = subprocess.run(
        argv, env=poisoned_environment(place), capture_output=True, text=True, timeout=RUN_LIMIT, check=False
    )
    for home in homes:
        home.with_name("none-" + home.name).rename(home)
    if done.returncode != UNSUPPORTED or "no libraries for Python 3" not in done.stderr:
        return [f"{python}: without libraries: status {done.returncode}: {done.stderr.strip()}"]
    return []


def set_python(root: Path, python: str) -> None:
    """Makes this Python the /usr/bin/python3 of the unpacked package."""
    link = root / "usr/bin/python3"
    link.unlink(missing_ok=True)
    link.symlink_to(python)
    config = f"home = {Path(python).parent}\ninclude-system-site-packages = false\n"
    (root / "usr/lib/mcpd/pyvenv.cfg").write_text(config, encoding="utf-8")


def poisoned_environment(place: Path) -> dict[str, str]:
    """An environment in which other libraries are ahead of those in the package, if Python looks at it."""
    place.mkdir(exist_ok=True)
    for name in POISON:
        (place / f"{name}.py").write_text(f"raise SystemExit('{name} is not the one in the package')\n")
    return {"PATH": os.defpath, "HOME": str(place), "PYTHONPATH": str(place), "PYTHONHOME": str(place)}


def call_calculator(argv: list[str], environ: dict[str, str]) -> object:
    """What 2 + 3 is, from the demonstration server behind an mcpd on stdio. Raises: ValueError with the reason."""
    handshake = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "check", "version": "1"}}
    call = {"name": "calculator_add", "arguments": {"a": 2, "b": 3}}
    process = subprocess.Popen(  # noqa: TID251 - nothing that mcpd supervises: it is mcpd
        argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch = threading.Timer(RUN_LIMIT, process.kill)
    watch.start()
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ask(process.stdin, process.stdout, 1, "initialize", handshake)
            process.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
            result = ask(process.stdin, process.stdout, 2, "tools/call", call)
            process.stdin.close()
            if process.wait(RUN_LIMIT):
                raise ValueError(f"mcpd ended with status {process.returncode}: {process.stderr.read().strip()}")
        except (OSError, EOFError):
            raise ValueError(f"mcpd ended early: {process.stderr.read().strip()[-2000:]}") from None
        finally:
            watch.cancel()
            process.kill()
    return result.get("structuredContent", result)


def ask(requests: IO[str], answers: IO[str], number: int, method: str, params: object) -> dict[str, object]:
    """A request and the result of its answer, or the error. Raises: EOFError, where mcpd ends instead."""
    requests.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n")
    requests.flush()
    for line in answers:
        answer = json.loads(line)
        if answer.get("id") == number and "method" not in answer:
            return dict(answer.get("result", answer))
    raise EOFError
