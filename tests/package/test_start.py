"""The environment in which the package is tried is hostile, and the Python is the one that was named."""

from __future__ import annotations

import subprocess
import sys

from package.start import poisoned_environment, set_python


def test_the_environment_is_one_that_a_careless_start_would_fall_for(tmp_path):
    environ = {**poisoned_environment(tmp_path / "run"), "PYTHONHOME": ""}
    done = subprocess.run([sys.executable, "-c", "import trio"], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "trio is not the one in the package\n")


def test_the_package_gets_the_python_that_is_named(tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/lib/mcpd").mkdir(parents=True)
    for python in ("/opt/a/python3", "/opt/b/python3"):
        set_python(tmp_path, python)
    assert str((tmp_path / "usr/bin/python3").readlink()) == "/opt/b/python3"
    assert (tmp_path / "usr/lib/mcpd/pyvenv.cfg").read_text().startswith("home = /opt/b\n")
