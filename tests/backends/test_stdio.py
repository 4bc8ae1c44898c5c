# ruff: noqa: ASYNC110, UP031 - processes and remotes tell nothing of what goes on inside them; programs are full of braces
from __future__ import annotations

import json
import math
import os
import signal
import sys
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel

from mcpd.backends import stdio
from mcpd.backends.carrier import Wish
from mcpd.backends.link import Link
from mcpd.backends.stdio import JUNK_SHOWN, ChildEnded
from mcpd.config.model import Secrets, ServerSpec, Stop, Timeouts
from mcpd.errors import BackendError, BackendMisbehaved, BackendTimedOut, BackendUnavailable
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.supervisor.exits import Exit
from mcpd.supervisor.slots import Claim
from mcpd.supervisor.supervisor import Supervisor
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import HELLO, Client, Heard, calling, result_of

QUICK = Stop(eof=0.3, term=0.3, kill=5)
SLOW = Stop(eof=20, term=0.3, kill=5)
"""So long a first rung that a busy machine is not taken for a wait on it."""

SERVER = (
    """
import json, os, signal, subprocess, sys, time
HELLO = %r
out = sys.stdout.buffer
def say(m):
    out.write(json.dumps({"jsonrpc": "2.0", **m}).encode() + b"\\n"); out.flush()
def serve(m):
    say({"id": m["id"], "result": {"echo": m.get("params", {})}})
def words(text):
    sys.stderr.write(text + "\\n"); sys.stderr.flush()
def spawn_worker():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    return subprocess.Popen([sys.executable, "-ISs", "-c", code])
def loop():
    for line in sys.stdin.buffer:
        m = json.loads(line)
        if m.get("method") == "initialize":
            say({"id": m["id"], "result": HELLO})
        elif "id" in m and "method" in m:
            serve(m)
"""
    % HELLO
)


def make(code: str = "loop()", **members) -> ServerSpec:
    members.setdefault("stop", QUICK)
    members.setdefault("timeouts", Timeouts(init=10))
    return ServerSpec(
        name="b", transport="stdio", command=sys.executable, args=("-ISs", "-c", SERVER + code), **members
    )


@asynccontextmanager
async def started(
    spec: ServerSpec,
    *,
    message_max: int = 1 << 24,
    secrets: Secrets | None = None,
    capabilities: ClientCapability | Wish = EVERYTHING,
    supervisor: Supervisor | None = None,
    claim: Claim | None = None,
):
    """A link to a real child: the link, the child, what is heard."""
    heard = Heard()
    deadlines = Deadlines(resolution=0.01)
    supervisor = supervisor or Supervisor(None)
    failure = None
    async with trio.open_nursery() as outer:
        await outer.start(deadlines.run)
        await outer.start(supervisor.run)
        async with trio.open_nursery() as nursery:
            link = Link(
                "b",
                capabilities=capabilities,
                owner=None,
                listener=heard,
                timeouts=spec.timeouts,
                deadlines=deadlines,
                nursery=nursery,
            )
            manager = stdio.connect(
                spec,
                supervisor,
                link,
                nursery,
                message_max=message_max,
                secrets=secrets or Secrets(),
                claim=claim or Claim(),
            )
            try:
                child = await manager.__aenter__()
            except BackendError as error:
                failure = error
            else:
                try:
                    yield link, child, heard
                finally:
                    link.fail(link.reason or BackendUnavailable("b", "the test is over"))
                    await manager.__aexit__(None, None, None)
            nursery.cancel_scope.cancel()
        assert supervisor.children() == (), "nothing is left"
        outer.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def call(link, **params):
    made = Client().call(**params)
    return result_of(await link.call(made, "tools/call", made.members))


async def test_calls_and_the_end():
    async with started(make()) as (link, child, _):
        assert (await call(link, x="ä\n"))["echo"] == {"x": "ä\n"}
        text = "x" * (10 << 20)
        assert (await call(link, x=text))["echo"] == {"x": text}
    assert child.exit == Exit(code=0)


async def test_waiting_for_its_turn_burns_no_time_of_the_handshake(nursery, autojump_clock):
    autojump_clock.autojump_threshold = math.inf  # it would not wait for a real child
    supervisor = Supervisor(None, spawn_concurrency=1)
    spec = make()
    turn = await supervisor.slots.acquire()
    claim = Claim()

    async def hold():
        while not claim.waiting:
            await trio.lowlevel.checkpoint()
        # All at once, so that it is not this child's turn before the time of its handshake would have been over.
        autojump_clock.jump(10 * spec.timeouts.init)
        turn.release()

    nursery.start_soon(hold)
    before = trio.current_time()
    async with started(spec, supervisor=supervisor, claim=claim) as (link, _, _):
        assert trio.current_time() >= before + 10 * spec.timeouts.init
        assert (await call(link, x=1))["echo"] == {"x": 1}


async def test_tolerated_oddities():
    code = r"""
first = [True]
def say(m):
    if first: out.write(b"\xef\xbb\xbf"); first.clear()
    out.write(b"Starting...\n{broken\n\xff\xfe\n[]\n42\n\n\r\n")
    data = json.dumps([{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info",
                       "data": 1}}, {"jsonrpc": "2.0", **m}]).encode() + b"\r\n"
    for at in range(0, len(data), 7):
        out.write(data[at:at+7]); out.flush()
loop()
"""
    async with started(make(code)) as (link, _, heard):
        assert (await call(link, x=1))["echo"] == {"x": 1}
        assert len(heard.strays) >= 1


async def test_junk_is_counted_not_logged_for_ever(caplog):
    code = """
def serve(m):
    for n in range(%d): out.write(b"junk %%d\\n" %% n)
    say({"id": m["id"], "result": {}})
loop()
""" % (3 * JUNK_SHOWN)
    async with started(make(code)) as (link, _, _):
        assert await call(link) == {}
    assert sum("junk_on_stdout" in record.message for record in caplog.records) == JUNK_SHOWN


async def test_stderr_is_drained():
    code = """
def serve(m):
    for _ in range(2621): sys.stderr.write("x" * 99 + "\\n")
    sys.stderr.flush()
    say({"id": m["id"], "result": {}})
loop()
"""
    async with started(make(code)) as (link, _, _):
        assert await call(link) == {}


async def test_a_line_that_is_too_long():
    code = """
def serve(m):
    say({"id": m["id"], "result": {"text": "x" * 200000}})
loop()
"""
    async with started(make(code), message_max=100_000) as (link, _, _):
        with pytest.raises(BackendMisbehaved, match=r"limits.message"):
            await call(link)
        assert link.lost.is_set()


@pytest.mark.parametrize(
    ("code", "words", "exit"),
    [
        ("words('no database'); sys.exit(3)", "exited with status 3", Exit(code=3)),
        (
            "words('no database'); out.close(); sys.stdin.close(); time.sleep(.05); sys.exit(3)",
            "exited with status 3",
            Exit(code=3),
        ),
        (
            "words('no database'); os.kill(os.getpid(), signal.SIGKILL)",
            "was killed by SIGKILL",
            Exit(signal=9),
        ),
        ("words('no database'); sys.stdin.readline(); sys.exit(0)", "exited with status 0", Exit(code=0)),
    ],
)
async def test_an_end_in_the_handshake_is_explained(code, words, exit):
    with pytest.raises(ChildEnded) as caught:
        async with started(make(code)):
            raise AssertionError("connected")
    assert words in str(caught.value)
    assert "last stderr: no database" in str(caught.value)
    assert "run its command by hand" in str(caught.value)
    assert caught.value.exit == exit


@pytest.mark.slow
async def test_a_child_that_nobody_wants_yet_is_not_spoken_to(caplog, nursery):
    """It has all the time that it needs to be ready, and then `timeouts.init` for the handshake."""
    caplog.set_level("INFO", "mcpd.backends.stderr")
    wish = Wish()
    code = """
import select
heard, _, _ = select.select([0], [], [], 3.2)
words("spoken to" if heard else "not spoken to")
m = json.loads(sys.stdin.buffer.readline())
say({"id": m["id"], "result": {**HELLO, "instructions": json.dumps(m["params"]["capabilities"])}})
loop()
"""

    async def want():
        while "spoken to" not in caplog.text:
            await trio.sleep(0.01)
        wish.settle(ClientCapability.SAMPLING)

    nursery.start_soon(want)
    async with started(make(code, timeouts=Timeouts(init=3)), capabilities=wish) as (link, child, _):
        assert child.stderr.tail() == "not spoken to"
        assert link.hello.instructions == '{"sampling": {}}'
        assert await call(link) == {"echo": {"name": "t"}}


async def test_a_child_that_ends_before_anybody_wants_it_says_why():
    with pytest.raises(ChildEnded, match=r"exited with status 3.*nobody speaks to me"):
        async with started(make("words('nobody speaks to me'); sys.exit(3)"), capabilities=Wish()):
            raise AssertionError("connected")


async def test_no_answer_in_the_handshake():
    code = "words('waiting for the moon'); sys.stdin.read()"
    with pytest.raises(BackendUnavailable, match=r"it did not say what it is in 2 s.*waiting for the moon"):
        async with started(make(code, timeouts=Timeouts(init=2))):
            raise AssertionError("connected")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"command": "/no/such/program"}, "'/no/such/program' does not exist"),
        ({"command": "no-such-program"}, "'no-such-program' not found in PATH"),
        ({"cwd": "/no/such/directory"}, "working directory '/no/such/directory' does not exist"),
    ],
)
async def test_what_cannot_be_started_needs_an_operator(members, words):
    spec = ServerSpec(name="b", transport="stdio", **{"command": sys.executable, **members})
    with pytest.raises(BackendUnavailable, match=words) as caught:
        async with started(spec):
            raise AssertionError("connected")
    assert caught.value.needs_operator
    assert caught.value.remedy


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_a_death_in_mid_call_fails_it_at_once(number):
    code = """
def serve(m): words("still thinking")
loop()
"""
    async with started(make(code, stop=SLOW)) as (link, child, _), trio.open_nursery() as nursery:
        outcomes = []
        for n in range(3):
            made = Client(f"c{n}").call()
            outcomes.append(calling(nursery, link.call, made, "tools/call", made.members))
        while "still thinking" not in child.stderr.tail():
            await trio.sleep(0.01)
        begun = trio.current_time()
        os.kill(child.pid, number)
        for outcome in outcomes:
            await outcome.done.wait()
            assert f"backend 'b': was killed by {number.name}" in str(outcome.error)
            assert "last stderr: still thinking" in str(outcome.error)
            assert json.loads(outcome.error.encode())["data"]["stderr"].startswith("still thinking")
        assert trio.current_time() - begun < SLOW.eof, "not even a rung of the ladder later"


async def test_a_wrapper_that_dies_while_its_worker_holds_the_pipes():
    code = """
def serve(m):
    spawn_worker()
    os.kill(os.getpid(), 9)
loop()
"""
    async with started(make(code, stop=SLOW)) as (link, _, _):
        begun = trio.current_time()
        with pytest.raises(ChildEnded, match="was killed by SIGKILL"):
            await call(link)
        assert trio.current_time() - begun < SLOW.eof, "not even a rung of the ladder later"


async def test_last_answers_of_a_child_that_ends_are_taken():
    code = """
def serve(m):
    say({"id": m["id"], "result": {"last": True}})
    sys.exit(0)
loop()
"""
    async with started(make(code)) as (link, _child, _):
        assert await call(link) == {"last": True}
        await link.lost.wait()
        assert isinstance(link.reason, ChildEnded)
        assert link.reason.exit == Exit(code=0)


async def test_closed_stdout_is_the_end_though_it_lives():
    code = """
def serve(m):
    os.close(1); time.sleep(60)
loop()
"""
    async with started(make(code)) as (link, child, _):
        with pytest.raises(ChildEnded, match="it closed its stdout") as caught:
            await call(link)
        assert caught.value.exit is None
        assert child.exit is None
    assert child.exit is not None


async def test_closed_stdin_is_the_end_though_it_lives():
    code = """
def serve(m):
    os.close(0); say({"id": m["id"], "result": {}}); time.sleep(60)
loop()
"""
    async with started(make(code)) as (link, _, _):
        await call(link)
        with pytest.raises(ChildEnded, match="it closed its stdin"):
            await call(link)
        assert link.lost.is_set()
        link.notify("notifications/roots/list_changed")


async def test_a_child_that_does_not_read_holds_no_call_beyond_its_deadline(monkeypatch):
    monkeypatch.setattr("mcpd.supervisor.pipes.WRITE_QUEUE_MAX", 12 << 20)
    code = """
def serve(m): time.sleep(60)
loop()
"""
    spec = make(code, timeouts=Timeouts(init=10, call_idle=0.2))
    async with started(spec) as (link, _, _):
        with pytest.raises(BackendTimedOut):
            await call(link)  # it sleeps now
        with trio.fail_after(20), pytest.raises(BackendTimedOut, match=r"timeouts.call_idle"):
            await call(link, x="x" * (10 << 20))
        with trio.fail_after(20), pytest.raises(BackendUnavailable, match=r"does not read.*bytes wait"):
            await call(link, x="x" * (10 << 20))
        assert not link.lost.is_set()


async def test_grandchildren_and_sigterm_ignored():
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def serve(m):
    worker = spawn_worker()
    say({"id": m["id"], "result": {"pid": worker.pid}})
loop()
time.sleep(60)
"""
    async with started(make(code)) as (link, child, _):
        pid = (await call(link))["pid"]
        os.kill(pid, 0)
    assert child.exit == Exit(signal=9)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_secrets_do_not_stand_in_errors():
    code = "words('token is hunter22'); sys.exit(1)"
    with pytest.raises(BackendError) as caught:
        async with started(make(code), secrets=Secrets.of({"hunter22"})):
            raise AssertionError("connected")
    assert "hunter22" not in str(caught.value)
    assert "token is ***" in str(caught.value)
    assert b"hunter22" not in caught.value.encode()
