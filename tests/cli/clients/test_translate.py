from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcpd.cli.clients.forms import ANY, Entry, entries
from mcpd.cli.clients.texts import Missing
from mcpd.cli.clients.translate import name_of, translate
from mcpd.config.load import load
from tests.cli.clients.homes import SECRET, furnish


@pytest.fixture
def home(tmp_path):
    furnish(tmp_path, tmp_path / "project")
    return tmp_path


def table(home, file, name, **options):
    entry = next(each for each in entries(home / file) if each.name == name)
    return translate(entry, home, **options)


def entry(form: str, **members) -> Entry:
    return Entry("x", members, form, Path("/f"))


def test_claude_desktop_puts_nothing_into_its_texts(home):
    one = table(home, ".config/Claude/claude_desktop_config.json", "filesystem")
    assert one.table["args"][-1] == "/data/$${not-a-variable}"
    assert one.variables == set()
    money = table(home, ".config/Claude/claude_desktop_config.json", "money")
    assert money.table == {"command": "cost", "args": ["$5", "$$$$"], "env": {"PORT": "8080"}, "enabled": False}
    github = table(home, ".config/Claude/claude_desktop_config.json", "GitHub Tools")
    assert github.name == "GitHub-Tools"
    assert "'GitHub Tools' is no name for mcpd" in github.notes[0]


def test_claude_code(home):
    db = table(home, ".claude.json", "db")
    assert db.table == {
        "command": "uvx",
        "args": ["mcp-db"],
        "env": {"DB_URL": "${DB_URL}"},
        "timeouts": {"call_idle": 120.0},
    }
    assert db.variables == {"DB_URL"}
    asana = table(home, ".claude.json", "asana")
    assert asana.table == {
        "url": "https://mcp.asana.example/sse",
        "transport": "sse",
        "headers": {"X-Key": "${ASANA_KEY:-none}"},
    }
    sentry = table(home, ".claude.json", "sentry")
    assert sentry.table == {"url": "https://mcp.sentry.example/mcp", "transport": "streamable-http"}
    assert "OAuth" in sentry.notes[0]
    with pytest.raises(Missing, match="made by a program"):
        table(home, ".claude.json", "vault")


def test_servers_of_a_project_start_there(home):
    assert table(home, ".claude.json", "shop-api").table["cwd"] == "/home/alice/shop"
    docs = table(home, "project/.mcp.json", "docs").table
    assert docs["args"] == [f"{home}/project/docs.js"]
    assert docs["cwd"] == f"{home}/project"


def test_vscode(home):
    file = ".config/Code/User/mcp.json"
    with pytest.raises(Missing, match="asks for 'GitHub token'") as caught:
        table(home, file, "github")
    assert "--ask" in caught.value.remedy
    asked = []

    def answer(what, secret):
        asked.append((what, secret))
        return "t$${x}"

    github = table(home, file, "github", answer=answer)
    assert github.table == {
        "url": "https://api.githubcopilot.example/mcp/",
        "headers": {"Authorization": "Bearer t$$$${x}"},
    }
    assert asked == [("GitHub token", True)]
    assert table(home, file, "playwright").table == {"command": "npx", "args": ["-y", "@playwright/mcp@latest"]}
    assert table(home, file, "playwright").notes == []
    assert table(home, file, "mem").table == {
        "command": f"{home}/bin/mem",
        "env": {"MEM_FILE": "/home/alice/mem.json", "MEM_TOKEN": SECRET, "MEM_PRICE": "$$5 and $${more}"},
    }
    with pytest.raises(Missing, match="project of a window"):
        table(home, file, "local")
    assert table(home, file, "perplexity").table["env"] == {"KEY": "${PX_KEY}"}
    assert table(home, ".config/Code/User/settings.json", "old").table["transport"] == "sse"


def test_cursor(home):
    linear = table(home, ".cursor/mcp.json", "linear")
    assert linear.table["headers"] == {"Authorization": "Bearer ${LINEAR_KEY}"}
    assert linear.variables == {"LINEAR_KEY"}
    assert "OAuth" in table(home, ".cursor/mcp.json", "sso").notes[0]


def test_codex(home):
    assert table(home, ".codex/config.toml", "context7").table == {
        "command": "npx",
        "args": ["-y", "@upstash/context7-mcp"],
        "env": {"API_KEY": SECRET},
        "inherit_env": ["LOCAL_TOKEN", "OTHER"],
        "timeouts": {"init": 20, "call_idle": 45.5},
    }
    figma = table(home, ".codex/config.toml", "figma")
    assert figma.table == {
        "url": "https://mcp.figma.example/mcp",
        "transport": "streamable-http",
        "headers": {"X-Region": "us-east-1", "X-Team": "${FIGMA_TEAM}", "Authorization": "Bearer ${FIGMA_TOKEN}"},
    }
    assert figma.variables == {"FIGMA_TEAM", "FIGMA_TOKEN"}
    assert "choice of tools" in figma.notes[0]
    assert table(home, ".codex/config.toml", "off").table["enabled"] is False


def test_values_of_variables_can_be_put_in(home):
    filled = {"FIGMA_TEAM": "a${b}", "FIGMA_TOKEN": "t", "DB_URL": "d"}
    figma = table(home, ".codex/config.toml", "figma", filled=filled)
    assert figma.table["headers"]["X-Team"] == "a$${b}"
    assert figma.table["headers"]["Authorization"] == "Bearer t"
    assert figma.variables == set()
    assert table(home, ".claude.json", "asana", filled={}).table["headers"] == {"X-Key": "none"}
    with pytest.raises(Missing, match="LINEAR_KEY is not set here"):
        table(home, ".cursor/mcp.json", "linear", filled=filled)


def test_what_the_client_has_is_what_mcpd_starts(home, tmp_path):
    """Everything that can be imported is read by mcpd as the client reads it."""
    environ = {"DB_URL": "d$1", "PX_KEY": "p", "LINEAR_KEY": "l", "FIGMA_TEAM": "$${t}", "FIGMA_TOKEN": "f"}
    ready = {}
    for file in (
        ".config/Claude/claude_desktop_config.json",
        ".claude.json",
        ".config/Code/User/mcp.json",
        ".cursor/mcp.json",
        ".codex/config.toml",
    ):
        for each in entries(home / file):
            try:
                one = translate(each, home, answer=lambda what, secret: "answer")
            except Missing:
                continue
            ready.setdefault(one.name, one.table)
    config_file = tmp_path / "mcpd.json"
    config_file.write_text(json.dumps({"mcpServers": ready}))
    config = load(config_file, environ=environ)
    specs = {spec.name: spec for spec in config.servers}
    assert list(specs) == list(ready)
    assert specs["filesystem"].args[-1] == "/data/${not-a-variable}"
    assert specs["money"].args == ("$5", "$$")
    assert specs["mem"].env["MEM_PRICE"] == "$5 and ${more}"
    assert specs["db"].env == {"DB_URL": "d$1"}
    assert specs["asana"].headers == {"X-Key": "none"}
    assert specs["figma"].headers["X-Team"] == "$${t}"
    assert specs["github"].headers == {"Authorization": "Bearer answer"}
    assert specs["context7"].inherit_env == ("LOCAL_TOKEN", "OTHER")


def test_mcpds_own_files_are_understood(home):
    given = {
        "command": "x",
        "args": ["$${a}", "${file:/k}", "${B}", "${env:C}", "$"],
        "prefix": "p_",
        "disabled": False,
    }
    one = translate(entry(ANY, **given), home)
    assert one.table == {"command": "x", "args": ["$${a}", "${file:/k}", "${B}", "${C}", "$"], "prefix": "p_"}
    assert one.variables == {"B", "C"}


@pytest.mark.parametrize(
    ("form", "members", "why"),
    [
        ("cursor", {}, "neither a command nor a url"),
        ("cursor", {"command": "x", "args": [{}]}, "neither a text nor a number"),
        ("vscode", {"command": "${command:pick}"}, "only the client knows"),
        ("vscode", {"command": "x", "envFile": "/none/.env"}, "cannot be read"),
        ("codex", {"command": "x", "experimental_environment": "remote"}, "started elsewhere"),
    ],
)
def test_what_cannot_be_is_said(home, form, members, why):
    with pytest.raises(Missing, match=why):
        translate(entry(form, **members), home)


def test_what_is_not_known_is_told(home):
    assert translate(entry("cursor", command="x", wings=2), home).notes == ["not carried over: wings"]


def test_names_are_made_to_fit():
    assert (name_of("a b/c"), name_of("_x"), name_of("ok.1")) == ("a-b-c", "x", "ok.1")
    for name in ("", "日本", "--"):
        with pytest.raises(Missing):
            name_of(name)
