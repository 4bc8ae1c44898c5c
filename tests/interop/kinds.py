"""Which clients there are: the packages each needs, how it is started, and the version it must agree on with mcpd."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fixtures.peer import JSON, LATEST, MODERN
from tests.interop.client import Client, ProgramClient
from tests.interop.inspector import InspectorClient
from tests.interop.packages import INSPECTOR, PYTHON_SDK_1, PYTHON_SDK_2, TYPESCRIPT_SDK_1, TYPESCRIPT_SDK_2
from tests.packages import NodePackages, PythonPackages, SetupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRANSPORTS = ("http", "sse", "stdio")
PROGRAMS = Path(__file__).resolve().parent / "clients"
SHARED_MODULE = "program.mjs"


@dataclass(frozen=True, slots=True)
class Kind:
    """One client in one of its modes."""

    packages: NodePackages | PythonPackages
    program: str
    """In the folder `clients`; empty for the Inspector, which is one."""
    mode: str = "legacy"
    """How it finds out what mcpd speaks: by a handshake (`legacy`), by asking (`auto`), or not at all (a version)."""

    @property
    def transports(self) -> tuple[str, ...]:
        """HTTP+SSE ended with the handshake."""
        return tuple(each for each in TRANSPORTS if each != "sse" or self.mode in ("legacy", "auto"))

    @property
    def version(self) -> str:
        """What it must agree on with mcpd, which answers `server/discover` everywhere."""
        return LATEST if self.mode == "legacy" else MODERN

    @asynccontextmanager
    async def connect(self, target: JSON) -> AsyncIterator[Client]:
        """The client, connected. Raises: ClientFailure, SetupError."""
        if isinstance(self.packages, PythonPackages):
            argv = [str(self.packages.python), str(PROGRAMS / self.program)]
        else:
            node = shutil.which("node")
            if node is None:
                raise SetupError("node is needed (Node.js 20 or newer): install it, and run this again")
            if not self.program:
                script = self.packages.file("@modelcontextprotocol/inspector-cli/build/index.js")
                yield InspectorClient(node, script, target)
                return
            # Node looks for the modules of a module next to it.
            shutil.copy(PROGRAMS / SHARED_MODULE, self.packages.home)
            argv = [node, str(shutil.copy(PROGRAMS / self.program, self.packages.home))]
        async with ProgramClient(argv, {**target, "mode": self.mode}) as client:
            yield client


KINDS = {
    "python-1": Kind(PYTHON_SDK_1, "sdk_1.py"),
    "python-2": Kind(PYTHON_SDK_2, "sdk_2.py"),
    "python-2-auto": Kind(PYTHON_SDK_2, "sdk_2.py", "auto"),
    "python-2-modern": Kind(PYTHON_SDK_2, "sdk_2.py", MODERN),
    "typescript-1": Kind(TYPESCRIPT_SDK_1, "sdk_1.mjs"),
    "typescript-2": Kind(TYPESCRIPT_SDK_2, "sdk_2.mjs"),
    "typescript-2-auto": Kind(TYPESCRIPT_SDK_2, "sdk_2.mjs", "auto"),
    "typescript-2-modern": Kind(TYPESCRIPT_SDK_2, "sdk_2.mjs", MODERN),
    "inspector": Kind(INSPECTOR, ""),
}
