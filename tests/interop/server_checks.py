"""Checks of single servers: at least one tool of each is called, and what comes back is looked at."""

from __future__ import annotations

import base64
import datetime
import json
from typing import TYPE_CHECKING

from tests.interop.place import COMMIT, MARK, PAGE_TEXT, SECRET
from tests.interop.visit import expect

if TYPE_CHECKING:
    from tests.interop.visit import Visit

CLOCK_MARGIN = 300.0
"""Seconds that a server's clock may differ from ours; it is the same machine's."""


async def check_everything(visit: Visit) -> None:
    client = visit.client
    message = f"{visit.tag} äöü ☃ \U0001f40d"
    expect(await client.text("everything_echo", message=message) == f"Echo: {message}", "the echo differs")
    total = await client.text("everything_get-sum", a=2, b=40)
    expect("42" in total, f"2 + 40 is {total}")
    weather = await client.call("everything_get-structured-content", location="New York")
    expect(weather["structuredContent"]["humidity"] == 82, f"structured content is {weather}")
    blocks = (await client.call("everything_get-tiny-image"))["content"]
    images = [base64.b64decode(block["data"]) for block in blocks if block["type"] == "image"]
    expect(len(images) == 1 and images[0].startswith(b"\x89PNG"), f"no picture among {len(blocks)} blocks")
    links = (await client.call("everything_get-resource-links", count=2))["content"]
    expect(sum(block["type"] == "resource_link" for block in links) == 2, f"links are {links}")


async def check_environment(visit: Visit) -> None:
    """A server sees the variables configured for it, and mcpd's own only as far as it needs them."""
    variables = json.loads(await visit.client.text("everything_get-env"))
    expect(variables.get(MARK) == str(visit.place.folder), f"{MARK} is {variables.get(MARK)}")
    expect(SECRET not in variables, f"{SECRET} of mcpd's own environment reached the server")


async def check_filesystem(visit: Visit) -> None:
    client, files = visit.client, visit.place.files
    path = str(files / f"{visit.tag}.txt")
    text = f"written by {visit.tag}: 'quotes', = and äöü"
    await client.text("filesystem_write_file", path=path, content=text)
    expect((files / f"{visit.tag}.txt").read_text() == text, "the file on disk differs")
    expect(await client.text("filesystem_read_text_file", path=path) == text, "the text read differs")
    listed = await client.text("filesystem_list_directory", path=str(files))
    expect(f"{visit.tag}.txt" in listed, f"the directory has {listed}")
    refused = await client.call("filesystem_read_text_file", path=str(visit.place.config))
    said = json.dumps(refused["content"])
    expect(refused.get("isError") and "denied" in said.lower(), f"a file outside gave {said}")


async def check_memory(visit: Visit) -> None:
    entity = {"name": visit.tag, "entityType": "client", "observations": ["was here"]}
    await visit.client.text("memory_create_entities", entities=[entity])
    graph = json.loads(await visit.client.text("memory_read_graph"))
    expect(visit.tag in {each["name"] for each in graph["entities"]}, f"the graph is {graph}")


async def check_thinking(visit: Visit) -> None:
    thought = {"thought": visit.tag, "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1}
    answer = json.loads(await visit.client.text("thinking_sequentialthinking", **thought))
    expect(answer["thoughtNumber"] == 1 and answer["totalThoughts"] == 1, f"the answer is {answer}")


async def check_time(visit: Visit) -> None:
    now = json.loads(await visit.client.text("time_get_current_time", timezone="Etc/UTC"))
    told = datetime.datetime.fromisoformat(now["datetime"])
    off = abs((datetime.datetime.now(datetime.UTC) - told).total_seconds())
    expect(off < CLOCK_MARGIN, f"the time is {now}")
    places = {"source_timezone": "Asia/Tokyo", "target_timezone": "Etc/UTC"}
    converted = json.loads(await visit.client.text("time_convert_time", time="12:00", **places))
    expect("T03:00" in converted["target"]["datetime"], f"noon in Tokyo is {converted}")


async def check_git(visit: Visit) -> None:
    repository = str(visit.place.repository)
    status = await visit.client.text("git_git_status", repo_path=repository)
    expect("draft.txt" in status, f"the status is {status}")
    log = await visit.client.text("git_git_log", repo_path=repository)
    expect(COMMIT in log, f"the log is {log}")


async def check_fetch(visit: Visit) -> None:
    text = await visit.client.text("fetch_fetch", url=visit.place.page_url)
    expect(PAGE_TEXT in text, f"the page is {text}")


async def check_playwright(visit: Visit) -> None:
    """A harmless tool; on a machine without a browser the result says how to install one."""
    closed = await visit.client.call("playwright_browser_close")
    said = "".join(block.get("text", "") for block in closed["content"])
    known = "playwright install" in said if closed.get("isError") else said.startswith("###")
    expect(known, f"it says {said}")


async def check_sqlite(visit: Visit) -> None:
    client = visit.client
    await client.text("sqlite_create_table", query=f"CREATE TABLE {visit.tag} (name TEXT, weight INTEGER)")
    await client.text("sqlite_write_query", query=f"INSERT INTO {visit.tag} VALUES ('heron', 1500)")
    rows = await client.text("sqlite_read_query", query=f"SELECT name, weight FROM {visit.tag}")
    expect("heron" in rows and "1500" in rows, f"the rows are {rows}")
