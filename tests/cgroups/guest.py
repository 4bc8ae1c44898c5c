"""The virtual machine: an image with a kernel of its own, made once, and a second disk with this checkout.

Rules
1. The image is of Debian alone; what changes from run to run is on the second disk. Neither is written to.
2. It boots into one service that runs the tests and powers the machine off, whatever comes of them. Its second serial
   line is the result.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import uuid
from typing import TYPE_CHECKING

from tests.fixtures.peer import ROOT
from tests.packages import SetupError
from tests.systemd.machine import mirror

if TYPE_CHECKING:
    from pathlib import Path

CACHE = ROOT / ".cache" / "cgroups"
RELEASE = "bookworm"
PYTHON = (3, 11)
"""That release's."""
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "python3"),
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd"),
)
TOOLS = {"qemu-system-x86_64": ("qemu-system-x86", "ipxe-qemu", "seabios"), "mmdebstrap": ("mmdebstrap",)}
"""Program → Debian packages."""
FORM = 1
"""To be raised when what is done to the image changes."""
RESULT = "result.log"
MAKE_LIMIT = 900.0
"""Seconds for the image; two minutes are usual. Or for one installation."""

TESTS = (
    "tests/cgroups",
    "tests/supervisor/test_cgroup.py",
    "tests/supervisor/test_trampoline.py",
    "tests/supervisor/test_confinement.py",
    "tests/supervisor/test_view.py",
    "tests/e2e/test_confinement.py",
)
"""Also those that the machine outside can run: this kernel is another one, with the first version of much."""

UNIT = """\
[Unit]
Description=tests of mcpd
After=basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
Delegate=yes
TasksMax=infinity
ExecStart=/bin/sh /mcpd/run.sh
StandardOutput=file:/dev/ttyS1
StandardError=inherit

[Install]
WantedBy=multi-user.target
"""

SCRIPT = """\
# The tests are in a leaf of their own, so that controllers can be handed down from the service's cgroup.
own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
mkdir $own/tests
echo 0 > $own/tests/cgroup.procs
echo +memory +pids +cpu > $own/cgroup.subtree_control
export MCPD_TEST_CGROUP=$own PYTHONPATH=/mcpd/checkout:/mcpd/libraries HOME=/root LANG=C.UTF-8
uname -r
systemctl --version | head -1
cd /mcpd/checkout
python3 -m pytest -p no:cacheprovider -o addopts=-ra --strict-markers --color=no -q {arguments} 2>&1
status=$?
echo
echo exit $status
"""


def image() -> Path:
    """The folder with `root.ext4`, `vmlinuz` and `initrd.img`, made if it is not there. Blocks. Raises: SetupError."""
    _install_tools()
    key = hashlib.sha256(repr((RELEASE, PACKAGES, UNIT, FORM)).encode()).hexdigest()[:12]
    home = CACHE / key
    if home.is_dir():
        return home
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = CACHE / f"{uuid.uuid4().hex}.new"
    try:
        _make(fresh)
        for old in CACHE.glob("????????????"):
            shutil.rmtree(old)
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return home


def scenery(work: Path, arguments: list[str]) -> None:
    """Make the second disk: this checkout as it is, its libraries, and the script. Raises: SetupError."""
    tree = work / "tree"
    (tree / "checkout").mkdir(parents=True)
    listed = _run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    for name in filter(None, listed.split("\0")):
        target = tree / "checkout" / name
        if (ROOT / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    shutil.copytree(_libraries(), tree / "libraries")
    if sys.version_info[:2] == PYTHON:
        compileall.compile_dir(tree, quiet=2)  # in the machine this takes a minute
    words = arguments or list(TESTS)
    (tree / "run.sh").write_text(SCRIPT.replace("{arguments}", shlex.join(words)))
    _disk(tree, work / "checkout.ext4", "512M")


def machine(home: Path, work: Path) -> list[str]:
    """The command line that boots it and ends when it is off."""
    disk = "format=raw,if=virtio,snapshot=on"
    return [
        # Its clock counts instructions, and jumps where it has none to count: however busy the machine outside is, no
        # time limit inside is met for that.
        *("qemu-system-x86_64", "-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-rtc", "clock=vm"),
        *("-cpu", "max", "-m", "1024", "-smp", "1"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"),
        *("-drive", f"file={home / 'root.ext4'},{disk}", "-drive", f"file={work / 'checkout.ext4'},{disk}"),
        *("-kernel", str(home / "vmlinuz"), "-initrd", str(home / "initrd.img")),
        *("-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 net.ifnames=0"),
        *("-device", "virtio-rng-pci"),
        *("-serial", f"file:{work / 'console.log'}", "-serial", f"file:{work / RESULT}"),
    ]


def _make(home: Path) -> None:
    site = mirror()
    if site is None:
        raise SetupError("the sources of apt name no mirror of Debian")
    tree = home / "tree"
    home.mkdir()
    _run(["mmdebstrap", "--variant=minbase", "--quiet", f"--include={','.join(PACKAGES)}", RELEASE, str(tree), site])
    # An id of its own: without one systemd takes this for the first boot of a machine, and enables units.
    (tree / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    (tree / "etc/fstab").write_text("/dev/vdb /mcpd ext4 rw 0 0\n")
    (tree / "mcpd").mkdir()
    units = tree / "etc/systemd/system"
    (units / "mcpd-tests.service").write_text(UNIT)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/mcpd-tests.service").symlink_to("../mcpd-tests.service")
    for name in ("apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "serial-getty@ttyS0.service"):
        (units / name).symlink_to("/dev/null")
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(tree / name, home / name)
    _disk(tree, home / "root.ext4", "3G")
    shutil.rmtree(tree)


def _disk(tree: Path, file: Path, size: str) -> None:
    _run(["mkfs.ext4", "-q", "-d", str(tree), str(file), size])


def _libraries() -> Path:
    """What mcpd and pytest need, for the machine's Python, whatever runs this."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], "pytest>=8"]
    home = CACHE / f"libraries-{hashlib.sha256(repr(needed).encode()).hexdigest()[:12]}"
    if not home.is_dir():
        fresh = CACHE / f"{uuid.uuid4().hex}.new"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(fresh)]
        binary = [
            "--only-binary=:all:",
            "--python-version",
            ".".join(map(str, PYTHON)),
            "--platform",
            "manylinux2014_x86_64",
        ]
        try:
            _run([*pip, *binary, "--platform", "manylinux_2_28_x86_64", *needed])
            fresh.rename(home)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return home


def _install_tools() -> None:
    missing = sorted({package for tool, names in TOOLS.items() if shutil.which(tool) is None for package in names})
    if missing:
        install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
        try:
            _run(install)
        except SetupError:
            _run(["apt-get", "update"])
            _run(install)


def _run(argv: list[str]) -> str:
    # Debian's tools, and not what comes before them in a developer's PATH.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    environ["PATH"] = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=MAKE_LIMIT, check=False)
    if done.returncode:
        raise SetupError(f"{shlex.join(argv)[:200]} failed: {done.stderr[-2000:]}")
    return done.stdout
