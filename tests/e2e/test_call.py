"""`mcpctl call`, `read` and `prompt`: an operator is a client, with the daemon and its servers as processes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import closing

import trio

from tests.e2e.backends import mini
from tests.e2e.background import ENVIRONMENT
from tests.e2e.test_control import LIMIT, controlled, mcpctl


def demo(name, **more):
    return {"command": sys.executable, "args": ["-m", f"mcpd.demo.{name}"], "env": ENVIRONMENT, **more}


async def test_a_tool_is_called_with_what_its_schema_makes_of_words():
    async with controlled({"mcpServers": {"c": demo("calculator")}}) as (_, path):
        done = await mcpctl(path, "call", "c_add", "a=2", "b=3.5")
        assert (done.returncode, done.stdout, done.stderr) == (0, b'{"result": 5.5}\n', b"")
        done = await mcpctl(path, "call", "c_add", "--arguments", '{"a": 1, "b": 2}', "--json")
        assert json.loads(done.stdout)["structuredContent"] == {"result": 3}
        done = await mcpctl(path, "call", "c_add", "--json", '{"a": 1, "b": 2}')
        assert json.loads(done.stdout)["structuredContent"] == {"result": 3}
        done = await mcpctl(path, "call", "c_add", ' {"a": 1, "b": 3}')
        assert done.stdout == b'{"result": 4}\n'
        done = await mcpctl(path, "call", "c_divide", "a=1", "b=0")
        assert (done.returncode, b"divide by zero" in done.stdout) == (4, True)
        for words, status, why in (
            (["c_add", "a=x"], 2, b"a is a number, not 'x'"),
            (["add"], 1, b"did you mean c_add?"),
            (["c_add", "--arguments", "["], 2, b"the arguments are no JSON"),
            (["c_add", "--arguments", "[]"], 2, b"all arguments together are a JSON object"),
            (["c_add", "a=1", "--arguments", "{}"], 2, b"beside it there are none"),
            (["c_add", '{"a": 1}', "b=1"], 2, b"beside it there are none"),
            (["c_add", '{"a": 1'], 2, b"the arguments are no JSON"),
        ):
            done = await mcpctl(path, "call", *words)
            assert (done.returncode, why in done.stderr) == (status, True), done.stderr


async def test_resources_are_read_and_prompts_filled_in(tmp_path):
    async with controlled({"mcpServers": {"n": demo("notes")}}) as (_, path):
        done = await mcpctl(path, "read", "notes://welcome")
        assert (done.returncode, b"notebook" in done.stdout) == (0, True)
        file = tmp_path / "out"
        done = await mcpctl(path, "read", "notes://welcome", "--output", str(file))
        assert done.stdout.decode() == f"{file.stat().st_size} bytes written\n"
        assert "notebook" in file.read_text()
        done = await mcpctl(path, "read", "notes://welcome", "--output", str(tmp_path / "no" / "out"))
        assert (done.returncode, b"cannot write" in done.stderr) == (1, True)
        done = await mcpctl(path, "read", "notes://none", "--json")
        assert (done.returncode, json.loads(done.stdout)["message"]) == (1, "there is no such resource")
        done = await mcpctl(path, "prompt", "n_summarize_note", "note=welcome")
        assert (done.returncode, done.stdout.decode().splitlines()[0]) == (0, "user:")
        done = await mcpctl(path, "prompt", "n_summarize_note", "note")
        assert (done.returncode, b"'note' is not NAME=VALUE" in done.stderr) == (2, True)


async def test_a_server_that_ends_is_said_with_its_reason():
    async with controlled({"mcpServers": {"a": mini(restart={"policy": "never"})}}) as (_, path):
        done = await mcpctl(path, "call", "a_exit", "--arguments", '{"code": 3}', "--json")
        assert done.returncode == 1
        about = json.loads(done.stdout)
        assert about["data"]["backend"] == "a"
        assert about["code"] == about["data"]["kind"]


async def in_terminal(path, *arguments, answers=()):
    """What a terminal shows of it, and its exit status. An answer is typed when a question stands there."""

    def run():
        main, other = pty.openpty()
        with closing(os.fdopen(main, "r+b", buffering=0)) as terminal:
            argv = [sys.executable, "-m", "mcpd.cli.main", "--socket", str(path), *arguments]
            process = subprocess.Popen(argv, stdin=other, stdout=other, stderr=other, env=ENVIRONMENT)  # noqa: TID251
            os.close(other)
            shown, left = b"", list(answers)
            try:
                while data := terminal.read(4096):
                    shown += data
                    if left and shown.endswith(b": "):
                        terminal.write(left.pop(0).encode() + b"\n")
            except OSError:
                pass  # how a terminal says that nobody is there any more
            return shown.decode(), process.wait(LIMIT)

    with trio.fail_after(LIMIT):
        return await trio.to_thread.run_sync(run, abandon_on_cancel=True)


async def test_what_a_tool_asks_is_asked_at_the_terminal_and_progress_shown():
    async with controlled({"mcpServers": {"c": demo("clock")}}) as (_, path):
        remind = ("call", "c_remind", "seconds=0", "text=tea")
        shown, status = await in_terminal(path, *remind, answers=["perhaps", "y", ""])
        assert status == 0
        assert "Reminder: tea" in shown
        assert "this is true or false, not 'perhaps'" in shown
        assert "The user has done it: tea" in shown
        shown, status = await in_terminal(path, *remind, answers=["!"])
        assert (status, "dismissed" in shown) == (0, True)
        shown, status = await in_terminal(path, "call", "c_countdown", "seconds=0.2", "steps=2")
        assert (status, "1/2 (50%)" in shown, "seconds are over" in shown) == (0, True, True)
        done = await mcpctl(path, *remind)
        assert (done.returncode, done.stdout.strip() != b"") == (4, True), "nobody is asked where there is no terminal"


async def test_the_keyboard_cancels_the_call():
    async with controlled({"mcpServers": {"c": demo("clock")}}) as (_, path):
        # Whoever started this may ignore the signal, as a shell does for what it puts into the background.
        argv = ["env", "--default-signal=INT", sys.executable, "-m", "mcpd.cli.main", "--socket", str(path)]
        argv += ["call", "c_countdown", "seconds=600"]

        def start():
            return subprocess.Popen(argv, env=ENVIRONMENT, stderr=subprocess.DEVNULL)  # noqa: TID251

        child = start()

        async def in_flight():
            return json.loads((await mcpctl(path, "status", "--json")).stdout)["calls_in_flight"]

        with trio.fail_after(LIMIT):
            while not await in_flight():
                await trio.lowlevel.checkpoint()
            child.send_signal(signal.SIGINT)
            assert await trio.to_thread.run_sync(child.wait) == 130
            while await in_flight():
                await trio.lowlevel.checkpoint()
