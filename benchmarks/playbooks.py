"""The playbooks that are measured: steps whose action returns at once, in a line or in a loop."""

from __future__ import annotations

import json
from typing import Any

NOTHING = "def main(): return 1"
CLOCK = "import time\n\ndef main(): return time.time()"
BURN = """\
import time

def main(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return 1
"""


def _text(path: str, workload: dict[str, Any], steps: list[dict[str, Any]]) -> str:
    """JSON is YAML, and quicker to read."""
    head = {"apiVersion": "noetl.io/v1", "kind": "Playbook", "name": path.rpartition("/")[2], "path": path}
    return json.dumps({**head, "workload": workload, "workflow": steps})


def linear(length: int, code: str = NOTHING) -> tuple[str, str]:
    """A line of so many actions. Returns: path and text."""
    steps: list[dict[str, Any]] = [{"step": "start", "next": "s1"}]
    for number in range(1, length + 1):
        following = f"s{number + 1}" if number < length else "end"
        steps.append({"step": f"s{number}", "type": "python", "code": code, "next": following})
    path = f"bench/linear-{length}" if code == NOTHING else f"bench/clock-{length}"
    return path, _text(path, {}, [*steps, {"step": "end"}])


def asking(length: int, url: str) -> tuple[str, str]:
    """A line of so many requests to one address. Returns: path and text."""
    steps: list[dict[str, Any]] = [{"step": "start", "next": "s1"}]
    for number in range(1, length + 1):
        following = f"s{number + 1}" if number < length else "end"
        steps.append({"step": f"s{number}", "type": "http", "url": url, "next": following})
    path = f"bench/asking-{length}"
    return path, _text(path, {}, [*steps, {"step": "end"}])


def querying(length: int, auth: str) -> tuple[str, str]:
    """A line of so many statements on the database of a credential. Returns: path and text."""
    steps: list[dict[str, Any]] = [{"step": "start", "next": "s1"}]
    for number in range(1, length + 1):
        following = f"s{number + 1}" if number < length else "end"
        steps.append({"step": f"s{number}", "type": "postgres", "auth": auth, "query": "SELECT 1", "next": following})
    path = f"bench/querying-{length}"
    return path, _text(path, {}, [*steps, {"step": "end"}])


def wide() -> tuple[str, str]:
    """A loop whose items all start at once; the payload's `items` tells how many. Returns: path and text."""
    each: dict[str, Any] = {
        "step": "each",
        "type": "python",
        "loop": {"in": "{{ range(items) | list }}", "iterator": "item"},
        "code": NOTHING,
        "next": "end",
    }
    path = "bench/wide"
    return path, _text(path, {"items": 1}, [{"step": "start", "next": "each"}, each, {"step": "end"}])


def burning(items: int, seconds: float) -> tuple[str, str]:
    """A loop of items that use the processor for so long. Returns: path and text."""
    each: dict[str, Any] = {
        "step": "each",
        "type": "python",
        "loop": {"in": list(range(items)), "iterator": "item"},
        "with": {"seconds": seconds},
        "code": BURN,
        "next": "end",
    }
    path = "bench/burning"
    return path, _text(path, {}, [{"step": "start", "next": "each"}, each, {"step": "end"}])


def bulk(change: str) -> tuple[str, str]:
    """A table of Postgres through DuckDB into another; `change` is a query up to its FROM. Returns: path and text."""
    auth = {"pg": {"type": "postgres", "key": "demo_postgres"}}
    fetch = {
        "step": "fetch",
        "type": "duckdb",
        "auth": auth,
        "command": f"CREATE TABLE t AS {change} pg.bulk_source",
        "next": "store",
    }
    store = {
        "step": "store",
        "type": "duckdb",
        "auth": auth,
        "command": "DROP TABLE IF EXISTS pg.bulk_target; CREATE TABLE pg.bulk_target AS FROM t",
        "next": "end",
    }
    path = "bench/bulk"
    return path, _text(path, {}, [{"step": "start", "next": "fetch"}, fetch, store, {"step": "end"}])
