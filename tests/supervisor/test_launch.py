from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from mcpd.supervisor import reaper, trampoline
from mcpd.supervisor.cgroup import Leaf
from mcpd.supervisor.exits import SpawnFailed
from mcpd.supervisor.launch import STEPS, launch, make_pipes, name_failure, settle
from tests.supervisor.processes import wait_until
from tests.supervisor.trampolines import ignored_here

PLAIN = {"cwd": None, "confinement": {}, "marker": "MCPD_OWNER"}
ENV = {"MCPD_OWNER": "a-marker", "PATH": os.environ["PATH"]}


@pytest.fixture
def leaf(tmp_path):
    """What the trampoline writes to need not be a cgroup's."""
    (tmp_path / "cgroup.procs").touch()
    return Leaf(tmp_path)


async def run(*argv, leaf=None, confinement=None, env=ENV, cwd=None):
    """Start it by way of the trampoline; what it says and how it ends.

    Raises: SpawnFailed.
    """
    before = sorted(os.listdir("/proc/self/fd"))
    try:
        with ExitStack() as ours:
            with ExitStack() as theirs, reaper.starting():
                fds, (_, stdout, _) = make_pipes(ours, theirs)
                launched = await launch(
                    argv, env=env, cwd=cwd, fds=fds, leaf=leaf, confinement=confinement or {}, marker="MCPD_OWNER"
                )
                reaper.own(launched.process.pid)
            pidfd, info = await settle(launched)
            ours.callback(os.close, pidfd)
            assert info.pid == launched.process.pid == info.sid == info.pgid
            said = b""
            while True:
                await trio.lowlevel.wait_readable(stdout)
                more = os.read(stdout, 65536)
                if not more:
                    break
                said += more
            status = await launched.process.wait()
            reaper.disown(launched.process.pid)
            return said.decode(), status
    except (OSError, ValueError, IndexError) as error:
        raise name_failure(error, argv, env=env, cwd=cwd) from error
    finally:
        assert sorted(os.listdir("/proc/self/fd")) == before


SHOW = """
import os, signal, sys
print(os.getcwd(), sys.argv[1:], sorted(os.environ.items()), sorted(os.listdir("/proc/self/fd")))
print([line for line in open("/proc/self/status") if line.startswith("SigIgn")][0].split()[1])
"""


async def test_the_trampoline_becomes_the_command_and_leaves_no_trace(leaf, tmp_path):
    await trio.to_thread.run_sync(lambda: None)  # Trio's own descriptors are open now
    env = {**ENV, "ODD": "\udcff=\n", "EMPTY": ""}
    words = ["a b", "\udcfe", ""]
    said, status = await run(sys.executable, "-ISsc", SHOW, *words, leaf=leaf, env=env, cwd=str(tmp_path))
    first, ignored, _ = said.split("\n")
    expected = sorted({**env, "LC_CTYPE": "C.UTF-8"}.items()) if "LC_CTYPE" in first else sorted(env.items())
    assert first == f"{tmp_path} {words} {expected} ['0', '1', '2', '3']"
    # Python itself ignores these two, for itself; what it was given is what a program that does not set them has.
    assert int(ignored, 16) == ignored_here() | 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert status == 0
    assert (tmp_path / "cgroup.procs").read_text() == "0"
    said, _ = await run("sh", "-c", "grep SigIgn /proc/self/status", leaf=leaf)
    assert int(said.split()[1], 16) == ignored_here()


async def test_its_command_line_shows_neither_arguments_nor_environment(leaf, tmp_path):
    os.unlink(tmp_path / "cgroup.procs")
    os.mkfifo(tmp_path / "cgroup.procs")  # holds the trampoline at its first step
    with ExitStack() as ours:
        with ExitStack() as theirs, reaper.starting():
            fds, _ = make_pipes(ours, theirs)
            env = {**ENV, "TOKEN": "hidden-one"}
            launched = await launch(("true", "hidden-two"), env=env, fds=fds, leaf=leaf, **PLAIN)
            reaper.own(launched.process.pid)
        folder = Path(f"/proc/{launched.process.pid}")
        # The parent goes on when the child lets go of its memory, which is before the new words are in their place.
        await wait_until(lambda: bool((folder / "cmdline").read_bytes()))
        seen = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        assert b"trampoline.py" in seen
        assert b"MCPD_OWNER=a-marker" in seen
        assert b"hidden" not in seen
        reader = await trio.to_thread.run_sync(os.open, leaf.procs, os.O_RDONLY)
        ours.callback(os.close, reader)
        pidfd, _ = await settle(launched)
        ours.callback(os.close, pidfd)
        assert await launched.process.wait() == 0
        reaper.disown(launched.process.pid)


@pytest.mark.parametrize("way", ["trampoline", "direct"])
@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (("mcpd-no-such-command",), None, "command 'mcpd-no-such-command' not found in PATH "),
        (("/mcpd/no/such",), None, "command '/mcpd/no/such' does not exist"),
        (("{tmp}/plain",), None, "plain' may not be executed"),
        (("plain",), None, "'plain' may not be executed"),
        (("{tmp}/script",), None, "the interpreter in its first line is not"),
        (("{tmp}/text",), None, "not a program this machine can run"),
        (("true",), "/mcpd/no/such", "working directory '/mcpd/no/such' does not exist"),
        (("true", "x" * (1 << 20)), None, "are too large"),
        (("true", "a\0b"), None, "NUL"),
        ((), None, "no command is configured"),
    ],
)
async def test_what_cannot_be_started_is_explained_in_the_same_words(leaf, tmp_path, way, argv, cwd, words):
    await trio.to_thread.run_sync(lambda: None)
    for name, text in (("script", "#!/mcpd/no/such/interpreter\n"), ("text", "just words")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "plain").write_text("no mode bits")
    argv = tuple(word.replace("{tmp}", str(tmp_path)) for word in argv)
    env = {**ENV, "PATH": f"/mcpd/no/such:{tmp_path}:{ENV['PATH']}"}
    with pytest.raises(SpawnFailed) as caught:
        await run(*argv, leaf=leaf if way == "trampoline" else None, env=env, cwd=cwd)
    assert words in str(caught.value)
    assert caught.value.needs_operator


async def test_variables_with_impossible_names(leaf):
    await trio.to_thread.run_sync(lambda: None)
    for env in ({**ENV, "A=B": ""}, {**ENV, "A": "\0"}):
        with pytest.raises(SpawnFailed, match="cannot be used"):
            await run("true", leaf=leaf, env=env)


async def test_a_step_before_the_command_is_named(leaf, tmp_path):
    await trio.to_thread.run_sync(lambda: None)
    (tmp_path / "cgroup.procs").unlink()
    with pytest.raises(SpawnFailed, match="'true' could not be started: it cannot enter its cgroup: No such file"):
        await run("true", leaf=leaf)


async def test_a_trampoline_that_is_killed_shows_as_the_end_of_the_child(leaf, tmp_path):
    await trio.to_thread.run_sync(lambda: None)
    os.unlink(tmp_path / "cgroup.procs")
    os.mkfifo(tmp_path / "cgroup.procs")

    async def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    with ExitStack() as ours:
        async with trio.open_nursery() as nursery:
            with ExitStack() as theirs, reaper.starting():
                fds, _ = make_pipes(ours, theirs)
                launched = await launch(("true",), env=ENV, fds=fds, leaf=leaf, **PLAIN)
                reaper.own(launched.process.pid)
            nursery.start_soon(kill, launched.process.pid)
            pidfd, _ = await settle(launched)
            ours.callback(os.close, pidfd)
        assert await launched.process.wait() == -signal.SIGKILL
        reaper.disown(launched.process.pid)


def test_every_step_has_words():
    own = {"directory", "command"}
    assert set(STEPS) == {step.__name__ for step in trampoline.STEPS} - own, "these are as in a plain start"
