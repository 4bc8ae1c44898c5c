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


class InspectorClient(Client):
    """`script` is the program behind `mcp-inspector --cli`; `target` as for the other clients."""

    def __init__(self, node: str, script: str, target: JSON) -> None:
        super().__init__()
        self._node = node
        self._script = script
        self._target = target

    async def request(self, method: str, params: JSON | None = None) -> JSON:
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
        argv = self._mcpd(method, params)
        command, own = argv[0], ["--", *argv[1:]]
        if self._target["transport"] != "stdio":
            command, own = self._target["url"], []
        options = ["--transport", self._target["transport"], "--method", method]
        names = OPTIONS[method]
        for option, name in zip(names[::2], names[1::2], strict=True):
            options += values(option, params.get(name))
        return [command, *options, *own]

    def _mcpd(self, method: str, params: JSON) -> list[str]:
        """The mcpd that a request on stdio needs: to start ten servers for a call of one would take too long."""
        server = params.get("name", "").partition("_")[0]
        return self._target["alone"].get(server, self._target["command"])


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
