"""How samples become a table, and which targets count as met."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from benchmarks import results
from benchmarks.__main__ import main
from benchmarks.report import Row, Target, table, write_json
from benchmarks.sampling import Series, interleave


def test_ways_are_sampled_in_turns() -> None:
    order: list[str] = []

    def way(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleave(3, {"ours": lambda: way("ours"), "peer": lambda: way("peer")}, "ms")
    assert order == ["ours", "peer"] * 3
    assert found["ours"].samples == [1, 3, 5]
    assert found["peer"].median == 4


@pytest.mark.parametrize(("samples", "percent", "found"), [(range(1, 201), 99, 199), ([3, 1, 2], 99, 3), ([1], 50, 1)])
def test_percentiles(samples: list[float], percent: int, found: float) -> None:
    assert Series("ours", "ms", list(samples)).percentile(percent) == found


@pytest.mark.parametrize(
    ("target", "peer", "met"),
    [
        (Target("<=", 0.5), Series("peer", "ms", [10]), True),
        (Target("<=", 0.4), Series("peer", "ms", [10]), False),
        (Target(">=", 0.5), Series("peer", "ms", [10]), True),
        (Target("<=", 4), None, False),
        (Target("<=", 5), None, True),
        (None, Series("peer", "ms", [10]), None),
    ],
)
def test_a_target_bounds_the_ratio_or_the_figure(target: Target | None, peer: Series | None, met: bool | None) -> None:
    assert Row("T0", "work", Series("ours", "ms", [1, 5, 9]), peer, target).met is met


def test_the_table_shows_what_is_missed_and_the_file_every_sample(tmp_path: Path) -> None:
    rows = [
        Row("T1", "work", Series("ours", "ms", [4, 6, 5]), Series("peer", "ms", [10]), Target("<=", 0.1)),
        Row("T2", "more work", Series("ours", "MB", [1234.5])),
    ]
    head, first, second = table(rows).splitlines()
    assert head.split()[:3] == ["id", "workload", "measured"]
    assert first.split() == ["T1", "work", "5", "ms", "[4,", "6]", "peer", "10", "0.50", "x", "<=", "0.1", "x", "NO"]
    assert second.split() == ["T2", "more", "work", "1,234", "MB"]
    write_json(tmp_path / "rows.json", {"short": True}, rows)
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["short"] is True
    assert written["rows"][0]["samples"] == [4, 6, 5]
    assert written["rows"][0]["peer"] == {"name": "peer", "figure": 10, "samples": [10]}
    assert written["rows"][1]["met"] is None


def test_an_unknown_measure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--only", "T1,T99"])
    assert raised.value.code == 2
    assert "T99: not one of" in capsys.readouterr().err


def test_the_command_stands_by_itself() -> None:
    """Not so in this process, where Django has been set up by the tests."""
    command = [sys.executable, "-m", "benchmarks", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=settings.BASE_DIR)
    assert (told.returncode, told.stderr) == (0, "")
    assert "--only" in told.stdout


def test_runs_stand_side_by_side_in_the_docs(tmp_path: Path) -> None:
    target = Target("<=", 0.5)
    for number, (ours, peer) in enumerate([(4.0, 10.0), (6.0, 10.0)]):
        rows = [
            Row("T1", "line", Series("ours", "ms", [ours]), Series("chain", "ms", [peer]), target),
            Row("T7", "memory", Series("ours", "MB", [1234.5]), target=Target("<=", 400)),
        ]
        facts = {"machine": {"cores": 2, "python": "3", "packages": {"django": "5"}}, "repeat": 1}
        write_json(tmp_path / f"{number}.json", facts, rows)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    assert results.main([str(tmp_path / "0.json"), str(tmp_path / "1.json"), "--page", str(page)]) == 0
    before, _, told, _, head, _, line, memory, end, after = page.read_text().splitlines()
    assert (before, end, after) == ("before", "<!-- results: end -->", "after")
    assert told == "2 runs of 1 samples on 2 cores with Python 3, django 5."
    assert head.startswith("| id | workload |")
    assert line == "| T1 | line | 4 / 6 ms | chain | 10 / 10 | 0.40 / 0.60 | <= 0.5 x | not always |"
    assert memory == "| T7 | memory | 1,234 / 1,234 MB |  |  |  | <= 400 | no |"
