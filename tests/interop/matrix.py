"""What a run found, as tables: a row for each check, a column for each client and transport."""

from __future__ import annotations

from dataclasses import dataclass, field

OK, FAILED, LEFT_OUT, MISSING = "ok", "FAILED", "-", ""
HEADS = ("check", "agreed on", "seconds")
GAP = "  "
WIDTH = 118
"""Characters of a line of the table, where there is more than one column."""


@dataclass(slots=True)
class Column:
    """One client over one transport."""

    client: str
    transport: str
    failures: dict[str, str] = field(default_factory=dict)
    """Check → reason."""
    passed: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    version: str = ""
    """What the client and mcpd agreed on."""
    reached: dict[str, str] = field(default_factory=dict)
    """Server → the version in which mcpd reached it."""

    @property
    def title(self) -> str:
        return f"{self.client} {self.transport}"

    def cell(self, check: str) -> str:
        if check in self.failures:
            return FAILED
        if check in self.passed:
            return OK
        return LEFT_OUT if check in self.left_out else MISSING


def render(columns: list[Column], checks: list[str]) -> str:
    """The matrix, failures with their reasons, remarks, how the servers were reached, what was left out and why."""
    shown = [check for check in checks if any(column.cell(check) for column in columns)]
    lines = []
    for block in blocks(columns, max(map(len, [*shown, *HEADS]))):
        lines += [*table(block, shown), ""]
    for column in columns:
        lines += [f"FAILED {column.title} {check}: {reason}" for check, reason in column.failures.items()]
        lines += [f"note: {column.title}: {remark}" for remark in column.remarks]
    ways: dict[str, list[str]] = {}
    for column in columns:
        if column.reached:
            ways.setdefault(by_version(column.reached), []).append(column.title)
    for way, titles in ways.items():
        lines.append(f"servers reached: {way} ({'all' if len(ways) == 1 else ', '.join(titles)})")
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for column in columns:
        for check, reason in column.left_out.items():
            left, clients = reasons.setdefault(reason, ({}, {}))
            left[check] = clients[column.client] = None
    if reasons:
        lines.append(f"left out ({LEFT_OUT}), because the client cannot express it:")
        lines += [f"  {', '.join(left)}: {reason} ({', '.join(who)})" for reason, (left, who) in reasons.items()]
    return "\n".join(line.rstrip() for line in lines)


def blocks(columns: list[Column], first: int) -> list[list[Column]]:
    """The columns, as many side by side as there is room for beside the first one of that width."""
    found: list[list[Column]] = []
    room = 0
    for column in columns:
        if room < width(column) + len(GAP):
            found.append([])
            room = WIDTH - first
        found[-1].append(column)
        room -= width(column) + len(GAP)
    return found


def table(columns: list[Column], shown: list[str]) -> list[str]:
    first = max(map(len, [*shown, *HEADS]))

    def line(head: str, cells: list[str]) -> str:
        padded = (f"{cell:{width(column)}}" for cell, column in zip(cells, columns, strict=True))
        return GAP.join([f"{head:{first}}", *padded])

    return [
        line("", [column.client for column in columns]),
        line("check", [column.transport for column in columns]),
        line("agreed on", [column.version for column in columns]),
        *(line(check, [column.cell(check) for column in columns]) for check in shown),
        line("seconds", [f"{column.seconds:.1f}" for column in columns]),
    ]


def width(column: Column) -> int:
    return max(len(column.client), len(column.transport), len(column.version), len(FAILED))


def by_version(reached: dict[str, str]) -> str:
    """`version: server, server; version: server`."""
    versions = sorted(set(reached.values()))
    return "; ".join(f"{v}: {', '.join(sorted(name for name in reached if reached[name] == v))}" for v in versions)
