"""The manual pages have every key and every option, and mandoc finds them clean."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mcpd.config.options import parser
from mcpd.config.shape import load_schema, octets, seconds

MAN = Path(__file__).parents[2] / "man"
SCHEMA = load_schema()
SERVER = SCHEMA["$defs"]["server"]["properties"]
MAPS = {
    "Top level": SCHEMA["properties"],
    **{
        key: SCHEMA["properties"][key]["properties"]
        for key in ("listen", "naming", "limits", "streams", "shutdown", "caching", "control", "log", "audit")
    },
    "mcpServers": SERVER,
    **{key: SERVER[key]["properties"] for key in ("timeouts", "restart", "stop", "tls", "resources", "sandbox")},
}


def _entries(title):
    page = (MAN / "mcpd.yaml.5").read_text()
    part = re.split(r"^\.S[sh] ", page.split(f"\n.Ss {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    return dict(re.findall(r"^\.It Ic (\S+) : (.*?)(?=^\.It|^\.El)", part, flags=re.M | re.S))


@pytest.mark.parametrize("title", MAPS)
def test_every_key_is_in_the_manual_with_its_default(title):
    entries = _entries(title)
    sections = {key for key, entry in MAPS[title].items() if "properties" in entry and title == "Top level"}
    assert set(entries) == set(MAPS[title]) - sections
    for key, text in entries.items():
        entry = MAPS[title][key]
        default = entry.get("default")
        told = re.search(r"^Default:\n\.Li (\S+) \.$", text, flags=re.M)
        if default in (None, "", [], {}) and default is not False:
            assert told is None, key
            continue
        assert told is not None, key
        kind = entry.get("$ref", "").rpartition("/")[2]
        if kind == "duration":
            assert seconds(told[1]) == default, key
        elif kind == "size":
            assert octets(told[1]) == default, key
        else:
            assert told[1] == str(default).lower(), key
        for choice in entry.get("enum", []):
            assert choice in text, key


def test_every_option_is_in_the_manual():
    page = (MAN / "mcpd.8").read_text()
    options = {option for action in parser("1")._actions for option in action.option_strings}
    documented = re.findall(r"^\.It (Fl .*)$", page, flags=re.M)
    assert {"-" + flag for line in documented for flag in re.findall(r"Fl (-?[a-z-]+)", line)} == options
    for action in parser("1")._actions:
        for choice in action.choices or ():
            assert re.search(rf"Cm {choice}\b", page), choice


@pytest.mark.parametrize("page", sorted(path.name for path in MAN.iterdir()))
def test_mandoc_finds_nothing(page):
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run([mandoc, "-T", "lint", MAN / page], capture_output=True, text=True, check=False)
    # A page that is not installed yet cannot be found by the one that refers to it.
    faults = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert not faults
