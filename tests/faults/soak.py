"""The soak: a platform under a steady load and a rain of faults, and what must be true when the rain has stopped."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

import psycopg

from tests.faults.chaos import Chaos
from tests.faults.faulty import ENDED, Faulty, keep_logs
from tests.faults.orders import SLOW, STOP_SECONDS, Orders
from tests.faults.platforms import served_platform
from tests.faults.progress import Broken, Progress, tell
from tests.faults.shapes import TEXTS
from tests.support.inspection import wait_for
from tests.support.platform import temporary_data_dir

PAUSE_SECONDS: Final = (0.1, 0.7)
"""Between two faults, while the platform gets on with its work as it should."""
LONG_PAUSE_SECONDS: Final = (1.0, 4.0)
"""And while it does not: on a busy machine a process that is killed before it has done anything tests nothing."""
TELL_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 240.0
VERIFY_SECONDS: Final = 240.0
TAIL_SECONDS: Final = STOP_SECONDS + DRAIN_SECONDS + VERIFY_SECONDS
"""What comes after the rain takes no longer: the rain ends so long before the run has to."""
LEAST_SECONDS: Final = 60.0
"""And rains so long in any case: who gives little time gets on all the same."""
WORKERS: Final = "4"
IMPOSSIBLE: Final = ("ImpossibleEvent", "LogInconsistent")
"""Errors of the platform that no fault explains: a log that cannot be folded."""


def run(progress: Progress, seed: int, kills: int, jobs: int) -> bool:
    """Soak until there are so many kills and jobs over all runs. Returns: whether there are. Raises: `Broken`."""
    runs = progress.of("runs")
    with (
        temporary_data_dir() as data_dir,
        served_platform(data_dir, texts=[*TEXTS, SLOW], arguments=["--workers", WORKERS]) as faulty,
    ):
        orders = Orders(faulty, progress.file.parent / "ledger.jsonl", seed + runs)
        chaos = Chaos(faulty, seed + runs)
        begun_at = time.monotonic()
        _rain(faulty, chaos, progress, kills - progress.of("kills"), jobs - progress.of("jobs"), seed + runs)
        chaos.end()
        orders.stop()
        try:
            told = _check(faulty, orders, f"--seed {seed + runs}")
        finally:
            keep_logs(faulty, progress.file.parent)
        seconds = time.monotonic() - begun_at
    told |= {"runs": 1, "kills": chaos.kills, "seconds": round(seconds), "unanswered_starts": orders.refused}
    progress.count(**told)
    faults = Counter(progress.state.get("faults", {})) + chaos.done
    progress.state["faults"] = dict(faults)
    progress.save()
    return progress.of("kills") >= kills and progress.of("jobs") >= jobs


def _rain(faulty: Faulty, chaos: Chaos, progress: Progress, kills: int, jobs: int, seed: int) -> None:
    """One fault after the other, until there have been enough, or the time is up but for what comes after them."""
    dice = random.Random(seed)
    pause = threading.Event()
    told_at, done = time.monotonic(), 0
    ends_at = max(progress.deadline - TAIL_SECONDS, told_at + LEAST_SECONDS)
    jobs_per_kill = jobs / max(kills, 1)
    while (chaos.kills < kills or done < jobs) and time.monotonic() < ends_at:
        chaos.one()
        with suppress(psycopg.Error):
            done = _jobs(faulty)
        is_behind = done < jobs_per_kill * chaos.kills
        pause.wait(dice.uniform(*(LONG_PAUSE_SECONDS if is_behind else PAUSE_SECONDS)))
        if time.monotonic() - told_at >= TELL_SECONDS:
            told_at = time.monotonic()
            tell(f"soak: {chaos.kills} kills, {sum(chaos.done.values())} faults, {done} jobs in this run")


def _jobs(faulty: Faulty) -> int:
    return int(faulty.query("SELECT count(*) FROM queue WHERE status IN ('done', 'failed', 'dead')")[0][0])


def _check(faulty: Faulty, orders: Orders, again: str) -> dict[str, int]:
    """Everything ends, and ends well; nothing was lost and nothing accepted twice. Raises: `Broken`."""
    stuck = _wait_until_drained(faulty)
    problems = [f"execution {id_} is stuck: {status}" for id_, status in stuck]
    rows = faulty.query("SELECT id::text, idempotency_key, status, result, error FROM execution")
    by_id = {row[0]: row[1:] for row in rows}
    lost = dead = 0
    for key, (execution_id, order) in orders.acknowledged.items():
        if execution_id not in by_id or by_id[execution_id][0] != key:
            lost += 1
            problems.append(f"execution {execution_id} ({key}, {order.path}) was acknowledged and is lost")
            continue
        _, status, result, error = by_id[execution_id]
        if status == "failed" and _is_exhausted(faulty, execution_id, error):
            dead += 1
        elif (status, result) != ("completed", order.expected):
            problems.append(f"execution {execution_id} ({order.path} {order.parameters}) is {status}: {result} {error}")
    twice = faulty.query(
        """SELECT execution_id, node_id, count(*) FROM event_log
           WHERE event_type IN ('action_completed', 'action_error') GROUP BY execution_id, node_id HAVING count(*) > 1
           UNION ALL
           SELECT execution_id, job_id::text, count(*) FROM lease_history WHERE ending IN ('done', 'failed')
           GROUP BY execution_id, job_id HAVING count(*) > 1"""
    )
    problems += [f"execution {id_} accepted {node} {count} times" for id_, node, count in twice]
    verified = faulty.platform.manage("verify", check=False, timeout=VERIFY_SECONDS)
    if verified.returncode:
        problems.append(f"verify: {verified.stdout}")
    problems += _impossible(faulty)
    if problems:
        raise Broken("\n  ".join([f"(dice: {again})", *problems[:20], f"{len(problems)} problems in all"]))
    [(lost_leases,)] = faulty.query("SELECT count(*) FROM lease_history WHERE ending = 'lost'")
    return {
        "jobs": _jobs(faulty),
        "executions": len(rows),
        "acknowledged": len(orders.acknowledged),
        "lost": lost,
        "twice": len(twice),
        "stuck": len(stuck),
        "dead": dead,
        "lost_leases": int(lost_leases),
    }


def _wait_until_drained(faulty: Faulty) -> list[tuple[Any, ...]]:
    statement = "SELECT id, status FROM execution WHERE status <> ALL(%s)"

    def is_drained() -> bool:
        try:
            return not faulty.query(statement, list(ENDED))
        except psycopg.Error:
            return False

    try:
        wait_for(is_drained, DRAIN_SECONDS)
    except AssertionError:
        return faulty.query(statement, list(ENDED))
    return []


def _is_exhausted(faulty: Faulty, execution_id: str, error: Any) -> bool:
    """Whether an execution failed for a job that has lost all the leases that it may lose: that is as promised."""
    code = (error or {}).get("code")
    if code == "child_failed":
        code = error.get("cause", {}).get("code")
    dead = """SELECT count(*) FROM queue q JOIN execution e ON e.id = q.execution_id
              WHERE (e.id = %s OR e.parent_execution_id = %s)
                AND q.status = 'dead' AND q.lost_leases >= q.max_attempts"""
    return code == "lease_exhausted" and faulty.query(dead, int(execution_id), int(execution_id))[0][0] > 0


def _impossible(faulty: Faulty) -> list[str]:
    problems = []
    for log in (faulty.platform.data_dir / "logs").glob("*.log*"):
        text = log.read_text(errors="replace")
        problems += [f"{log.name} tells of {name}" for name in IMPOSSIBLE if name in text]
    return problems
