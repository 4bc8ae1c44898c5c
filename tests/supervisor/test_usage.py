from __future__ import annotations

import os
import sys

import pytest

from mcpd.supervisor.process import ChildSpec
from mcpd.supervisor.supervisor import Supervisor
from mcpd.supervisor.usage import Usage
from tests.supervisor.processes import wait_until

BUSY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
block = bytearray(32 << 20)
until = time.process_time() + 0.2
while time.process_time() < until:
    pass
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("names", [("a",), ("a", "a", "b")])
async def test_processes_of_a_server_are_added_up(names, tmp_path, nursery):
    supervisor = Supervisor(tmp_path)
    await nursery.start(supervisor.run)
    for name in names:
        child = await supervisor.spawn(ChildSpec(name, (sys.executable, "-c", BUSY), dict(os.environ)))
        assert (await child.stdout.receive_some()).startswith(b"done")
    used = await supervisor.usage()
    assert used.keys() == set(names)
    for name, each in used.items():
        count = names.count(name)
        assert each.processes == 2 * count, "what a child starts is its server's"
        assert each.memory > count * (32 << 20)
        assert each.cpu >= count * 0.15, "in ticks of a hundredth"
    await supervisor.stop_all()
    await wait_until(lambda: not supervisor.children())
    assert await supervisor.usage() == {}


def test_sums():
    one = Usage(processes=1, memory=2, cpu=0.1)
    assert one.plus(one) == Usage(processes=2, memory=4, cpu=0.2)
