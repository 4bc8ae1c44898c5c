from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys

import pytest
import trio
import trio.testing

from mcpd.errors import ConnectionBroken
from mcpd.supervisor import reaper
from mcpd.supervisor.exits import Exit, SpawnFailed
from mcpd.supervisor.process import Child, ChildSpec, StopLadder, Surroundings, spawn
from mcpd.supervisor.registry import Registry, parse_marker
from mcpd.supervisor.tree import become_subreaper, read_marker, read_process, scan
from tests.supervisor.processes import HOSTILE, alive, wait_until

QUICK = StopLadder(eof=0.05, term=0.05, kill=10)
"""For children that must be driven down the ladder. One that ends by itself never waits for a step to be
over."""

PATIENT = StopLadder(eof=20, term=20, kill=20)
"""For children that end on the first step they are offered: taking another one is then a failure of the
test's limit."""

ENV = {"PATH": os.environ["PATH"]}


def make(mode: str, *arguments: str, stop: StopLadder = QUICK, **rest) -> ChildSpec:
    return ChildSpec(name=mode, argv=(sys.executable, "-ISs", HOSTILE, mode, *arguments), env=ENV, stop=stop, **rest)


@pytest.fixture
def around(tmp_path):
    become_subreaper()
    around = Surroundings.of(Registry(tmp_path))
    yield around
    # Whatever a test did: nothing is left, and nothing is recorded.
    prefix = around.registry.marker_prefix
    assert [info for info in scan(around.since).values() if info.marker.startswith(prefix)] == []
    assert around.registry.records == ()


async def start(spec: ChildSpec, around: Surroundings, nursery: trio.Nursery) -> Child:
    child = await spawn(spec, around=around)
    nursery.start_soon(child.run)
    return child


async def first_line(child: Child) -> list[str]:
    data = b""
    while not data.endswith(b"\n"):
        more = await child.stdout.receive_some()
        assert more, f"the child ended: {child.stderr.tail()}"
        data += more
    return data.decode().split()


async def test_a_child_echoes_and_ends_at_the_end_of_its_input(around, nursery):
    child = await start(make("echo", stop=PATIENT), around, nursery)
    assert await first_line(child) == ["ready"]
    assert [record.pid for record in around.registry.records] == [child.pid]
    child.stdin.write(b"hello ", b"world\n")
    assert await first_line(child) == ["hello", "world"]
    assert await child.stop() == Exit(code=0)
    assert await child.wait() == await child.stop() == Exit(code=0)
    assert read_process(child.pid) is None
    with pytest.raises(ConnectionBroken):
        child.stdin.write(b"x")
    found = child.statistics()
    assert (found.stdin_bytes, found.stdout_bytes, found.exit) == (12, 18, Exit(code=0))


async def test_ten_megabytes_go_through(around, nursery):
    child = await start(make("echo", stop=PATIENT), around, nursery)
    await first_line(child)
    block = os.urandom(1 << 20) * 10
    child.stdin.write(block)
    found = bytearray()
    while len(found) < len(block):
        found += await child.stdout.receive_some()
    assert found == block
    await child.stdin.room(0)
    assert await child.stop() == Exit(code=0)


async def test_the_child_gets_its_environment_session_directory_and_nothing_else(around, nursery, tmp_path):
    child = await start(make("where", cwd=str(tmp_path)), around, nursery)
    cwd, leads_session, leads_group, *fds = await first_line(child)
    assert (cwd, leads_session, leads_group) == (str(tmp_path), "True", "True")
    # 3 is the directory that it lists.
    assert re.findall(r"\d+", " ".join(fds)) == ["0", "1", "2", "3"]
    await child.stop()
    spec = make("environment")
    spec = ChildSpec(name="x", argv=spec.argv, env={"A": "1", "MCPD_OWNER": "a forged one"})
    child = await start(spec, around, nursery)
    words = dict(word.split("=", 1) for word in await first_line(child))
    marker = parse_marker(words.pop("MCPD_OWNER"))
    assert (marker.owner, marker.instance) == (around.registry.owner, around.registry.instance)
    words.pop("LC_CTYPE", None)  # Python's own doing
    assert words == {"A": "1"}
    await child.stop()


async def test_an_exit_is_seen_at_once_with_its_last_words(around, nursery):
    lines = []
    child = await start(make("die", "3", on_stderr=lines.append), around, nursery)
    how = await child.wait()
    child.stderr.catch_up()
    assert how.describe() == "exited with status 3"
    assert child.stderr.tail() == "cannot open the database | fatal: giving up"
    assert lines == ["cannot open the database", "fatal: giving up"]
    await child.gone()
    assert read_process(child.pid) is None
    await child.stop()


async def test_on_end_is_called(around, nursery):
    child = await spawn(make("die", "0"), around=around)
    calls = []
    child.on_end = lambda: calls.append(child.exit)
    await child.run()
    assert calls == [Exit(code=0)]
    child.close()


async def test_sigterm_is_offered_before_sigkill(around, nursery):
    child = await start(make("note_term", stop=StopLadder(eof=0, term=20, kill=20)), around, nursery)
    await first_line(child)
    assert await child.stop() == Exit(code=7)


@pytest.mark.parametrize("mode", ["ignore_eof", "close_pipes"])
async def test_a_child_that_ignores_the_end_of_its_input(around, nursery, mode):
    child = await start(make(mode, stop=StopLadder(eof=0.05, term=20, kill=20)), around, nursery)
    await first_line(child)
    assert await child.stop() == Exit(signal=signal.SIGTERM)


async def test_a_child_that_ignores_sigterm(around, nursery):
    child = await start(make("ignore_term"), around, nursery)
    await first_line(child)
    assert await child.stop() == Exit(signal=signal.SIGKILL)


async def test_a_child_that_stopped_itself_can_still_end_politely(around, nursery):
    child = await start(make("stop_self", stop=StopLadder(eof=0.05, term=20, kill=20)), around, nursery)
    await first_line(child)
    assert await child.stop() == Exit(code=7)


@pytest.mark.parametrize("mode", ["grandchildren", "daemonize"])
async def test_descendants_die_with_the_child(around, nursery, mode):
    child = await start(make(mode, stop=StopLadder(eof=20, term=0.05, kill=10)), around, nursery)
    pids = [int(word) for word in (await first_line(child))[1:]]
    assert alive(*pids) == pids
    assert await child.stop() == Exit(code=0)
    assert alive(*pids) == []


async def test_a_descendant_without_any_sign_is_left_to_the_end_of_the_daemon(around, nursery):
    # Double fork, setsid, an empty environment, no pipe: nothing shows whose it is. It may belong to another child.
    child = await start(make("daemonize_mute", stop=PATIENT), around, nursery)
    worker = int((await first_line(child))[1])
    assert read_marker(worker) == ""
    assert read_process(worker).sid != child.pid
    assert await child.stop() == Exit(code=0)
    assert [info.pid for info in reaper.adopted(scan(), since=around.since)] == [worker]
    os.kill(worker, signal.SIGKILL)
    await wait_until(lambda: not alive(worker))
    assert reaper.reap_adopted() == 1


async def test_a_descendant_is_known_by_a_pipe_when_every_other_sign_is_gone(around, nursery):
    child = await start(make("daemonize_scrub"), around, nursery)
    other = await start(make("daemonize_scrub"), around, nursery)
    workers = [int((await first_line(each))[1]) for each in (child, other)]
    await child.stop()
    assert alive(*workers) == workers[1:], "each has its own"
    await other.stop()
    assert alive(*workers) == []


async def test_what_it_forks_in_its_exit_handler_dies_too(around, nursery):
    child = await start(make("fork_at_exit"), around, nursery)
    await first_line(child)
    await child.stop()


async def test_a_wrapper_that_dies_first(around, nursery):
    child = await start(make("wrapper"), around, nursery)
    worker = int((await first_line(child))[1])
    assert await child.wait() == Exit(signal=signal.SIGKILL)
    await child.gone()
    assert alive(worker) == []
    assert await child.stdout.receive_some() == b"", "nobody holds the pipe any more"
    await child.stop()


async def test_a_surviving_worker_is_asked_first(around, nursery):
    child = await start(make("polite_wrapper", stop=PATIENT), around, nursery)
    worker = int((await first_line(child))[1])
    await child.gone()
    assert alive(worker) == []
    await child.stop()


@pytest.mark.parametrize("mode", ["flood_stderr", "flood_stderr_no_newline"])
async def test_megabytes_of_stderr_do_not_block_the_child(around, nursery, mode):
    child = await start(make(mode, str(3 << 20), stop=PATIENT), around, nursery)
    assert await first_line(child) == ["ready"]
    await child.stop()
    assert child.statistics().stderr_bytes >= (3 << 20) - 100
    assert child.statistics().stderr_dropped > (2 << 20)
    assert len(child.stderr.tail(lines=1)) <= 1000


async def test_a_flood_on_stdout_that_nobody_reads_is_stopped(around, nursery):
    child = await start(make("flood_stdout"), around, nursery)
    assert (await child.stdout.receive_some())[:1] == b"z"
    await child.stop()


async def test_stdout_is_drained_while_stopping_so_that_the_child_can_end_by_itself(around, nursery):
    child = await start(make("flood_until_eof", stop=PATIENT), around, nursery)
    await first_line(child)
    seen = []

    async def read() -> None:
        seen.append(await child.stdout.receive_some())

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    assert await child.stop() == Exit(code=5)
    assert seen == [b""]
    assert child.statistics().stdout_bytes >= 4 << 20


async def test_the_owner_may_keep_reading_while_it_stops(around, nursery):
    child = await start(make("flood_until_eof", stop=PATIENT), around, nursery)
    await first_line(child)
    size = 0

    async def read() -> None:
        nonlocal size
        while data := await child.stdout.receive_some():
            size += len(data)

    async with trio.open_nursery() as reading:
        reading.start_soon(read)
        assert await child.stop(drain=False) == Exit(code=5)
    assert size == 4 << 20
    child.close()


async def test_stop_is_shielded_and_may_be_asked_for_twice(around, nursery):
    child = await start(make("note_term", stop=StopLadder(eof=0, term=20, kill=20)), around, nursery)
    await first_line(child)
    results = []

    async def stop() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            results.append(await child.stop())

    async with trio.open_nursery() as both:
        both.start_soon(stop)
        both.start_soon(stop)
    assert results == [Exit(code=7)] * 2


async def test_run_outlives_its_cancellation(around):
    async with trio.open_nursery() as nursery:
        child = await start(make("grandchildren"), around, nursery)
        pids = [int(word) for word in (await first_line(child))[1:]]
        nursery.cancel_scope.cancel()
        await child.stop()
    assert alive(child.pid, *pids) == []


async def test_kill_now(around, nursery):
    child = await start(make("grandchildren"), around, nursery)
    pids = [int(word) for word in (await first_line(child))[1:]]
    child.kill_now()
    assert await child.wait() == Exit(signal=signal.SIGKILL)
    await child.gone()
    assert alive(*pids) == []
    child.kill_now()
    child.close()


async def test_a_crash_while_bytes_are_queued(around, nursery):
    child = await start(make("ignore_eof"), around, nursery)
    await first_line(child)
    child.stdin.write(b"x" * (4 << 20))
    assert child.stdin.queued > 0
    os.kill(child.pid, signal.SIGKILL)
    assert await child.wait() == Exit(signal=signal.SIGKILL)
    await child.gone()
    with pytest.raises(ConnectionBroken):
        child.stdin.write(b"x")
    await child.stop()


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (("mcpd-no-such-command",), None, "command 'mcpd-no-such-command' not found in PATH "),
        (("/mcpd/no/such",), None, "command '/mcpd/no/such' does not exist"),
        (("{tmp}/plain",), None, "plain' may not be executed"),
        (("{tmp}/script",), None, "the interpreter in its first line is not"),
        (("{tmp}/text",), None, "not a program this machine can run"),
        (("true",), "/mcpd/no/such", "working directory '/mcpd/no/such' does not exist"),
        (("true", "x" * (1 << 20)), None, "are too large"),
        (("true", "a\0b"), None, "NUL"),
        ((), None, "no command is configured"),
    ],
)
async def test_what_cannot_be_started_is_explained(around, tmp_path, argv, cwd, words):
    for name, text in (("script", "#!/mcpd/no/such/interpreter\n"), ("text", "just words")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "plain").write_text("no mode bits")
    argv = tuple(word.replace("{tmp}", str(tmp_path)) for word in argv)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(SpawnFailed) as caught:
        await spawn(ChildSpec(name="x", argv=argv, env=ENV, cwd=cwd), around=around)
    assert words in str(caught.value)
    assert caught.value.needs_operator
    assert sorted(os.listdir("/proc/self/fd")) == before


async def test_too_few_descriptors_are_a_failure_that_leaves_nothing(around):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    await trio.to_thread.run_sync(lambda: None)  # Trio's own are open now
    before = os.listdir("/proc/self/fd")
    highest = max(map(int, before[:-1]))
    failures, successes = [], 0
    for spare in range(14):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))
        try:
            child = await spawn(make("echo"), around=around)
        except SpawnFailed as error:
            failures.append(error)
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await trio.lowlevel.checkpoint()
        successes += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            await child.stop()
        assert len(os.listdir("/proc/self/fd")) == len(before)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert failures
    assert successes
    assert {error.remedy for error in failures} == {"raise LimitNOFILE="}
    assert not any(error.needs_operator for error in failures)


async def test_no_descriptor_is_left_after_many_children(around, nursery):
    child = await start(make("die", "0"), around, nursery)
    await child.stop()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        child = await start(make("die", "0"), around, nursery)
        await child.stop()
    assert len(os.listdir("/proc/self/fd")) == before


TRACER = """
import ctypes, os, sys
pid = int(sys.argv[1])
if ctypes.CDLL(None).ptrace(0x4206, pid, 0, 0):  # PTRACE_SEIZE
    sys.exit()
print("attached", flush=True)
sys.stdin.read()
os.waitpid(pid, 0x40000000)  # __WALL
"""


async def test_a_child_in_a_debugger_has_ended_when_that_lets_go_of_it(around, nursery):
    """The debugger hears of the end first, and until then it is kept from the parent."""
    child = await start(make("echo", stop=PATIENT), around, nursery)
    assert await first_line(child) == ["ready"]
    argv = [sys.executable, "-ISc", TRACER, str(child.pid)]
    tracer = await trio.lowlevel.open_process(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    async with tracer.stdin, tracer.stdout:
        if await tracer.stdout.receive_some(100) != b"attached\n":
            await tracer.wait()
            await child.stop()
            pytest.skip("nobody may be traced here")
        os.kill(child.pid, signal.SIGKILL)
        await wait_until(lambda: read_process(child.pid).dead)
        await trio.sleep(0.1)
        assert child.exit is None
        await tracer.stdin.aclose()
        assert await child.wait() == Exit(signal=signal.SIGKILL)
        await tracer.wait()
    await child.stop()
