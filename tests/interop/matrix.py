"""What a run found, as a table: a row for each check, a column for each client and transport."""

from __future__ import annotations

from dataclasses import dataclass, field

OK, FAILED, LEFT_OUT, MISSING = "ok", "FAILED", "-", ""


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
    first = max(map(len, [*shown, "agreed on"]), default=0)
    widths = [max(len(column.client), len(column.transport), len(column.version), len(FAILED)) for column in columns]

    def line(head: str, cells: list[str]) -> str:
        return f"{head:{first}}" + "".join(f"  {cell:{width}}" for cell, width in zip(cells, widths, strict=True))

    lines = [
        line("", [column.client for column in columns]),
        line("check", [column.transport for column in columns]),
        line("agreed on", [column.version for column in columns]),
        *(line(check, [column.cell(check) for column in columns]) for check in shown),
        line("seconds", [f"{column.seconds:.1f}" for column in columns]),
    ]
    for column in columns:
        lines += [f"FAILED {column.title} {check}: {reason}" for check, reason in column.failures.items()]
        lines += [f"note: {column.title}: {remark}" for remark in column.remarks]
    ways: dict[str, list[str]] = {}
    for column in columns:
        if column.reached:
            ways.setdefault(by_version(column.reached), []).append(column.title)
    for way, titles in ways.items():
        lines.append(f"servers reached: {way} ({'all' if len(ways) == 1 else ', '.join(titles)})")
    reasons: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for check, reason in column.left_out.items():
            checks_of = reasons.setdefault((column.client, reason), [])
            if check not in checks_of:
                checks_of.append(check)
    if reasons:
        lines.append(f"left out ({LEFT_OUT}), because the client cannot express it:")
        lines += [f"  {client} {', '.join(of)}: {reason}" for (client, reason), of in reasons.items()]
    return "\n".join(line.rstrip() for line in lines)


def by_version(reached: dict[str, str]) -> str:
    """`version: server, server; version: server`."""
    versions = sorted(set(reached.values()))
    return "; ".join(f"{v}: {', '.join(sorted(name for name in reached if reached[name] == v))}" for v in versions)
