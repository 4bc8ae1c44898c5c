"""Down-conversion: a message made fit for a peer whose protocol version is older than the message.

Theory of operation. Four tables of rows: an item of the protocol, what is done for versions that lack it,
where, and substrings without which there is nothing to do. From them a plan for each version is made once. An
object is taken apart one level at a time, its members staying the bytes they came as; if nothing had to be
done, the very object that came in is returned.

Rules.
1. Whatever is not converted survives byte for byte: unknown members, order, number spellings.
2. What has not the expected shape passes unchanged.
3. What has no older form is refused (`Untranslatable`) with an answer the asker can work with, never guessed.
4. Results for versions that have all of today's content (2025-06-18 on) are not looked at. Icons of resource
   links, which 2025-06-18 lacks, stay: an unknown member harms nobody, a scan of every result would.
5. A newer peer needs nothing done between versions with a handshake: a single block stays single, a missing
   `mode` stays missing.

Source: the change log of each version, and the field sets of its schema.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Final, TypeAlias

import msgspec

from mcpd.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from mcpd.protocol import blocks, versions
from mcpd.protocol.edits import (
    Edit,
    apply,
    array,
    dropping,
    each,
    here,
    members_or_none,
    put,
    text,
    within,
)
from mcpd.protocol.envelope import drop_envelope
from mcpd.protocol.jsonrpc import Buffer, Members, encode_members
from mcpd.protocol.sequence import join_array
from mcpd.protocol.versions import Feature, Version

MESSAGES_MAX: Final = 10_000
"""Messages that a sampling request may be split into; far beyond any conversation."""

SEARCHED_MAX: Final = 64 * 1024
"""Bytes of a text that is searched for what might have to be done; a larger one is taken apart sooner."""

CANCEL: Final = b'{"action":"cancel"}'


class Untranslatable(RpcError):
    """A request has no form in the client's version. `answer` is the result to give instead, if any."""

    def __init__(self, code: int, message: str, *, answer: bytes | None = None) -> None:
        super().__init__(code, message)
        self.answer = answer


def down_list_entry(kind: str, entry: Buffer, to: Version) -> Buffer:
    """An element of a list result; `kind` is its list member (tools, resources, …) or "implementation"."""
    return _convert(_ENTRY_PLANS, kind, entry, to)


def down_result(method: str, result: Buffer, to: Version) -> Buffer:
    """The result of `method` for a client of version `to`; the same object when nothing applies."""
    if to >= _RESULTS_UNTOUCHED_FROM:
        return result
    return _convert(_RESULT_PLANS, method, result, to)


def down_request(method: str, params: Buffer, to: Version) -> Buffer:
    """The params of a request in either direction, for a peer of version `to`. Raises: Untranslatable."""
    return _convert(_REQUEST_PLANS, method, params, to)


def down_notification(method: str, params: Buffer, to: Version) -> Buffer:
    """The params of a notification for a peer of version `to`."""
    return _convert(_NOTIFICATION_PLANS, method, params, to)


def drop_modern(content: Buffer) -> Buffer:
    """A result or params of 2026-07-28 without what only that version has, for any peer with a handshake.

    Apart from the tables: who holds such a message knows it, and no other has to be searched for this.
    """
    return apply(content, _drop_modern)


# ---- what only 2026-07-28 has

_drop_modern_members: Final = dropping("resultType", "ttlMs", "cacheScope", "inputResponses", "requestState")


def _drop_modern(members: Members) -> bool:
    return _drop_modern_members(members) | blocks.any_structured_to_text(members) | drop_envelope(members)


# ---- requests to the client


def _refuse_audio(block: Members) -> bool:
    if text(block, "type") == "audio":
        raise _cannot("be given audio to sample with", versions.AUDIO)
    return False


def _refuse_tools(params: Members) -> bool:
    if "tools" in params or "toolChoice" in params:
        raise _cannot("sample with tools", versions.SAMPLING_TOOLS)
    return False


def _refuse_tool_block(block: Members) -> bool:
    if text(block, "type") in ("tool_use", "tool_result"):
        raise _cannot("sample with tools", versions.SAMPLING_TOOLS)
    return False


def _split_messages(params: Members) -> bool:
    """A message of many blocks becomes as many messages of the same role."""
    messages = array(params, "messages")
    if messages is None:
        return False
    split: list[Buffer] = []
    changed = False
    for message in messages:
        members = members_or_none(message)
        contents = array(members, "content")
        if contents is None:
            split.append(message)
            continue
        changed = True
        split.extend(encode_members({**members, "content": block}) for block in contents)
        if len(split) > MESSAGES_MAX:
            raise Untranslatable(INVALID_PARAMS, f"a sampling request has more than {MESSAGES_MAX} messages")
    return changed and put(params, "messages", join_array(split))


def _refuse_elicitation(params: Members) -> bool:
    raise _cannot("be asked for input", versions.ELICITATION, code=METHOD_NOT_FOUND)


_drop_mode: Final = dropping("mode")
_drop_default: Final = dropping("default")


def _form_only(params: Members) -> bool:
    if text(params, "mode") == "url":
        raise _cannot("be sent to a URL", versions.ELICITATION_URL)
    return _drop_mode(params)


def _older_form(schema: Members) -> bool:
    properties = schema.get("properties")
    if properties is None:
        return False
    members = members_or_none(properties)
    changed = False
    for name, field in members.items():
        changed |= put(members, name, apply(field, _older_field))
    return changed and put(schema, "properties", encode_members(members))


def _older_field(schema: Members) -> bool:
    """One field of a form as 2025-06-18 can show it: defaults for booleans only, enums with `enumNames`."""
    kind = text(schema, "type")
    if kind == "array":
        raise _cannot("choose several values", versions.ENUM_SCHEMAS, answer=CANCEL)
    changed = kind != "boolean" and _drop_default(schema)
    options = array(schema, "oneOf")
    if options is None:
        return changed
    choices = [members_or_none(option) for option in options]
    if not all("const" in choice for choice in choices):
        return changed
    del schema["oneOf"]
    put(schema, "enum", join_array([choice["const"] for choice in choices]))
    return put(schema, "enumNames", join_array([choice.get("title", choice["const"]) for choice in choices]))


def _cannot(what: str, needs: Feature, *, code: int = INVALID_PARAMS, answer: bytes | None = None) -> Untranslatable:
    message = f"the client cannot {what}: its protocol version is older than {needs.since.text}"
    return Untranslatable(code, message, answer=answer)


# ---- the tables

Where: TypeAlias = Callable[..., Edit]
"""Takes edits of inner objects, makes an edit of the outer one."""


class Row(msgspec.Struct, frozen=True):
    """`edit` is applied for versions without `item`, if the text holds one of `marks`."""

    item: Feature
    edit: Edit
    marks: tuple[bytes, ...]
    where: Where = here


Table: TypeAlias = dict[str, tuple[Row, ...]]


def _arguments(*edits: Edit) -> Edit:
    return each("arguments", *edits)


def _content(*edits: Edit) -> Edit:
    return each("content", *edits)


def _contents(*edits: Edit) -> Edit:
    return each("contents", *edits)


def _messages(*edits: Edit) -> Edit:
    return each("messages", *edits)


def _message_content(*edits: Edit) -> Edit:
    return each("messages", within("content", *edits))


def _at(where: Where, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(msgspec.structs.replace(row, where=where) for row in rows)


_last_modified: Final = within("annotations", dropping("lastModified"))
_LAST_MODIFIED: Final = Row(versions.LAST_MODIFIED, _last_modified, (b'"lastModified"',))
_META: Final = Row(versions.ITEM_META, dropping("_meta"), (b'"_meta"',))
_ICONS: Final = Row(versions.ICONS, dropping("icons"), (b'"icons"',))
_TITLE: Final = Row(versions.TITLE, dropping("title"), (b'"title"',))
_TASK: Final = Row(versions.TASKS, dropping("task"), (b'"task"',))

ENTRIES: Final[Table] = {
    "tools": (
        _ICONS,
        _TITLE,
        _META,
        Row(versions.TASKS, dropping("execution"), (b'"execution"',)),
        Row(versions.ANY_STRUCTURED, blocks.drop_any_output_schema, (b'"outputSchema"',)),
        Row(versions.STRUCTURED, dropping("outputSchema"), (b'"outputSchema"',)),
        Row(versions.TOOL_ANNOTATIONS, dropping("annotations"), (b'"annotations"',)),
    ),
    "resources": (_ICONS, _TITLE, _META, _LAST_MODIFIED),
    "resourceTemplates": (_ICONS, _TITLE, _META, _LAST_MODIFIED),
    "prompts": (_ICONS, _TITLE, _META, *_at(_arguments, (_TITLE,))),
    "implementation": (
        _ICONS,
        _TITLE,
        Row(
            versions.IMPLEMENTATION_DETAILS,
            dropping("description", "websiteUrl"),
            (b'"description"', b'"websiteUrl"'),
        ),
    ),
}
"""Elements of lists by their list member, and `clientInfo` or `serverInfo`."""

_BLOCK: Final = (
    Row(versions.RESOURCE_LINK, blocks.link_to_text, (b'"resource_link"',)),
    Row(versions.AUDIO, blocks.audio_to_resource, (b'"audio"',)),
    _META,
    Row(versions.ITEM_META, within("resource", dropping("_meta")), (b'"_meta"',)),
    _LAST_MODIFIED,
)

RESULTS: Final[Table] = {
    "tools/call": (
        # Before the blocks: a link that has become text does not hold the JSON.
        Row(versions.STRUCTURED, blocks.structured_to_text, (b'"structuredContent"',)),
        *_at(_content, _BLOCK),
    ),
    "prompts/get": _at(_message_content, _BLOCK),
    "resources/read": _at(_contents, (_META,)),
    "completion/complete": (),
}

REQUESTS: Final[Table] = {
    "tools/call": (_TASK,),
    "completion/complete": (Row(versions.COMPLETION_CONTEXT, dropping("context"), (b'"context"',)),),
    "sampling/createMessage": (
        _TASK,
        Row(versions.SAMPLING_TOOLS, _refuse_tools, (b'"tools"', b'"toolChoice"')),
        Row(versions.SAMPLING_TOOLS, _split_messages, (b"[",)),
        Row(versions.SAMPLING_TOOLS, dropping("_meta"), (b'"_meta"',), _messages),
        Row(versions.SAMPLING_TOOLS, _refuse_tool_block, (b'"tool_use"', b'"tool_result"'), _message_content),
        Row(versions.AUDIO, _refuse_audio, (b'"audio"',), _message_content),
        *_at(_message_content, (_META, _LAST_MODIFIED)),
    ),
    "elicitation/create": (
        _TASK,
        Row(versions.ELICITATION, _refuse_elicitation, (b"",)),
        Row(versions.ELICITATION_URL, _form_only, (b'"mode"',)),
        Row(
            versions.ENUM_SCHEMAS,
            within("requestedSchema", _older_form),
            (b'"array"', b'"default"', b'"oneOf"'),
        ),
    ),
}

NOTIFICATIONS: Final[Table] = {
    "notifications/progress": (Row(versions.PROGRESS_MESSAGE, dropping("message"), (b'"message"',)),),
}


# ---- their execution


class _Plan(msgspec.Struct, frozen=True):
    """What a table means for one version."""

    edits: tuple[Edit, ...]
    marks: tuple[bytes, ...]


_Plans: TypeAlias = dict[str, tuple[_Plan | None, ...]]


def _plan(rows: tuple[Row, ...], to: Version) -> _Plan | None:
    rows = tuple(row for row in rows if to not in row.item)
    if not rows:
        return None
    # Rows for the same inner objects are applied in one pass over them.
    groups = groupby(rows, key=lambda row: row.where)
    edits = tuple(where(*(row.edit for row in group)) for where, group in groups)
    return _Plan(edits, tuple(dict.fromkeys(mark for row in rows for mark in row.marks)))


def _plans(table: Table) -> _Plans:
    return {name: tuple(_plan(rows, version) for version in Version) for name, rows in table.items()}


_ENTRY_PLANS: Final = _plans(ENTRIES)
_RESULT_PLANS: Final = _plans(RESULTS)
_REQUEST_PLANS: Final = _plans(REQUESTS)
_NOTIFICATION_PLANS: Final = _plans(NOTIFICATIONS)
_RESULTS_UNTOUCHED_FROM: Final = max(row.item.since for rows in RESULTS.values() for row in rows)


def _convert(plans: _Plans, name: str, content: Buffer, to: Version) -> Buffer:
    by_version = plans.get(name)
    plan = by_version[to] if by_version is not None else None
    if plan is None:
        return content
    data = bytes(content)
    if len(data) > SEARCHED_MAX:
        return apply(content, *plan.edits)
    for mark in plan.marks:
        if mark in data:
            return apply(content, *plan.edits)
    # A name may be spelled with escapes; that is rare, and looked into rather than overlooked.
    return apply(content, *plan.edits) if b"\\u00" in data else content
