"""The commands that need no server: `run --local`, `--dry-run`, `graph`; and a local run next to a platform's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noetl_site import embedded
from tests.support.commands import Commands
from tests.support.inspection import told_events
from tests.support.platform import ROOT, Platform, environment, temporary_data_dir

HELLO = "examples/hello.yaml"
WEATHER = "examples/weather.yaml"
HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: {name}\npath: tests/{name}\nworkflow:\n"


class Alone:
    """Commands where there is neither a database nor a broker, and none may be started."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        # Port 9 is nobody's: whoever connects is refused.
        nowhere = {"DATABASE_URL": "postgres://none@127.0.0.1:9/none", "REDIS_URL": "redis://127.0.0.1:9/0"}
        self.env = environment(data_dir, **nowhere)
        self.commands = Commands(self.env)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), *arguments]

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.commands.run(arguments, 120)

    def json(self, *arguments: str) -> Any:
        done = self.manage(*arguments, "--json")
        assert done.returncode in (0, 20), done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    with temporary_data_dir() as data_dir:
        alone = Alone(data_dir)
        yield alone
        alone.commands.close()


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_playbook(workflow: str, name: str = "book") -> str:
        file = tmp_path / f"{name}.yaml"
        file.write_text(HEAD.format(name=name) + workflow)
        return str(file)

    return write_playbook


BAD = """
  - step: start
    next: bad
  - step: bad
    type: python
    code: |
      def main():
          raise ValueError("no luck")
"""

NAP = """
  - step: start
    next: nap
  - step: nap
    type: python
    code: |
      import time
      def main():
          time.sleep(60)
  - step: clean
    type: python
    code: "def main(): return 'clean'"
finally: [clean]
"""


def test_a_run_with_no_server_prints_what_one_on_a_server_does(alone: Alone) -> None:
    document = alone.json("run", HELLO, "--local", "--set", "name=Ada")
    assert document.pop("execution_id").isdigit()
    assert document == {
        "status": "completed",
        "result": {"loud": "HELLO, ADA!", "quiet": "hello, Ada"},
        "steps": {"start": "success", "loud": "success", "quiet": "success", "end": "success"},
    }
    watched = alone.manage("run", HELLO, "--local", "--watch")
    assert "loud: success" in watched.stderr.splitlines()
    assert "completed" in watched.stdout
    assert not (alone.data_dir / "postgres").exists()


def test_a_failure_ends_with_20_and_its_cause(alone: Alone, write: Any) -> None:
    done = alone.manage("run", write(BAD), "--local", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["status"]) == (20, "failed")
    assert (document["error"]["step"], document["error"]["message"]) == ("bad", "ValueError: no luck")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("run", "no-such-file.yaml", "--local"), 4),
        (("run", "examples/hello", "--local"), 4),
        (("run", HELLO, "--local", "--catalog", "no/such/folder"), 4),
        (("run", HELLO, "--local", "--credentials", "no-such-file"), 2),
        (("run", HELLO, "--local", "--payload", "[1]"), 2),
        (("run", "tests/playbooks/broken/unknown_target.yaml", "--local"), 5),
        (("run", "tests/playbooks/broken/unknown_target.yaml", "--dry-run"), 5),
        (("graph", "no-such-file.yaml"), 4),
        (("graph", "tests/playbooks/broken/unknown_target.yaml"), 5),
    ],
)
def test_exit_codes_of_mistakes(alone: Alone, arguments: tuple[str, ...], code: int) -> None:
    done = alone.manage(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr


def test_the_time_to_wait_ends_the_run(alone: Alone, write: Any) -> None:
    done = alone.manage("run", write(NAP), "--local", "--json", "--timeout", "0.2")
    document = json.loads(done.stdout)
    assert (done.returncode, document["status"]) == (124, "cancelled")
    assert document["steps"] == {"start": "success", "nap": "cancelled", "clean": "success"}


def test_an_interrupt_cancels_the_run(alone: Alone, write: Any) -> None:
    command = alone.command("run", write(NAP), "--local", "--json", "--watch")
    with subprocess.Popen(
        command, cwd=ROOT, env=alone.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(line.strip() == "nap: running" for line in process.stderr)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    document = json.loads(printed)
    assert (process.returncode, document["status"]) == (21, "cancelled")
    assert document["steps"] == {"start": "success", "nap": "cancelled", "clean": "success"}


def test_children_come_from_a_folder(alone: Alone, write: Any, tmp_path: Path) -> None:
    write(
        """
  - step: start
    next: sum
  - step: sum
    type: python
    with: {n: "{{ n }}"}
    code: "def main(n): return n + 1"
    next: end
  - step: end
    result: {n: "{{ sum }}"}
""",
        "child",
    )
    parent = write(
        """
  - step: start
    next: each
  - step: each
    type: playbook
    path: tests/child
    loop: {in: [1, 2, 3], iterator: n}
    next: end
  - step: end
    result: {numbers: "{{ each.results | map(attribute='n') | list }}"}
""",
        "parent",
    )
    events = tmp_path / "events.jsonl"
    document = alone.json("run", parent, "--local", "--catalog", str(tmp_path), "--events", str(events))
    assert document["result"] == {"numbers": [2, 3, 4]}
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert len({event["execution_id"] for event in told}) == 4
    assert [event["event_type"] for event in told].count("execution_completed") == 4


def test_a_dry_run_runs_nothing(alone: Alone, write: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    book = write("""
  - step: start
    next: touch
  - step: touch
    type: python
    with: {file: "{{ file }}"}
    code: |
      def main(file):
          open(file, "w").close()
    next:
      - when: "{{ touch.n > 1 }}"
        then: [big]
      - else: [small]
  - step: big
    next: end
  - step: small
    next: end
  - step: end
    result: "{{ touch.n }}"
""")
    done = alone.manage("run", book, "--dry-run", "--set", f"file={mark}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "touch  [python]  starts at once" in lines
    assert f"    inputs: {{file: {mark}}}" in lines
    assert "big  [route]  if {{ touch.n > 1 }}, after touch" in lines
    assert "small  [route]  otherwise, after touch" in lines
    assert "    result: unknown: {{ touch.n }}" in lines
    steps = {step["step"]: step for step in alone.json("run", book, "--dry-run", "--set", "file=x")["steps"]}
    assert steps["end"]["work"] == {"result": {"unknown": "{{ touch.n }}", "reads": ["touch"]}}
    assert not mark.exists()


def test_a_graph_shows_conditions_and_the_bodies_of_loops(alone: Alone, write: Any) -> None:
    book = write("""
  - step: start
    next: each
  - step: each
    loop: {in: [1, 2], iterator: n}
    next: one
  - step: one
    type: python
    with: {n: "{{ n }}"}
    code: "def main(n): return n"
    next:
      - when: '{{ one > "1" }}'
        then: [two]
      - else: [close]
  - step: two
    next: close
  - step: close
    end_loop: each
    next: end
  - step: end
""")
    drawn = alone.manage("graph", book).stdout.splitlines()
    assert drawn[0] == "flowchart TD"
    assert '  subgraph body1["each item of each"]' in drawn
    assert '    step2["one<br/>python"]' in drawn
    assert '  step2 -->|"if {{ one &gt; #quot;1#quot; }}"| step3' in drawn
    graph = alone.json("graph", book)
    assert {node["id"]: node["group"] for node in graph["nodes"]} == {
        "start": None,
        "each": None,
        "one": "each",
        "two": "each",
        "close": None,
        "end": None,
    }
    assert {"from": "each", "to": "close", "condition": "when all items are over", "kind": "loop"} in graph["edges"]
    assert json.loads(alone.manage("schema").stdout)["$schema"].startswith("https://json-schema.org/")


# -- next to a platform --------------------------------------------------------------------------------


def by_node(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Events per node in their order, without what is never the same twice."""
    nodes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        left = {key: value for key, value in event.items() if key not in ("seq", "execution_id")}
        if left["event_type"] == "execution_start":
            # What a file counts as has no version before it.
            del left["context"]["version"]
        nodes[event["node_id"]].append(left)
    return nodes


def local_events(file: Path) -> list[dict[str, Any]]:
    """The events of a file as `told_events` gives those of a platform."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    execution_id = events[0]["execution_id"]
    events = [json.loads(line.replace(execution_id, "ID")) for line in file.read_text().splitlines()]
    for event in events:
        for key in ("event_id", "timestamp", "duration", "worker_id"):
            del event[key]
        for key in ("job_id", "leased_at"):
            (event["metadata"] or {}).pop(key, None)
    return events


@pytest.mark.parametrize("book", [HELLO, WEATHER])
def test_a_local_run_has_the_events_of_one_on_the_platform(
    platform: Platform, alone: Alone, tmp_path: Path, book: str
) -> None:
    folder = embedded.open_folder(platform.data_dir)
    data = {
        "db_host": str(folder.postgres_socket),
        "db_user": "noetl_demo",
        "db_password": embedded.keep_secret(folder, "postgres_role_noetl_demo"),
        "db_port": "5432",
        "db_name": "demo",
    }
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps([{"name": "demo_postgres", "type": "postgres", "data": data}]))
    events = tmp_path / "events.jsonl"
    here = alone.json("run", book, "--local", "--credentials", str(credentials), "--events", str(events))
    done = platform.manage("run", book, "--wait", "--json")
    there = json.loads(done.stdout)
    execution_id = there.pop("execution_id")
    here.pop("execution_id")
    assert here == there
    assert by_node(local_events(events)) == by_node(told_events(platform, execution_id))


def test_a_replay_tells_what_a_changed_playbook_would_do_otherwise(platform: Platform, tmp_path: Path) -> None:
    done = platform.manage("run", HELLO, "--wait", "--json")
    execution_id = json.loads(done.stdout)["execution_id"]
    assert "is the stored state" in platform.manage("replay", execution_id).stdout
    assert platform.manage("replay", execution_id, "--playbook", HELLO).stdout == "nothing would differ\n"
    text = (ROOT / HELLO).read_text()
    changed = tmp_path / "changed.yaml"
    changed.write_text(text.replace('quiet: "{{ quiet.text }}"', 'soft: "{{ quiet.text | upper }}"'))
    done = platform.manage("replay", execution_id, "--playbook", str(changed), check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("result: ")
    assert '"soft": "HELLO, WORLD"' in done.stdout
    document = json.loads(
        platform.manage("replay", "@latest", "--playbook", str(changed), "--json", check=False).stdout
    )
    assert [difference["what"] for difference in document["differences"]] == ["result"]
    assert document["would_run"] == []
    assert platform.manage("replay", "1", check=False).returncode == 4
