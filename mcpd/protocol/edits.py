"""Edits of JSON objects that stay bytes: the steps that `convert` is made of.

An `Edit` gets the members of one object, changes them in place and says whether it did. Members that no edit
names are never opened. What has not the expected shape is left alone: it is the receiver who judges it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
from msgspec import Raw

from mcpd.errors import ProtocolError
from mcpd.protocol.jsonrpc import Buffer, Members, encode_members, members_of
from mcpd.protocol.sequence import join_array, split_array

Edit: TypeAlias = Callable[[Members], bool]


def apply(content: Buffer, *edits: Edit) -> Buffer:
    """The object with the edits applied; the same one when none did anything or it is no object."""
    try:
        members = members_of(content)
    except (ProtocolError, UnicodeDecodeError):
        return content
    changed = False
    for edit in edits:
        changed |= edit(members)
    return encode_members(members) if changed else content


def dropping(*names: str) -> Edit:
    """Removes members."""

    def edit(members: Members) -> bool:
        found = [name for name in names if name in members]
        for name in found:
            del members[name]
        return bool(found)

    return edit


def here(*edits: Edit) -> Edit:
    """All the edits, one after the other."""

    def edit(members: Members) -> bool:
        changed = False
        for one in edits:
            changed |= one(members)
        return changed

    return edit


def within(name: str, *edits: Edit) -> Edit:
    """Edits the object that is a member."""

    def edit(members: Members) -> bool:
        old = members.get(name)
        return old is not None and put(members, name, apply(old, *edits))

    return edit


def each(name: str, *edits: Edit) -> Edit:
    """Edits every object in the array that is a member."""

    def edit(members: Members) -> bool:
        old = array(members, name)
        if old is None:
            return False
        new = [apply(element, *edits) for element in old]
        if all(mine is theirs for mine, theirs in zip(new, old, strict=True)):
            return False
        return put(members, name, join_array(new))

    return edit


def put(members: Members, name: str, value: Buffer) -> bool:
    """Sets a member, where it stands if it is there already; says whether it is another object now."""
    old = members.get(name)
    members[name] = value if isinstance(value, Raw) else Raw(value)
    return old is not value


def become(members: Members, *keep: str, **others: bytes) -> bool:
    """Empties an object but for the members to keep, and gives it others."""
    kept = {name: members[name] for name in keep if name in members}
    members.clear()
    for name, value in others.items():
        members[name] = Raw(value)
    members.update(kept)
    return True


def members_or_none(content: Buffer) -> Members:
    """The members of an object; none for anything else."""
    try:
        return members_of(content)
    except (ProtocolError, UnicodeDecodeError):
        return {}


def array(members: Members, name: str) -> list[Raw] | None:
    """The elements of a member that is an array, else None."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return split_array(raw)
    except ValueError:
        return None


def text(members: Members, name: str) -> str | None:
    """The value of a member that is a string, else None."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def quote(value: str) -> bytes:
    """A string as JSON text."""
    return msgspec.json.encode(value)
