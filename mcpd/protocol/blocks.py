"""Content blocks and structured content, in forms that older clients know.

Each function is an `Edit`; `convert` says for which versions. Source: the content types of each version's
schema.
"""

from __future__ import annotations

from typing import Final

from mcpd.protocol.edits import array, become, members_or_none, put, quote, text
from mcpd.protocol.jsonrpc import Buffer, Members, encode_members
from mcpd.protocol.sequence import join_array

AUDIO_URI: Final = b'"mcpd://content/audio"'
"""What audio is called as an embedded resource, which must have a URI."""


def link_to_text(block: Members) -> bool:
    if text(block, "type") != "resource_link":
        return False
    line = f"{text(block, 'name') or 'resource'}: {text(block, 'uri') or ''}"
    description = text(block, "description")
    return become(block, "annotations", type=b'"text"', text=quote(f"{line} ({description})" if description else line))


def audio_to_resource(block: Members) -> bool:
    if text(block, "type") != "audio" or "data" not in block:
        return False
    resource: dict[str, Buffer] = {"uri": AUDIO_URI, "blob": block["data"]}
    if "mimeType" in block:
        resource["mimeType"] = block["mimeType"]
    return become(block, "annotations", type=b'"resource"', resource=encode_members(resource))


def structured_to_text(result: Members) -> bool:
    """The JSON goes into a text block unless there is text already: servers are asked to send both."""
    structured = result.pop("structuredContent", None)
    if structured is None:
        return False
    blocks = array(result, "content") if "content" in result else []
    if blocks is not None and not any(text(members_or_none(block), "type") == "text" for block in blocks):
        added = b'{"type":"text","text":%b}' % quote(bytes(structured).decode(errors="replace"))
        put(result, "content", join_array([*blocks, added]))
    return True


def any_structured_to_text(result: Members) -> bool:
    raw = result.get("structuredContent")
    return raw is not None and bytes(raw)[:1] != b"{" and structured_to_text(result)


def drop_any_output_schema(tool: Members) -> bool:
    """Before 2026-07-28 it must be of type object, and clients refuse a whole list for one that is not."""
    raw = tool.get("outputSchema")
    if raw is None or text(members_or_none(raw), "type") == "object":
        return False
    del tool["outputSchema"]
    return True
