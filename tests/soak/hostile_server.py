"""hostile_server.py TOKEN KIND [JOURNAL]: an MCP server that will not go, or of the kind `plain` one that does.

TOKEN marks its processes. The tool `pid` answers with the pid of the process that mcpd started, `wait` never answers,
`fall` ends the server in its own way. A line is added to JOURNAL when it begins, and one before its first answer.
Imports little: two thousand of it are started.
"""

from __future__ import annotations

import json
import os
import signal
import sys

JUNK = b"z" * 1023 + b"\n"
FLOOD = 1 << 18
"""Bytes of junk for each call: more than a pipe holds by default."""


def main() -> None:
    token, kind = sys.argv[1:3]
    note("begin")
    KINDS[kind](token)


def note(word: str) -> None:
    """Add a line to the journal, if there is one. The kernel keeps the order of the writers."""
    if len(sys.argv) > 3:
        fd = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, word.encode() + b"\n")
        os.close(fd)


def worker(_token: str) -> None:
    """What the others leave behind. It notices nothing, and lets go of no pipe."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    while True:
        signal.pause()


def leave_worker(token: str, *, session: bool = False, scrub: bool = False) -> None:
    """A worker that has no parent when this returns."""
    middle = os.fork()
    if middle == 0:
        if session:
            os.setsid()
        if os.fork() == 0:
            environment = {} if scrub else dict(os.environ)
            os.execve(sys.executable, [sys.executable, "-ISs", __file__, token, "worker"], environment)
        os._exit(0)
    os.waitpid(middle, 0)


def plain(_token: str) -> None:
    serve()


def ignore_term(_token: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve()
    worker("")


def double_fork(token: str) -> None:
    leave_worker(token)
    serve()


def set_session(token: str) -> None:
    leave_worker(token, session=True)
    serve()


def vanish(token: str) -> None:
    """Its worker has neither its session, nor its parent, nor its environment."""
    leave_worker(token, session=True, scrub=True)
    serve()


def close_pipes(_token: str) -> None:
    def close() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        worker("")

    serve(fall=close)


def fork_at_exit(token: str) -> None:
    def again(*_: object) -> None:
        leave_worker(token)
        os._exit(0)

    signal.signal(signal.SIGTERM, again)
    serve(fall=again)
    again()


def stop_self(_token: str) -> None:
    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    serve(after=stop, fall=lambda: os._exit(3))


def flood(_token: str) -> None:
    def pour() -> None:
        for _ in range(FLOOD // len(JUNK)):
            os.write(1, JUNK)
            os.write(2, JUNK)

    serve(after=pour)
    while True:
        pour()


def npx(token: str) -> None:
    """The wrapper waits for its worker, which has the pipes, and does not pass TERM on to it."""
    worker_pid = os.fork()
    if worker_pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        serve(pid=os.getppid())
        worker(token)
    os.waitpid(worker_pid, 0)


def uvx(_token: str) -> None:
    """The worker has a process group of its own; the wrapper passes TERM on, and is gone before it."""
    worker_pid = os.fork()
    if worker_pid == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, lambda *_: None)
        serve(pid=os.getppid())
        worker("")

    def pass_on(*_: object) -> None:
        os.kill(worker_pid, signal.SIGTERM)
        os._exit(143)

    signal.signal(signal.SIGTERM, pass_on)
    os.waitpid(worker_pid, 0)


HOSTILE = {
    "ignore-term": ignore_term,
    "double-fork": double_fork,
    "setsid": set_session,
    "close-pipes": close_pipes,
    "fork-at-exit": fork_at_exit,
    "stop-self": stop_self,
    "flood": flood,
    "npx": npx,
    "uvx": uvx,
    "vanish": vanish,
}
KINDS = {**HOSTILE, "plain": plain, "worker": worker}


def serve(*, pid: int = 0, after: object = None, fall: object = None) -> None:
    """Until the end of stdin. `pid` is the one that mcpd knows; `after` is done after each call."""
    for line in sys.stdin.buffer:
        message = json.loads(line)
        method = message.get("method")
        if "id" not in message or method is None:
            continue
        if method == "initialize":
            note("answer")
            info = {"name": "hostile", "version": "1"}
            version = message["params"]["protocolVersion"]
            answer(message, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("pid", "wait", "fall")]
            answer(message, {"tools": tools})
        elif method != "tools/call":
            say({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})
        elif message["params"]["name"] == "pid":
            answer(message, {"content": [{"type": "text", "text": str(pid or os.getpid())}]})
            if callable(after):
                after()
        elif message["params"]["name"] == "fall":
            if callable(fall):
                fall()
            os._exit(3)


def answer(request: dict, result: object) -> None:
    say({"id": request["id"], "result": result})


def say(message: dict) -> None:
    data = memoryview(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
