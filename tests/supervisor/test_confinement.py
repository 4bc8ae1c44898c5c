from __future__ import annotations

import errno
import os
import pwd
import resource
import subprocess
import sys

import pytest

from mcpd.config.model import Resources
from mcpd.supervisor.confinement import RLIMITS, Confinement, Identity, has_no_new_privileges
from mcpd.supervisor.exits import SpawnFailed
from mcpd.supervisor.launch import LaunchFailed, name_failure
from mcpd.supervisor.process import ChildSpec, StopLadder
from mcpd.supervisor.supervisor import Supervisor
from mcpd.supervisor.view import RULES_MAX, View
from tests.supervisor.trampolines import bounce, needs_landlock

ME = pwd.getpwuid(os.getuid())


def test_nothing_set_is_no_plan_at_all():
    assert Confinement().plan(no_new_privileges=False) == {}
    assert Confinement(no_new_privileges=True).plan(no_new_privileges=True) == {}
    assert not Confinement().blocks


def test_a_plan_has_what_is_set():
    made = Confinement(umask=0, nice=0, rlimits=(("limit_nofile", 64),), no_new_privileges=True).plan(
        no_new_privileges=False
    )
    assert made == {
        "umask": 0,
        "nice": 0,
        "limits": [("limit_nofile", resource.RLIMIT_NOFILE, 64)],
        "privileges": True,
    }


def test_every_limit_of_the_configuration_has_its_number():
    assert set(RLIMITS) == {name for name in Resources.__struct_fields__ if name.startswith("limit_")}
    assert len(set(RLIMITS.values())) == len(RLIMITS)


@pytest.mark.parametrize(
    ("confinement", "words"),
    [
        (Confinement(user="mcpd-no-such"), "user 'mcpd-no-such' does not exist (correct user, or add it)"),
        (Confinement(user="4200000000"), "user '4200000000' does not exist"),
        (Confinement(group="mcpd-no-such"), "group 'mcpd-no-such' does not exist"),
        (Confinement(user=ME.pw_name, group="4200000000"), "group '4200000000' does not exist"),
    ],
)
def test_who_is_not_known_here(confinement, words):
    assert confinement.blocks
    with pytest.raises(SpawnFailed) as caught:
        confinement.plan(no_new_privileges=True)
    assert words in str(caught.value)
    assert caught.value.needs_operator


def test_a_user_comes_with_groups_home_and_shell():
    found = Identity.of("nobody", None)
    entry = pwd.getpwnam("nobody")
    assert (found.uid, found.gid, found.home) == (entry.pw_uid, entry.pw_gid, entry.pw_dir)
    assert entry.pw_gid in found.groups
    assert found.environment()["LOGNAME"] == found.environment()["USER"] == "nobody"
    assert Identity.of(str(entry.pw_uid), None) == found
    assert Identity.of("nobody", "0").gid == 0
    alone = Identity.of(None, "0")
    assert (alone.uid, alone.groups, alone.environment()) == (os.getuid(), (0,), {})


def test_mcpds_own_user_is_no_change():
    assert "user" not in Confinement(user=ME.pw_name).plan(no_new_privileges=True)
    assert Confinement(user=ME.pw_name).plan(no_new_privileges=True)["environment"]["HOME"] == ME.pw_dir


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives itself groups")
def test_groups_that_mcpd_was_given_besides_are_not_its_users():
    script = (
        "from mcpd.supervisor.confinement import Confinement\n"
        "plan = Confinement(user='root').plan(no_new_privileges=True)\n"
        "print(plan['user'])\n"
    )
    argv = ["setpriv", "--groups=0,65533", sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == f"(0, 0, {sorted({0, *os.getgrouplist('root', 0)})})\n"


def test_a_directory_that_cannot_be_taken_apart_is_named(tmp_path):
    (tmp_path / "file").touch()
    view = View(inaccessible_paths=(str(tmp_path / "file" / "below"),))
    with pytest.raises(SpawnFailed) as caught:
        Confinement(view=view).plan(no_new_privileges=True)
    words = f"'{tmp_path}/file' is to be taken apart for its paths and cannot be read: Not a directory"
    assert words in str(caught.value)
    assert caught.value.needs_operator


def test_a_directory_with_too_many_entries_is_named(tmp_path):
    for number in range(RULES_MAX + 1):
        (tmp_path / str(number)).touch()
    with pytest.raises(SpawnFailed, match="too many entries"):
        Confinement(view=View(inaccessible_paths=(str(tmp_path / "x"),))).plan(no_new_privileges=True)


def test_a_view_from_the_lists_to_the_kernel(tmp_path):
    needs_landlock()
    for name in ("open", "closed", "read"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name + "\n")
    paths = {name: (str(tmp_path / name),) for name in ("open", "closed", "read")}
    view = View(read_only_paths=paths["read"], inaccessible_paths=paths["closed"])
    plan = Confinement(no_new_privileges=True, view=view).plan(no_new_privileges=False)
    script = """
        exec 2> /dev/null
        cat open/file; echo more >> open/file && echo written
        cat read/file; echo more >> read/file || echo not written
        cat closed/file || echo not read
        ls closed || echo not listed
    """
    said, report = bounce({**plan, "cwd": os.fsencode(tmp_path)}, "sh", "-c", script)
    assert report is None
    assert said.splitlines() == ["open", "written", "read", "not written", "not read", "not listed"]


def test_what_mcpd_gives_up_holds_for_its_children_and_every_thread():
    script = """
import subprocess, threading
from mcpd.supervisor.confinement import give_up_new_privileges, has_no_new_privileges
release = threading.Event()
early = threading.Thread(target=release.wait)
early.start()
before = has_no_new_privileges()
give_up_new_privileges()
meanwhile = has_no_new_privileges()
release.set()
early.join()
words = subprocess.run(["grep", "NoNewPrivs", "/proc/self/status"], capture_output=True, text=True).stdout.split()
print(before, meanwhile, has_no_new_privileges(), words[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    inherited = has_no_new_privileges()
    assert done.stdout.split() == [str(inherited), str(inherited), "True", "1"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
async def test_a_child_of_another_user(tmp_path, nursery):
    supervisor = Supervisor(tmp_path / "state")
    await nursery.start(supervisor.run)
    env = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/mine"}
    script = "id -nu; pwd; echo $HOME $USER $LOGNAME $SHELL; trap 'exit 9' TERM; cat; kill -STOP $$"
    argv = ("sh", "-c", script)
    spec = ChildSpec("other", argv, env, cwd="/", confinement=Confinement(user="nobody"), stop=StopLadder(0.1, 20, 20))
    child = await supervisor.spawn(spec)
    said = b""
    while said.count(b"\n") < 3:
        said += await child.stdout.receive_some()
    entry = pwd.getpwnam("nobody")
    assert said.decode() == f"nobody\n/\n{entry.pw_dir} nobody nobody /bin/mine\n"
    assert (await child.stop()).code == 9, "it can be continued and told to end"


@pytest.mark.skipif(os.getuid() != 0, reason="root that lost its capabilities stands for another user")
def test_to_become_somebody_else_needs_root():
    plan = Confinement(user="nobody").plan(no_new_privileges=True)
    through = ["setpriv", "--bounding-set=-setuid,-setgid"]
    assert bounce(plan, "true", through=through)[1] == ("user", errno.EPERM, b"")
    failure = name_failure(LaunchFailed("user", errno.EPERM, ""), ("server",), env={}, cwd=None)
    assert str(failure) == (
        "'server' could not be started: it cannot become its user and group: Operation not permitted "
        "(mcpd must run as root for this, or have CAP_SETUID and CAP_SETGID)"
    )
    assert failure.needs_operator


def test_no_core_is_left_of_a_process_that_says_so():
    script = (
        "import ctypes\n"
        "from mcpd.supervisor.confinement import leave_no_core\n"
        "dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "before = dumpable()\n"
        "leave_no_core()\n"
        "print(before, dumpable())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1 0\n"


def test_a_path_that_is_a_link_which_it_can_have_made_is_named(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "link").symlink_to("/etc")
    view = View(("/",), (str(tmp_path / "own"), str(tmp_path / "own" / "link")))
    with pytest.raises(SpawnFailed, match=r"'.*/own/link' of its paths leads to '/etc', by a link") as caught:
        Confinement(view=view).plan(no_new_privileges=True)
    assert caught.value.needs_operator
