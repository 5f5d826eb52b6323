"""A worker's hand with the python kind itself: what its child begins ahead, and what the watch gives back meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import pytest

from executions.api import LogLine, Report
from executors.actions.python import PythonAction
from executors.contract import ActionRequest, Credential
from executors.running import Lent
from executors.worker.hand import Hand, Means
from executors.worker.heartbeat import LeaseKeeper
from executors.worker.lines import LogSender
from executors.worker.pace import Pace
from queueing.api import Fence, HeldLease, Judgement, LeasedJob, Take

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODE = """
def main(mark, until):
    import time
    open(mark, "a").write("x")
    while until and not os.path.exists(until):
        time.sleep(0.005)
    return mark
"""


class Books:
    """A gateway that writes down what was reported and given back."""

    def __init__(self) -> None:
        self.reported: list[int] = []
        self.released: list[int] = []

    def lease(self, worker_id: str, pools: Sequence[str], count: int, lease_seconds: float) -> list[LeasedJob]:
        return []

    def extend(self, fences: Sequence[Fence], lease_seconds: float) -> list[HeldLease]:
        return [HeldLease(fence.job_id, NOW, cancel_requested=False) for fence in fences]

    def release(self, fences: Sequence[Fence]) -> None:
        self.released += [fence.job_id for fence in fences]

    def append_log(self, fence: Fence, lines: Sequence[LogLine]) -> None:
        raise AssertionError(f"job {fence.job_id} logged something")

    def report(
        self, execution_id: int, reports: Sequence[Report], take: Take | None, *, evaluate_later: bool = False
    ) -> tuple[list[Judgement], list[LeasedJob]]:
        assert all(report.status == "success" for report in reports), reports
        self.reported += [report.fence.job_id for report in reports]
        return ["accepted" for _ in reports], []


def no_credential(job: LeasedJob, name: str) -> Credential:
    raise AssertionError(f"{job.node_id} asked for the credential {name}")


@pytest.fixture
def kind(tmp_path: Path) -> Iterator[PythonAction]:
    kind = PythonAction()
    # As who runs the tests, so that jobs can leave marks in their folders.
    kind._sandbox._drop = False
    # Whose first start takes as long as a slow job.
    request = ActionRequest("python", {"code": "def main(): pass"}, {}, "0", "0:s", "s", 1, "0:s", 30)
    kind.run(request, Lent(tmp_path, Event(), pytest.fail))
    kind.end_turn()
    yield kind
    kind.close()


def job(number: int, folder: Path, until: Path | None = None) -> LeasedJob:
    inputs = {"mark": str(folder / str(number)), "until": until and str(until)}
    action = {"kind": "python", "arguments": {"code": CODE}, "inputs": inputs}
    return LeasedJob(
        number, 1, f"1:s:{number}", "s", "python", action, {}, f"u{number}", number, 30, "default", 0, 1, "t", NOW, NOW
    )


def marks(folder: Path) -> list[int]:
    """The jobs that ran, as often as they did."""
    return sorted(int(file.name) for file in folder.iterdir() if file.name.isdigit() for _ in file.read_text())


def until(condition: Callable[[], bool]) -> bool:
    give_up_at = time.monotonic() + 10
    while not condition() and time.monotonic() < give_up_at:
        pass
    return condition()


def test_what_waits_behind_a_slow_job_is_given_back_and_does_not_run(kind: PythonAction, tmp_path: Path) -> None:
    books, go = Books(), tmp_path / "go"
    means = Means(books, {"python": kind}, LeaseKeeper(books, 60), no_credential, tmp_path, LogSender(books))
    jobs = [job(number, tmp_path, go if number == 3 else None) for number in range(1, 7)]

    def let_go() -> None:
        until(lambda: len(books.released) == 3)
        go.touch()

    with Hand(1, means) as hand:
        hand.add(jobs, time.monotonic())
        thread = Thread(target=let_go)
        thread.start()
        while hand.do_next(Pace()):
            pass
        thread.join()
    assert books.released == [4, 5, 6]
    assert sorted(books.reported) == marks(tmp_path) == [1, 2, 3]


def test_a_job_that_its_child_has_begun_is_not_given_back(kind: PythonAction, tmp_path: Path) -> None:
    books = Books()
    means = Means(books, {"python": kind}, LeaseKeeper(books, 60), no_credential, tmp_path, LogSender(books))
    with Hand(1, means) as hand:
        hand.add([job(number, tmp_path) for number in range(1, 5)], time.monotonic())
        assert hand.do_next(Pace())
        assert until(lambda: marks(tmp_path) == [1, 2]), "the child went on by itself"
        hand.give_back()
        while hand.do_next(Pace()):
            pass
    assert books.released == [3, 4]
    assert sorted(books.reported) == marks(tmp_path) == [1, 2]


def test_every_job_of_a_full_hand_runs_once(kind: PythonAction, tmp_path: Path) -> None:
    books = Books()
    means = Means(books, {"python": kind}, LeaseKeeper(books, 60), no_credential, tmp_path, LogSender(books))
    # More than one child serves.
    everyone = list(range(1, 121))
    with Hand(1, means) as hand:
        hand.add([job(number, tmp_path) for number in everyone], time.monotonic())
        while hand.do_next(Pace()):
            pass
    assert books.reported == marks(tmp_path) == everyone and books.released == []


def test_a_job_called_off_after_its_child_has_begun_it_is_stopped(kind: PythonAction, tmp_path: Path) -> None:
    books = Books()
    keeper = LeaseKeeper(books, 60)
    means = Means(books, {"python": kind}, keeper, no_credential, tmp_path, LogSender(books))
    with Hand(1, means) as hand:
        hand.add([job(1, tmp_path), job(2, tmp_path, tmp_path / "never")], time.monotonic())
        assert hand.do_next(Pace())
        assert until(lambda: marks(tmp_path) == [1, 2])
        for held in list(keeper._held.values()):
            held.stop.set()
        assert hand.do_next(Pace())
    assert books.released == [2] and books.reported == [1]
