"""A configured command as a child process: how it is started, and what of its configuration does not hold here."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Final

from mcpd.supervisor.cgroup import Limits
from mcpd.supervisor.confinement import Confinement
from mcpd.supervisor.environment import clean_environment
from mcpd.supervisor.privacy import gaps
from mcpd.supervisor.process import ChildSpec, StopLadder
from mcpd.supervisor.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.config.model import ServerSpec
    from mcpd.supervisor.logs import Voice
    from mcpd.supervisor.supervisor import Supervisor

stderr_log = logging.getLogger("mcpd.backends.stderr")

OF_USER: Final = frozenset({"HOME", "LOGNAME", "USER", "SHELL"})
"""Variables that say who a process runs as."""


def child_spec(spec: ServerSpec, voice: Voice | None = None, private: tuple[str, ...] = ()) -> ChildSpec:
    """How the supervisor starts this server, whose process speaks with this voice. `private`: directories of mcpd."""
    assert spec.command is not None
    sandbox, resources = spec.sandbox, spec.resources
    inherited: Mapping[str, str] = os.environ
    if spec.user is not None:
        # These speak of mcpd's user; those of the server's own come with it.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        inherited = {name: value for name, value in inherited.items() if name not in OF_USER}
    env = clean_environment(
        {**{name: os.environ[name] for name in spec.inherit_env if name in os.environ}, **spec.env},
        inherited=inherited,
    )
    return ChildSpec(
        name=spec.name,
        argv=(spec.command, *spec.args),
        env=env,
        cwd=spec.cwd,
        stop=StopLadder(eof=spec.stop.eof, term=spec.stop.term, kill=spec.stop.kill),
        limits=Limits(resources.memory_max, resources.pids_max, resources.cpu_max),
        confinement=Confinement(
            user=spec.user,
            group=spec.group,
            umask=None if spec.umask is None else int(spec.umask, 8),
            nice=spec.nice,
            rlimits=resources.of_processes,
            no_new_privileges=sandbox.no_new_privileges,
            view=View(
                sandbox.read_only_paths,
                sandbox.read_write_paths,
                sandbox.inaccessible_paths,
                private_paths=private,
                other_user=spec.user is not None,
                needed_paths=tuple(os.path.abspath(path) for path in (env.get("HOME"), spec.cwd) if path),
            ),
        ),
        on_stderr=lambda line: stderr_log.info("backend=%s stderr=%s", spec.name, line),
        voice=voice,
    )


def shortfalls(spec: ServerSpec, supervisor: Supervisor) -> list[str]:
    """What is configured for this server and does not hold here, though it is started: in words, for the log."""
    cgroup = supervisor.cgroup
    limits = Limits(spec.resources.memory_max, spec.resources.pids_max, spec.resources.cpu_max)
    missing = set(limits.by_controller()) - (cgroup.controllers if cgroup else set())
    words = [
        f"resources.{name}_max is not enforced: "
        + (supervisor.cgroup_missing if cgroup is None else f"{cgroup.path} has no {name} controller")
        for name in sorted(missing)
    ]
    if spec.command is not None and not spec.sandbox.no_new_privileges and supervisor.no_new_privileges:
        words.append("sandbox.no_new_privileges is true all the same: mcpd itself is not to gain any")
    return words


def openings(spec: ServerSpec, supervisor: Supervisor) -> list[str]:
    """Where a server with a view of the file system can get out of it through mcpd or as root, in words, for the log.
    Blocks."""
    if spec.command is None or spec.user is not None:
        return []
    made = child_spec(spec, private=supervisor.private)
    view = made.confinement.view
    if not view:
        return []
    program = shutil.which(made.argv[0], path=made.env.get("PATH")) or made.argv[0]
    needed = {"command": program, "home": made.env.get("HOME", "")}
    exposed, hidden = gaps(view, filter(None, needed.values()))
    words = [
        f"its sandbox can read or replace {path}, where mcpd keeps its admin token: with it a command can be run"
        " outside of it (let it write neither there nor around it, or give it a user of its own)"
        for path in exposed
    ]
    words += [
        f"its sandbox hides its {what} {path}, which lies in what mcpd keeps for itself (name it in a list)"
        for what, path in needed.items()
        if path in hidden
    ]
    if os.geteuid() == 0:
        words.append("its sandbox does not confine root, to whom /dev and /proc are open (give it a user)")
    return words
