"""Where things go."""

from __future__ import annotations

import ast

from package.project import MINORS, ROOT, Project
from package.tree import HOME, SHARED, environment, launcher, libraries, programs
from tests.package.parts import COMPILED, make_wheel


def test_what_is_not_compiled_is_there_once_and_without_its_tests(tmp_path):
    pure = make_wheel(
        tmp_path,
        "pure",
        files={"pure/__init__.py": "", "pure/_tests/test_a.py": "", "@/RECORD": "", "@/licenses/LICENSE": ""},
    )
    compiled = make_wheel(tmp_path, "compiled", COMPILED, files={"compiled.so": ""})
    tree = libraries({11: [pure, compiled], 13: [pure]}, tmp_path)
    assert set(tree) == {
        f"{SHARED}/pure/__init__.py",
        f"{SHARED}/pure-1.0.dist-info/METADATA",
        f"{HOME}/lib/python3.11/site-packages/compiled.so",
        f"{HOME}/lib/python3.11/site-packages/compiled-1.0.dist-info/METADATA",
    }


def test_every_python_finds_what_is_shared():
    tree = environment(ROOT)
    for minor in MINORS:
        assert tree[f"{HOME}/lib/python3.{minor}/site-packages/shared.pth"].content == b"../../shared\n"
    assert f"{SHARED}/mcpd/config/schema.json" in tree
    assert not [path for path in tree if "__pycache__" in path]


def test_every_program_of_the_project_has_a_launcher():
    project = Project("1", (), {"mcpd": "mcpd.__main__:main", "other": "mcpd.other:run"})
    tree = programs(ROOT, project)
    assert set(tree) == {"usr/bin/mcpd", "usr/bin/other"}
    first, *rest = tree["usr/bin/other"].content.decode().splitlines()
    assert first == "#!/usr/lib/mcpd/bin/python3 -I"
    assert "from mcpd.other import run" in rest
    assert tree["usr/bin/other"].mode == 0o755


def test_nothing_is_left_to_fill_in():
    text = launcher((ROOT / "package/files/launcher").read_text(), "a.b:c", "/opt/python")
    ast.parse(text)
    assert "@" not in text
