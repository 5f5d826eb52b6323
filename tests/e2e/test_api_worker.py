"""Workers over HTTP are first class: beside Celery's on one queue, and alone."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.inspection import call, query, wait_for
from tests.support.platform import ROOT, Platform, environment, running_platform, temporary_data_dir

CHAIN = """
apiVersion: noetl.io/v1
kind: Playbook
name: naps
path: tests/naps
workload: {n: 0}
workflow:
  - step: start
    next: one
  - step: one
    type: python
    with: {n: "{{ n }}"}
    code: |
      import time
      def main(n):
          time.sleep(0.02)
          return {"n": n + 1}
    next: two
  - step: two
    type: python
    with: {n: "{{ one.n }}"}
    code: "def main(n): return {'n': n * 10}"
    next: end
  - step: end
    result: {n: "{{ two.n }}"}
"""


@contextmanager
def program(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program beside the platform; ended at the end."""
    with subprocess.Popen(command, cwd=cwd, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def token_for(platform: Platform, role: str) -> str:
    return platform.manage("tokens", "create", "--service", f"a-{role}", "--role", role).stdout.strip()


def start(platform: Platform, path: str, **parameters: Any) -> str:
    return str(call(platform, "POST", "executions/run", {"path": path, "parameters": parameters})["id"])


def has_ended(platform: Platform, execution_id: str) -> bool:
    return bool(call(platform, "GET", f"executions/{execution_id}")["status"] in ("completed", "failed", "cancelled"))


def test_a_worker_of_fifty_lines_runs_fifty_executions_beside_celery() -> None:
    source = ROOT / "tests" / "support" / "plain_worker.py"
    assert len(source.read_text().splitlines()) <= 50
    imported = re.findall(r"^\s*(?:import|from) (\w+)", source.read_text(), re.MULTILINE)
    assert set(imported) <= sys.stdlib_module_names
    with temporary_data_dir() as data_dir, running_platform(data_dir, "--workers", "1") as platform:
        call(platform, "POST", "catalog/register", {"content": CHAIN})
        token = token_for(platform, "worker")
        with program(sys.executable, "-I", str(source), platform.ready["url"], token, cwd=data_dir) as worker:
            wait_for(lambda: query(platform, "SELECT 1 FROM runtime WHERE name LIKE 'plain-%%'"))
            ids = [start(platform, "tests/naps", n=n) for n in range(50)]
            wait_for(lambda: query(platform, "SELECT count(*) FROM execution WHERE ended_at IS NULL") == [(0,)], 120)
            assert worker.poll() is None
        results = query(platform, "SELECT id::text, status, result FROM execution")
        assert {id_: (status, result) for id_, status, result in results} == {
            id_: ("completed", {"n": (n + 1) * 10}) for n, id_ in enumerate(ids)
        }
        served = query(platform, "SELECT principal <> '', count(*) FROM lease_history WHERE ending = 'done' GROUP BY 1")
        assert {over_http for over_http, _ in served} == {True, False}, served
        assert sum(count for _, count in served) == 100
        accepted = query(platform, "SELECT count(DISTINCT job_id), count(*) FROM lease_history WHERE ending = 'done'")
        assert accepted == [(100, 100)]
        assert platform.manage("verify").stdout == "0 violations\n"


@pytest.fixture(scope="module")
def without_workers() -> Iterator[Platform]:
    with temporary_data_dir() as data_dir, running_platform(data_dir, "--workers", "0") as platform:
        platform.manage("register", "examples")
        yield platform


@contextmanager
def rest_worker(platform: Platform, data_dir: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`manage.py worker` with nothing but an address and a token."""
    env = environment(data_dir, NOETL_API_TOKEN=token_for(platform, "worker"))
    command = [sys.executable, str(ROOT / "manage.py"), "worker", "--server", platform.ready["url"], *arguments]
    with program(*command, env=env) as process:
        yield process


def test_the_rest_worker_runs_the_weather_playbook_with_its_credential(without_workers: Platform) -> None:
    """Python, DuckDB, and Postgres with a credential that only the lease's holder gets."""
    platform = without_workers
    with temporary_data_dir() as data_dir:
        with rest_worker(platform, data_dir, "--name", "far") as worker:
            execution_id = start(platform, "examples/weather")
            wait_for(lambda: has_ended(platform, execution_id), 60)
            told = call(platform, "GET", f"executions/{execution_id}")
            assert told["status"] == "completed", told["error"]
            assert told["result"]["rows_read"] == 1461
            assert query(platform, "SELECT status FROM runtime WHERE name = 'far'") == [("ready",)]
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
        assert query(platform, "SELECT status FROM runtime WHERE name = 'far'") == [("offline",)]
        assert not (data_dir / "postgres").exists() and not (data_dir / "redis").exists()
    assert platform.manage("verify").stdout == "0 violations\n"


def test_the_rest_worker_gives_its_job_back_when_it_is_stopped(without_workers: Platform, tmp_path: Path) -> None:
    platform = without_workers
    nap = CHAIN.replace("tests/naps", "tests/long").replace("time.sleep(0.02)", "time.sleep(60)")
    call(platform, "POST", "catalog/register", {"content": nap})
    execution_id = start(platform, "tests/long")
    with temporary_data_dir() as data_dir, rest_worker(platform, data_dir) as worker:
        wait_for(lambda: call(platform, "GET", f"queue?status=leased&execution_id={execution_id}")["items"])
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    [job] = call(platform, "GET", f"queue?execution_id={execution_id}")["items"]
    assert (job["status"], job["attempts"], job["lost_leases"]) == ("queued", 1, 0)
    call(platform, "POST", f"executions/{execution_id}/cancel", {})
    assert platform.manage("verify").stdout == "0 violations\n"


@pytest.mark.parametrize(
    ("server", "token", "code", "word"),
    [
        ("{url}", "noetl_" + "0" * 64, 3, "authentication_failed"),
        ("http://127.0.0.1:1", "noetl_" + "0" * 64, 7, "127.0.0.1"),
        ("{url}", "", 2, "tokens create"),
    ],
)
def test_a_rest_worker_that_cannot_work_says_why(
    without_workers: Platform, server: str, token: str, code: int, word: str
) -> None:
    url = server.format(url=without_workers.ready["url"])
    done = without_workers.manage("worker", "--server", url, "--token", token, check=False)
    assert done.returncode == code, done.stderr
    assert word in done.stderr and "Traceback" not in done.stderr


def test_tokens_are_made_listed_and_ended(without_workers: Platform) -> None:
    platform = without_workers
    made = json.loads(
        platform.manage("tokens", "create", "--service", "ci", "--role", "viewer", "--name", "ci", "--json").stdout
    )
    listed = json.loads(platform.manage("tokens", "ls", "--json").stdout)
    [row] = [token for token in listed if token["user"] == "ci"]
    assert made["token"].startswith(row["begins"]) and made["token"] not in json.dumps(listed)
    assert call(platform, "GET", "executions", token=made["token"]) is not None
    assert platform.manage("tokens", "rm", row["id"]).stdout == "ended\n"
    assert platform.manage("tokens", "rm", row["id"], check=False).returncode == 4
    assert platform.manage("tokens", "create", "--user", "nobody", check=False).returncode == 4
    assert platform.manage("tokens", "create", "--service", "x", check=False).returncode == 2


SECRET = """
apiVersion: noetl.io/v1
kind: Playbook
name: secret
path: PATH
workflow:
  - {step: start, type: secrets, provider: credential, secret_name: kept, next: count}
  - step: count
    type: python
    with: {kept: "{{ start.secret_value }}"}
    code: "def main(kept): return [len(kept), kept]"
    next: end
  - {step: end, result: "{{ count.data }}"}
"""


def test_the_rest_worker_fetches_secrets_of_its_jobs_and_of_their_playbooks_scope(without_workers: Platform) -> None:
    platform = without_workers
    body = {"name": "kept", "data": {"value": "f4r-aw4y-s3cret"}, "scopes": ["tests/inside/*"]}
    call(platform, "POST", "credentials", body)
    for path in ("tests/inside/secret", "tests/outside/secret"):
        call(platform, "POST", "catalog/register", {"content": SECRET.replace("PATH", path)})
    with temporary_data_dir() as data_dir, rest_worker(platform, data_dir, "--name", "fetcher"):
        inside, outside = (start(platform, f"tests/{place}/secret") for place in ("inside", "outside"))
        wait_for(lambda: has_ended(platform, inside) and has_ended(platform, outside), 60)
    told = call(platform, "GET", f"executions/{inside}")
    assert (told["status"], told["result"]) == ("completed", [15, "***"])
    told = call(platform, "GET", f"executions/{outside}")
    assert (told["status"], told["error"]["step"]) == ("failed", "start")
    # Of a stored secret all that is told is that it is not to be had; why, is in the message.
    assert "may not be used by" in told["error"]["message"]
    assert call(platform, "GET", "credentials/kept")["last_used_by"] == inside
