"""The table of what was measured, beside what it must be."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """Rows, in the order of measuring."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, what: str, measured: str, must: str, *, well: bool) -> None:
        self.rows.append((what, measured, must, well))

    def none(self, what: str, found: list[object] | int) -> None:
        """Nothing of that must be left."""
        count = found if isinstance(found, int) else len(found)
        self.add(what, str(count), "0", well=not count)

    @property
    def well(self) -> bool:
        return all(row[3] for row in self.rows)

    def render(self) -> str:
        """For people; a miss is marked."""
        widths = [max(len(row[i]) for row in self.rows) for i in range(3)]
        lines = [
            f"{what:<{widths[0]}}  {measured:>{widths[1]}}  {must:<{widths[2]}}  {'ok' if well else 'MISS'}"
            for what, measured, must, well in self.rows
        ]
        return "\n".join(lines)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
