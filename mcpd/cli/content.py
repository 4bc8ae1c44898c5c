"""What comes of a request, for people: texts as they are, everything else by its kind and size."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from typing import TYPE_CHECKING, Final

from mcpd.cli.table import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mcpd.control.client import Body

KEPT: Final = frozenset("\n\t")
"""Control characters that a text may have on a terminal; to a file or a pipe it goes as it is."""


def show_blocks(blocks: Iterable[Body]) -> None:
    """Content blocks, one after the other."""
    for block in blocks:
        print(_said(_block(block)))


def show_contents(contents: Iterable[Body]) -> None:
    """The contents of a resource."""
    for each in contents:
        print(_said(_resource(each)))


def write(contents: Iterable[Body], path: Path) -> int:
    """Write texts and what is base64, decoded, to a file; returns how many bytes. Raises: OSError, ValueError."""
    data = b"".join(_bytes(each) for each in contents)
    path.write_bytes(data)
    return len(data)


def _said(text: str) -> str:
    """What a server says must not steer a terminal."""
    if not sys.stdout.isatty():
        return text
    return "".join(each if each in KEPT else printable(each) for each in text)


def _block(block: Body) -> str:
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind in ("image", "audio"):
        return f"[{kind} {block.get('mimeType', '')}, {_size(block.get('data'))}]"
    if kind == "resource_link":
        return f"[{block.get('name', 'resource')}: {block.get('uri', '')}]"
    if kind == "resource" and isinstance(block.get("resource"), dict):
        return _resource(block["resource"])
    return json.dumps(block, ensure_ascii=False)


def _resource(each: Body) -> str:
    if isinstance(each.get("text"), str):
        return str(each["text"])
    return f"[{each.get('uri', '')} {each.get('mimeType', '')}, {_size(each.get('blob'))}]"


def _size(data: object) -> str:
    try:
        return f"{len(base64.b64decode(str(data), validate=True))} bytes"
    except binascii.Error:
        return "not base64"


def _bytes(each: Body) -> bytes:
    text = each.get("text")
    if isinstance(text, str):
        return text.encode()
    return base64.b64decode(str(each.get("blob", each.get("data", ""))), validate=True)
