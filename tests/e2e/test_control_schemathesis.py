"""What the OpenAPI document says holds for a daemon, whatever is asked: schemathesis makes requests from it, right ones
and wrong ones, the same in every run, and looks at the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio

from mcpd.control.operations import TABLE
from tests.control.bridge import bridged
from tests.e2e.backends import mini
from tests.e2e.background import ENVIRONMENT
from tests.e2e.test_control import controlled

EXAMPLES = 15
"""Of each operation, besides those that cover its parameters one by one."""

LIMIT = 180.0
"""Seconds; it takes a tenth of that."""

LEFT_OUT = sorted({row.id for row in TABLE if row.stream and not row.answer} | {"upgrade"})
"""What has no end, and what ends the program that is asked."""

ACCEPTED = ["2xx", "404", "409", "412", "422", "502", "503", "504"]
"""What may come of a request that is as described: it is carried out, or cannot be as things are."""

SETTINGS = f"""
[checks.positive_data_acceptance]
expected-statuses = {json.dumps(ACCEPTED)}

[parameters]
"query.follow" = "0"
"""


async def schemathesis(url: str, config: Path, *options: str):
    program = Path(sys.executable).with_name("schemathesis")
    return await trio.run_process(
        [
            *(str(program), "--config-file", str(config), "run", f"{url}/v1/openapi.json", "--url", url, "--no-color"),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--generation-deterministic"),
            *("--phases", "examples,coverage,fuzzing", "--request-timeout", "30"),
            *(part for id in LEFT_OUT for part in ("--exclude-operation-id", id)),
            *options,
        ],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=ENVIRONMENT,
        cwd=config.parent,
    )


@pytest.mark.slow
@pytest.mark.parametrize("parameters", ["", '"path.name" = "a"\n'], ids=["of any name", "of a server that is there"])
async def test_answers_are_what_they_are_said_to_be(tmp_path, parameters):
    config = tmp_path / "schemathesis.toml"
    config.write_text(SETTINGS + parameters)
    # It finds no program that it might be told to start.
    async with controlled({"mcpServers": {"a": mini()}}, env={"PATH": str(tmp_path)}) as (daemon, path):
        async with bridged(path) as url:
            with trio.fail_after(LIMIT):
                done = await schemathesis(url, config)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        # It does not ask for the document once more.
        assert f"Tested: {len(TABLE) - len(LEFT_OUT) - 1}\n" in done.stdout.decode()
        assert "Traceback" not in daemon.stderr
