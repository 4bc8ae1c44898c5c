"""The unit files say what systemd understands, and what mcpd means.

Nothing is started here: `python -m tests.systemd` runs them under a real systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mcpd.config.model import Config
from mcpd.config.options import EX_USAGE
from mcpd.config.shape import seconds
from mcpd.daemon import STOPPING
from mcpd.errors import ConfigError, McpdError

UNITS = Path(__file__).parent.parent / "systemd"
SYSTEM = ("mcpd.service", "mcpd.socket", "mcpd-control.socket")
COMPLAINT = re.compile(r"mcpd|Unknown key|Failed to parse", re.IGNORECASE)
"""What systemd does not understand is a warning that changes no exit status."""
EXPOSURE = 15
"""Tenths, as `systemd-analyze security` counts: what the service may still do is what its servers need."""


def settings(unit: str) -> dict[str, list[str]]:
    """Key → values in the order of the file; no key is in two sections."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def systemd(tool: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(cwd), "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run([tool, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("folder", ["", "user"])
def test_systemd_understands_every_line(folder, tmp_path):
    for unit in SYSTEM:
        text = (UNITS / folder / unit).read_text()
        # Not installed where this runs; whether it is there is not the question.
        (tmp_path / unit).write_text(re.sub(r"/usr/bin/mcp\w+", "/bin/true", text))
    user = ["--user"] if folder else []
    done = systemd("systemd-analyze", *user, "verify", "--man=no", *(f"./{unit}" for unit in SYSTEM), cwd=tmp_path)
    assert [line for line in done.stderr.splitlines() if COMPLAINT.search(line)] == []
    assert done.returncode == 0, done.stderr


def test_what_systemd_does_not_understand_is_seen(tmp_path):
    text = (UNITS / "mcpd.socket").read_text()
    (tmp_path / "mcpd.socket").write_text(text.replace("NoDelay=yes", "NoDelai=yes"))
    done = systemd("systemd-analyze", "verify", "--man=no", "./mcpd.socket", cwd=tmp_path)
    assert COMPLAINT.search(done.stderr), done.stderr


def test_the_service_is_confined(tmp_path):
    shutil.copy(UNITS / "mcpd.service", tmp_path)
    arguments = ("security", "--offline=true", f"--threshold={EXPOSURE}", "./mcpd.service")
    done = systemd("systemd-analyze", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_users_and_directories_are_made(tmp_path):
    (tmp_path / "etc").mkdir()
    root = f"--root={tmp_path}"
    done = systemd("systemd-sysusers", "--dry-run", UNITS / "mcpd.sysusers", cwd=tmp_path)
    assert "mcpd" in done.stderr + done.stdout
    if os.geteuid() != 0:
        pytest.skip("only root can make them")
    assert systemd("systemd-sysusers", root, UNITS / "mcpd.sysusers", cwd=tmp_path).returncode == 0
    (tmp_path / "etc/mcpd").mkdir(mode=0o755)
    (tmp_path / "etc/mcpd/mcpd.yaml").write_text("")
    done = systemd("systemd-tmpfiles", "--create", root, UNITS / "mcpd.tmpfiles", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    modes = {
        str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777
        for path in [*tmp_path.glob("etc/mcpd/**/*"), tmp_path / "etc/mcpd", tmp_path / "run/mcpd"]
    }
    assert modes == {"etc/mcpd": 0o750, "etc/mcpd/mcpd.yaml": 0o640, "etc/mcpd/credentials": 0o700, "run/mcpd": 0o755}


@pytest.mark.parametrize("folder", ["", "user/"])
def test_what_a_restart_cannot_mend_is_not_restarted(folder):
    service = settings(f"{folder}mcpd.service")
    kept_down = {int(word) for word in service["RestartPreventExitStatus"][0].split()}
    assert {EX_USAGE, ConfigError.exit_code} <= kept_down
    assert McpdError.exit_code not in kept_down
    assert service["Restart"] == ["always"]
    assert service["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("folder", ["", "user/"])
def test_systemd_is_more_patient_than_mcpd(folder):
    service = settings(f"{folder}mcpd.service")
    (patience,) = (seconds(value) for value in service["TimeoutStopSec"])
    assert patience > Config().shutdown.grace + STOPPING
    assert service["KillMode"] == ["mixed"]


@pytest.mark.parametrize("folder", ["", "user/"])
def test_both_kinds_of_sockets_reach_the_service_by_name(folder):
    names = {}
    for unit in SYSTEM[1:]:
        socket = settings(folder + unit)
        assert socket["Service"] == ["mcpd.service"]
        names[socket["FileDescriptorName"][0]] = socket["ListenStream"][0]
    assert names["http"] == "127.0.0.1:8080"
    assert names["control"].endswith("/mcpd/control.sock")
    assert settings(f"{folder}mcpd.service")["Sockets"] == [" ".join(SYSTEM[1:])]
