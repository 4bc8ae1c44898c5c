"""The Inspector's command line as a client: one process, and one session, for every request."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import trio

from tests.fixtures.peer import JSON, ROOT
from tests.interop.client import CONNECT_LIMIT, WAIT_LIMIT, Client, ClientFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = {
    "tools/list": (),
    "tools/call": ("--tool-name", "name", "--tool-arg", "arguments"),
    "resources/list": (),
    "resources/read": ("--uri", "uri"),
    "resources/templates/list": (),
    "prompts/list": (),
    "prompts/get": ("--prompt-name", "name", "--prompt-args", "arguments"),
    "logging/setLevel": ("--log-level", "level"),
}
"""Method → pairs of option and the parameter it takes. The Inspector knows no other methods."""


ATTEMPTS = 3
"""On stdio. Every request there is the first one of a new mcpd, which may answer before the server that it is
for is ready; such a request was executed by nobody."""
UNKNOWN = ("Unknown tool", "Unknown prompt", "Resource not found")
NEVER = ("no_such_tool", "demo://no/such")
"""What the checks ask for knowing that it does not exist."""


class InspectorClient(Client):
    """`script` is the program behind `mcp-inspector --cli`; `target` as for the other clients."""

    def __init__(self, node: str, script: str, target: JSON) -> None:
        super().__init__()
        self._node = node
        self._script = script
        self._target = target

    async def request(self, method: str, params: JSON | None = None) -> JSON:
        if self._target["transport"] != "stdio":
            return await self._request(method, params)
        for attempt in range(ATTEMPTS - 1):
            try:
                return await self._request(method, params)
            except ClientFailure as failure:
                said = str(failure)
                if not any(words in said for words in UNKNOWN) or any(name in said for name in NEVER):
                    raise
                self.remarks.append(f"{method}, attempt {attempt + 1}: {failure}")
        return await self._request(method, params)

    async def _request(self, method: str, params: JSON | None = None) -> JSON:
        argv = [self._node, self._script, *self._arguments(method, params or {})]
        environment = {**os.environ, **self._target["env"], "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        with trio.move_on_after(CONNECT_LIMIT + WAIT_LIMIT):
            done = await trio.run_process(
                argv,
                check=False,
                capture_stdout=True,
                capture_stderr=True,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=environment,
            )
            return result_of(method, done)
        raise ClientFailure(f"{method}: no answer in {CONNECT_LIMIT + WAIT_LIMIT:g} s")

    def _arguments(self, method: str, params: JSON) -> list[str]:
        """Its command line: target first, or an option with several values takes it as one more of them."""
        # Without the two dashes mcpd's own --transport is taken for the Inspector's.
        command, own = self._target["command"][0], ["--", *self._target["command"][1:]]
        if self._target["transport"] != "stdio":
            command, own = self._target["url"], []
        options = ["--transport", self._target["transport"], "--method", method]
        names = OPTIONS[method]
        for option, name in zip(names[::2], names[1::2], strict=True):
            options += values(option, params.get(name))
        return [command, *options, *own]


def values(option: str, value: Any) -> Sequence[str]:
    """A text as it is, an object as `key=value` pairs; without any the option is left out."""
    if isinstance(value, dict):
        pairs = [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in value.items()]
        return [option, *pairs] if pairs else []
    return [option, str(value)]


def result_of(method: str, done: subprocess.CompletedProcess[bytes]) -> JSON:
    """The result it printed. Raises: ClientFailure."""
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())[-600:]
        raise ClientFailure(f"{method}: status {done.returncode}: {reason}")
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise ClientFailure(f"{method}: no JSON but {done.stdout[:200]!r}") from None
    assert isinstance(result, dict)
    return result
