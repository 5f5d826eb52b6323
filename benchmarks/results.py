"""`python -m benchmarks.results RUN.json...`: write what several runs have found into `docs/performance.md`.

Its table has the medians of each run side by side: what only one of them shows is not shown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import short

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN: Final = "<!-- results: begin -->"
END: Final = "<!-- results: end -->"
HEAD: Final = ("id", "workload", "measured", "peer", "peer's", "ratio", "target", "met")


def main(arguments: Sequence[str] | None = None) -> int:
    """Put the table between its marks. Returns: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN.json", help="what `make bench` wrote")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the marks")
    options = parser.parse_args(arguments)
    found = results([json.loads(file.read_text()) for file in options.runs])
    before, rest = options.page.read_text().split(BEGIN)
    options.page.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.split(END)[1]}")
    return 0


def results(runs: Sequence[dict[str, Any]]) -> str:
    """One table in Markdown, and what it was measured on. A row that not all runs have, has fewer figures."""
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        for row in run["rows"]:
            peer = row["peer"] or {"name": ""}
            rows.setdefault((row["id"], row["workload"], peer["name"], row["unit"]), []).append(row)
    lines = [HEAD, ("---",) * len(HEAD), *(_cells(key, same) for key, same in rows.items())]
    machine = runs[0]["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    told = (
        f"{len(runs)} runs of {runs[0]['repeat']} samples on {machine['cores']} cores with Python {machine['python']}, "
        f"{packages}."
    )
    return "\n".join([told, "", *(f"| {' | '.join(cells)} |" for cells in lines)])


def _cells(key: tuple[str, ...], same: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    name, workload, peer, unit = key
    bound = same[0]["target"]
    ratios = [row["ratio"] for row in same if row["ratio"] is not None]
    met = [row["met"] for row in same]
    return (
        name,
        workload,
        f"{_all(row['figure'] for row in same)} {unit}",
        peer,
        _all(row["peer"]["figure"] for row in same) if peer else "",
        " / ".join(f"{ratio:.2f}" for ratio in ratios),
        f"{bound['relation']} {bound['bound']:g}{' x' if peer else ''}" if bound else "",
        "" if met[0] is None else "yes" if all(met) else "no" if not any(met) else "not always",
    )


def _all(figures: Any) -> str:
    return " / ".join(map(short, figures))


if __name__ == "__main__":
    sys.exit(main())
