"""`manage.py run` on a running platform: what it prints, and with which code it ends."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.inspection import query, run_json, told_events
from tests.support.platform import ROOT, Platform, running_platform, temporary_data_dir

HELLO = "examples/hello.yaml"
WEATHER = "examples/weather.yaml"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_playbook(workflow: str) -> str:
        file = tmp_path / "book.yaml"
        head = "apiVersion: noetl.io/v1\nkind: Playbook\nname: book\npath: tests/book\nworkflow:\n"
        file.write_text(head + workflow)
        return str(file)

    return write_playbook


def test_run_prints_one_document(platform: Platform) -> None:
    done = platform.manage("run", HELLO, "--wait", "--json")
    document = json.loads(done.stdout)
    assert document.pop("execution_id").isdigit()
    assert document == {
        "status": "completed",
        "result": {"loud": "HELLO, WORLD!", "quiet": "hello, world"},
        "steps": {"start": "success", "loud": "success", "quiet": "success", "end": "success"},
    }


@pytest.mark.parametrize("given", [("--payload", '{"name": "Ada"}'), ("--set", "name=Ada"), ("--set", 'name="Ada"')])
def test_a_payload_changes_the_workload(platform: Platform, given: tuple[str, str]) -> None:
    assert run_json(platform, HELLO, "--wait", *given)["result"]["quiet"] == "hello, Ada"


def test_a_registered_path_and_version_can_be_run(platform: Platform) -> None:
    platform.manage("register", HELLO)
    assert run_json(platform, "examples/hello", "--wait")["status"] == "completed"
    assert run_json(platform, "examples/hello:0.1.0", "--wait")["status"] == "completed"
    missing = platform.manage("run", "examples/hello:9.9.9", "--wait", check=False)
    assert (missing.returncode, missing.stdout) == (4, "")
    assert "9.9.9" in missing.stderr


def test_a_failed_execution_ends_with_20_and_its_cause(platform: Platform, write: Any) -> None:
    book = write("""
  - step: start
    next: bad
  - step: bad
    type: python
    code: |
      def main():
          raise ValueError("no luck")
    next: end
  - step: end
""")
    done = platform.manage("run", book, "--wait", "--json", check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 20
    assert (document["status"], document["steps"]) == ("failed", {"start": "success", "bad": "error"})
    assert (document["error"]["step"], document["error"]["message"]) == ("bad", "ValueError: no luck")
    [event] = [e for e in told_events(platform, document["execution_id"]) if e["event_type"] == "action_error"]
    assert event["error"]["code"] == "python_error"


def test_a_wait_that_is_over_ends_with_124_and_the_execution_goes_on(platform: Platform, write: Any) -> None:
    book = write("""
  - step: start
    next: nap
  - step: nap
    type: python
    code: |
      import time
      def main():
          time.sleep(30)
""")
    done = platform.manage("run", book, "--wait", "--json", "--timeout", "0.5", check=False)
    assert done.returncode == 124
    execution_id = json.loads(done.stdout)["execution_id"]
    assert "cancelled" in platform.manage("executions", "cancel", execution_id).stdout
    got = json.loads(platform.manage("executions", "get", execution_id, "--json").stdout)
    assert got["status"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("run", "no-such-file.yaml"), 4),
        (("run", "no/such/playbook"), 4),
        (("run", HELLO, "--payload", "{"), 2),
        (("run", HELLO, "--payload", "[1]"), 2),
        (("run", HELLO, "--set", "novalue"), 2),
        (("run",), 2),
        (("executions", "get", "1"), 4),
        (("executions", "get", "nonsense"), 4),
        (("register", "tests/playbooks/broken/unknown_target.yaml"), 5),
    ],
)
def test_exit_codes_of_mistakes(platform: Platform, arguments: tuple[str, ...], code: int) -> None:
    done = platform.manage(*arguments, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "" or arguments[0] == "register"


BROKEN = """apiVersion: noetl.io/v1
kind: Playbook
name: broken
path: tests/broken
workflow:
  - step: start
    next: nowhere
  - step: a
    type: python
    with: {x: "{{ 1 + }}"}
  - step: b
    type: python
    code: "def main(): return 1"
    type: python
"""


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (BROKEN, ["7:11 unknown_target", "8:5 missing_argument", "10:15 template_syntax", "14:5 duplicate_key"]),
        ("a:\n  - b\n c: d\n", ["3:2 yaml_syntax"]),
    ],
)
@pytest.mark.parametrize("command", ["validate", "register", "run"])
def test_a_broken_playbook_is_refused_with_every_place(
    platform: Platform, tmp_path: Path, command: str, text: str, problems: list[str]
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    before = query(platform, "SELECT count(*) FROM catalog")
    done = platform.manage(command, str(file), check=False)
    told = (done.stdout + done.stderr).splitlines()
    errors = [line.removeprefix(f"{file}:").split(" ", 3) for line in told if " error " in line]
    assert [f"{place.rstrip(':')} {code}" for place, _, code, _ in errors] == problems
    assert done.returncode == 5
    assert query(platform, "SELECT count(*) FROM catalog") == before


def test_the_demo_playbook_says_what_a_separate_script_computes(platform: Platform) -> None:
    document = run_json(platform, WEATHER, "--wait")
    assert document["status"] == "completed", document
    result = document["result"]

    rows = list(csv.DictReader((ROOT / "examples/data/seattle-weather.csv").open()))
    years: dict[int, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        years[int(row["date"][:4])].append(row)
    rain = {year: round(sum(float(row["precipitation"]) for row in days), 1) for year, days in years.items()}
    assert result["rows_read"] == len(rows) == 1461
    assert {year["year"]: year["precipitation_mm"] for year in result["years"]} == rain
    assert [year["days"] for year in result["years"]] == [len(days) for days in years.values()]
    assert [year["hottest"] for year in result["years"]] == [
        max(float(d["temp_max"]) for d in days) for days in years.values()
    ]
    assert [year["wet_days"] for year in result["years"]] == [
        sum(float(d["precipitation"]) > 0 for d in days) for days in years.values()
    ]
    assert result["wettest"] == max(rain, key=lambda year: rain[year])
    assert result["wet_years"] == [year for year, mm in rain.items() if mm > 1100]
    assert result["stored"] == {"years": 4, "days": 1461}


def test_the_demo_playbook_takes_the_other_branch(platform: Platform) -> None:
    document = run_json(platform, WEATHER, "--wait", "--set", "wet_year_mm=9999")
    assert document["steps"]["all_dry"] == "success"
    assert "store" not in document["steps"]
    assert document["result"]["stored"] is None


def test_both_ways_of_evaluating_give_equal_events(platform: Platform) -> None:
    with temporary_data_dir() as data_dir, running_platform(data_dir, NOETL_EVALUATE_INLINE="0") as through_broker:
        for book in (HELLO, WEATHER):
            one = run_json(platform, book, "--wait")
            other = run_json(through_broker, book, "--wait")
            assert (one["status"], one["result"], one["steps"]) == (other["status"], other["result"], other["steps"])
            assert by_node(told_events(platform, one["execution_id"])) == by_node(
                told_events(through_broker, other["execution_id"])
            )
        assert through_broker.manage("verify").stdout == "0 violations\n"


def by_node(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Events per node in their order: between parallel nodes the order is whoever is quicker."""
    nodes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        nodes[event["node_id"]].append({key: value for key, value in event.items() if key != "seq"})
    return nodes


def test_verify_is_clean_and_sees_a_seeded_fault(platform: Platform) -> None:
    assert platform.manage("verify").stdout == "0 violations\n"
    [(job_id,)] = query(platform, "SELECT id FROM queue WHERE status = 'done' LIMIT 1")
    query(platform, "UPDATE queue SET attempts = attempts + 1 WHERE id = %s RETURNING id", job_id)
    done = platform.manage("verify", check=False)
    query(platform, "UPDATE queue SET attempts = attempts - 1 WHERE id = %s RETURNING id", job_id)
    assert done.returncode == 1
    assert "attempts_are_the_leases: execution" in done.stdout
    assert done.stdout.endswith("2 violations\n")


def test_what_an_action_prints_is_in_its_executions_log(platform: Platform, write: Any) -> None:
    book = write("""
  - step: start
    next: talk
  - step: talk
    type: python
    code: |
      import time
      def main():
          print("I AM PRINTED")
          logger.warning("and I am logged")
          time.sleep(3)
          print("at the end")
""")
    execution_id = run_json(platform, book)["execution_id"]
    told = platform.manage("executions", "logs", execution_id, "--follow").stdout.splitlines()
    assert [line.partition(" ")[2] for line in told] == [
        "talk | I AM PRINTED", "talk | WARNING and I am logged", "talk | at the end",
    ]  # fmt: skip
    assert "I AM PRINTED" not in (platform.data_dir / "logs" / "worker.log").read_text()


def test_watching_shows_what_actions_log_before_their_step_ends(platform: Platform, write: Any) -> None:
    book = write("""
  - step: start
    next: talk
  - step: talk
    type: python
    code: |
      import time
      def main():
          print("[bold]I am printed")
          logger.warning("and I am logged")
          time.sleep(2)
          print("at the end")
""")
    done = platform.manage("run", book, "--watch")
    told = [line for line in done.stderr.splitlines() if line.startswith("talk")]
    assert told == [
        *("talk: running", "talk | [bold]I am printed", "talk | WARNING and I am logged", "talk | at the end"),
        "talk: success",
    ]
    assert "talk |" not in done.stdout


def test_watching_without_a_terminal_tells_each_change_on_stderr(platform: Platform) -> None:
    done = platform.manage("run", HELLO, "--watch")
    assert "loud: success" in done.stderr.splitlines()
    assert "completed" in done.stdout


def test_run_starts_a_platform_of_its_own_when_there_is_none() -> None:
    with temporary_data_dir() as data_dir, running_platform(data_dir, "--workers", "0") as without_workers:
        done = without_workers.manage("run", "examples/hello.yaml", "--wait", "--json", timeout=120)
        assert json.loads(done.stdout)["status"] == "completed"
        assert "starting the platform" in done.stderr
