"""A cgroup for tests to divide up: made in the one that the tests run in, and removed with everything in it."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcpd.supervisor.cgroup import Leaf, locate

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = "MCPD_TEST_CGROUP"
"""The variable that names another cgroup to make them in: one whose controllers can be handed down."""

_numbers = itertools.count(1)


@contextlib.contextmanager
def delegated_cgroup() -> Iterator[Path]:
    """An empty cgroup with the mark of delegation. Skips the test, saying why, where none can be made."""
    here = locate(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    here = Path(os.environ[PARENT]) if PARENT in os.environ else here
    if here is None:
        pytest.skip("no cgroup v2 is mounted here: what needs one is not tested")
    path = here / f"mcpd-test-{os.getpid()}-{next(_numbers)}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"{here} cannot be divided up ({error.strerror}): what needs a cgroup is not tested")
    leaf = Leaf(path)
    try:
        os.setxattr(path, "user.delegate", b"1")
        if not (path / "cgroup.kill").exists():
            pytest.skip("this kernel has no cgroup.kill: what needs a cgroup is not tested")
        yield path
    finally:
        leaf.kill()
        while leaf.populated:
            pass
        assert leaf.remove()


def enter(path: Path, *argv: str) -> list[str]:
    """A command line that runs another one in that cgroup; in the leaf of a daemon where one has divided it up, because
    no process may be beside leaves that have controllers."""
    script = 'test -d "$0/daemon" && leaf=$0/daemon || leaf=$0; echo 0 > "$leaf/cgroup.procs" && exec "$@"'
    return ["/bin/sh", "-c", script, str(path), *argv]


def leaves(path: Path) -> list[str]:
    """The names of the cgroups in it."""
    return sorted(each.name for each in path.iterdir() if each.is_dir())
