"""The package's copyright file, from what the libraries' wheels say of themselves."""

from __future__ import annotations

import json
import re
import zipfile
from typing import TYPE_CHECKING, NamedTuple

from package.wheels import metadata

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LICENCE_FILE = re.compile(r"[^/]+\.dist-info/(?:licenses/)?([^/]*(?:LICEN[CS]E|COPYING|NOTICE)[^/]*)", re.IGNORECASE)
PARTS_FILE = re.compile(r"[^/]+\.dist-info/sboms/[^/]+\.cyclonedx\.json")
"""What is linked into a compiled library, where its wheel says (PEP 770)."""
ON_DEBIAN = {"Apache License\n": "Apache-2.0"}
"""How a licence begins that every Debian system has a copy of: it is referred to, as Debian's policy wants."""
RULE = "-" * 78 + "\n"


class Notice(NamedTuple):
    """What one library says about its rights."""

    title: str
    licence: str
    home: str
    texts: list[str]
    parts: list[str]


def copyright_file(wheels: Iterable[Path]) -> str:
    """The text for /usr/share/doc/mcpd/copyright. `wheels`: of several for one library, any will do."""
    notices = {notice.title: notice for notice in map(read_notice, wheels)}
    head = (
        "This package holds mcpd and the Python libraries it needs, below /usr/lib/mcpd/lib.\n\n"
        "mcpd: the rights are with its authors; its source states no licence.\n\n"
        "The libraries have the licences below, as their own metadata says:\n\n"
    )
    table = "".join(f"  {notice.title}: {notice.licence}\n" for _, notice in sorted(notices.items()))
    return head + table + "\n" + "".join(render(notice) for _, notice in sorted(notices.items()))


def read_notice(path: Path) -> Notice:
    """What a wheel says."""
    head = metadata(path)
    home = head["Home-page"] or next(
        (
            line.partition(",")[2].strip()
            for line in head.get_all("Project-URL") or []
            if re.match(r"home|source", line, re.IGNORECASE)
        ),
        "",
    )
    classified = [line.rpartition(" :: ")[2] for line in head.get_all("Classifier") or [] if line.startswith("License")]
    licence = head["License-Expression"] or head["License"] or ", ".join(classified)
    texts, parts = [], []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if LICENCE_FILE.fullmatch(name):
                texts.append(licence_text(archive.read(name).decode()))
            elif PARTS_FILE.fullmatch(name):
                parts += [
                    f"{part['name']} {part['version']}: {' and '.join(map(licence_of, part.get('licenses', [])))}"
                    for part in json.loads(archive.read(name))["components"]
                ]
    return Notice(f"{head['Name']} {head['Version']}", licence.splitlines()[0], home, texts, parts)


def licence_of(entry: dict[str, object]) -> str:
    """An entry of CycloneDX: an expression, or a licence with an id or a name."""
    licence = entry.get("license")
    if isinstance(licence, dict):
        return str(licence.get("id") or licence.get("name"))
    return str(entry["expression"])


def licence_text(text: str) -> str:
    """The text, or where Debian has it."""
    for beginning, name in ON_DEBIAN.items():
        if text.lstrip().startswith(beginning):
            return f"The full text is in /usr/share/common-licenses/{name}.\n"
    return text.strip("\n") + "\n"


def render(notice: Notice) -> str:
    """One library's section."""
    home = f"{notice.home}\n" if notice.home else ""
    text = RULE + f"{notice.title}\n{home}Licence: {notice.licence}\n\n" + "\n".join(notice.texts) + "\n"
    if notice.parts:
        text += "Linked into it:\n\n" + "".join(f"  {part}\n" for part in notice.parts) + "\n"
    return text
