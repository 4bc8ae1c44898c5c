"""A notebook, kept while the process runs: resources, a template, prompts, completion, changes announced.

Run it with `python -m mcpd.demo.notes`.
"""

from __future__ import annotations

import threading
from urllib.parse import quote

from mcpd.demo.call import JSON, Call, ToolError
from mcpd.demo.offer import Documents
from mcpd.demo.stdio_server import Server

SCHEME = "notes://"
MAX_NOTES = 1000
MAX_TITLE = 100
MAX_TEXT = 64 * 1024
"""Characters of one note: all notes together stay below 64 MiB."""
DRAFT_TOKENS = 400

server = Server(
    "notes",
    title="Notes",
    instructions=(
        "A notebook for this session. Notes are resources (notes://<title>) that can be read and watched; "
        "tools add, extend, find and delete them. All is gone when the server stops."
    ),
)

# Title → text. Tools run in threads of their own, so every access holds the lock.
notes: dict[str, str] = {
    "welcome": "This notebook lives in the memory of the notes server. Add a note and see the list change.",
    "ideas": "Subscribe to a note, then append to it.",
}
lock = threading.Lock()

TITLE: JSON = {"type": "string", "description": "Title of the note", "maxLength": MAX_TITLE}
TEXT: JSON = {"type": "string", "description": "Text of the note", "maxLength": MAX_TEXT}


def uri_of(title: str) -> str:
    return SCHEME + quote(title, safe="")


def link_to(title: str) -> JSON:
    return {"type": "resource_link", "uri": uri_of(title), "name": title, "mimeType": "text/plain"}


def entries() -> list[JSON]:
    with lock:
        return [
            {
                "uri": uri_of(title),
                "name": title,
                "title": title,
                "description": text[:80],
                "mimeType": "text/plain",
                "size": len(text.encode()),
            }
            for title, text in notes.items()
        ]


def read(uri: str) -> JSON | None:
    with lock:
        for title, text in notes.items():
            if uri == uri_of(title):
                return {"uri": uri, "mimeType": "text/plain", "text": text}
    return None


def text_of(title: str) -> str:
    """Raises: ToolError that names the notes there are."""
    with lock:
        if title not in notes:
            raise ToolError(f"there is no note {title!r}; there is {', '.join(list(notes)[:20]) or 'none'}")
        return notes[title]


@server.tool(
    "add_note",
    "Adds a note, or replaces the text of the one with that title.",
    title="Add a note",
    inputs={"title": TITLE, "text": TEXT},
    destructiveHint=True,
    idempotentHint=True,
    openWorldHint=False,
)
def add_note(call: Call, title: str, text: str) -> list[JSON]:
    return keep(call, title, text)


def keep(call: Call, title: str, text: str) -> list[JSON]:
    if not title.strip():
        raise ToolError("a note needs a title")
    with lock:
        known = title in notes
        if not known and len(notes) >= MAX_NOTES:
            raise ToolError(f"the notebook is full ({MAX_NOTES} notes); delete some")
        notes[title] = text
    call.log("info", f"note {title!r} {'replaced' if known else 'added'}")
    if known:
        server.announce_document(uri_of(title))
    else:
        server.announce_list()
    return [{"type": "text", "text": f"{'Replaced' if known else 'Added'} {title!r}."}, link_to(title)]


@server.tool(
    "append_to_note",
    "Adds a line at the end of a note that exists.",
    title="Append to a note",
    inputs={"title": TITLE, "text": TEXT},
    destructiveHint=False,
    openWorldHint=False,
)
def append_to_note(call: Call, title: str, text: str) -> list[JSON]:
    longer = f"{text_of(title)}\n{text}"
    if len(longer) > MAX_TEXT:
        raise ToolError(f"the note would be longer than {MAX_TEXT} characters; start another")
    return keep(call, title, longer)


@server.tool(
    "find_notes",
    "Finds the notes that contain some words, in their title or text. Without words it finds all.",
    title="Find notes",
    inputs={"words": {"type": "string", "description": "What to look for", "maxLength": 200}},
    required=[],
    output={"titles": {"type": "array", "items": {"type": "string"}}, "count": {"type": "integer"}},
    readOnlyHint=True,
    openWorldHint=False,
)
def find_notes(call: Call, words: str = "") -> JSON:
    wanted = words.lower().split()
    with lock:
        found = [t for t, text in notes.items() if all(w in f"{t}\n{text}".lower() for w in wanted)]
    return {"titles": found, "count": len(found)}


@server.tool(
    "delete_note",
    "Deletes a note.",
    title="Delete a note",
    inputs={"title": TITLE},
    destructiveHint=True,
    openWorldHint=False,
)
def delete_note(call: Call, title: str) -> str:
    text_of(title)
    with lock:
        notes.pop(title, None)
    server.announce_list()
    return f"Deleted {title!r}."


@server.tool(
    "draft_note",
    "Has the client's own model draft a short note on a topic, and adds it.",
    title="Draft a note",
    inputs={"title": TITLE, "topic": {"type": "string", "description": "What to write on", "maxLength": 500}},
    destructiveHint=True,
    openWorldHint=False,
)
def draft_note(call: Call, title: str, topic: str) -> list[JSON]:
    draft = call.sample(f"Write a note of at most five sentences on: {topic}", DRAFT_TOKENS)
    return keep(call, title, draft[:MAX_TEXT])


@server.prompt(
    "summarize_note",
    "Asks for a summary of one note.",
    title="Summarize a note",
    arguments={"note": "Title of the note"},
)
def summarize_note(note: str) -> str:
    with lock:
        text = notes.get(note, "(there is no such note)")
    return f"Summarize this note in one sentence.\n\n# {note}\n\n{text}"


@server.prompt("review_notes", "Asks for a review of the whole notebook.", title="Review all notes", arguments={})
def review_notes() -> str:
    with lock:
        listed = "\n".join(f"- {title}: {text[:200]}" for title, text in notes.items())
    return f"These are my notes. What belongs together, and what is missing?\n\n{listed}"


def complete(reference: str, argument: str, typed: str) -> list[str] | None:
    if (reference, argument) not in (("summarize_note", "note"), (SCHEME + "{title}", "title")):
        return None
    with lock:
        return [title for title in notes if title.startswith(typed)]


server.serve_documents(
    Documents(
        entries,
        read,
        [
            {
                "uriTemplate": SCHEME + "{title}",
                "name": "note",
                "title": "A note",
                "description": "The note with a title",
                "mimeType": "text/plain",
            }
        ],
    )
)
server.serve_completion(complete)


if __name__ == "__main__":
    server.run()
