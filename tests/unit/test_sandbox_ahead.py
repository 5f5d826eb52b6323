"""A child that is handed the next job early begins it by itself; nothing runs twice, and nothing is lost."""

from __future__ import annotations

import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from executors.sandbox import turns
from executors.sandbox.host import Isolation, Limits, NextJob, Sandbox
from tests.support.printing import Ran, run_printing

LIMITS = Limits(memory_bytes=512 << 20, output_bytes=1 << 20)
RUNS = "def main(mark):\n    open(mark, 'a').write('x')\n    return os.getcwd()"
WAITS = """
def main(until):
    import time
    while not os.path.exists(until):
        time.sleep(0.005)
    return os.getcwd()
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    # As who runs the tests, so that jobs can leave marks in their folders.
    sandbox = Sandbox("python", LIMITS, isolation=Isolation.TURN, drop_privileges=False)
    yield sandbox
    sandbox.close()


@pytest.fixture(autouse=True)
def _a_turn(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(turns, "MOST_SECONDS", 60.0)
    yield
    sandbox.end_turn()


def payload(code: str, **inputs: Any) -> dict[str, Any]:
    return {"code": textwrap.dedent(code), "inputs": inputs, "context": {"step": "s"}}


def following(key: str, code: str, *, timeout: float = 10, **inputs: Any) -> NextJob:
    return NextJob(key, payload(code, **inputs), timeout)


def run(
    sandbox: Sandbox,
    code: str,
    ahead: NextJob | None = None,
    *,
    key: str = "first",
    timeout: float = 10,
    cancelled: threading.Event | None = None,
    **inputs: Any,
) -> Ran:
    def look_ahead(hand_over: Callable[[NextJob], None]) -> None:
        if ahead is not None:
            hand_over(ahead)

    return run_printing(
        sandbox,
        payload(code, **inputs),
        timeout_seconds=timeout,
        cancelled=cancelled,
        turn="e1",
        key=key,
        look_ahead=look_ahead,
    )


def run_next(sandbox: Sandbox, job: NextJob, ahead: NextJob | None = None) -> Ran:
    """What the worker does when it comes to a job that may have been handed over."""

    def look_ahead(hand_over: Callable[[NextJob], None]) -> None:
        if ahead is not None:
            hand_over(ahead)

    return run_printing(
        sandbox, job.payload, timeout_seconds=job.timeout_seconds, turn="e1", key=job.key, look_ahead=look_ahead
    )


def until(condition: Callable[[], bool]) -> bool:
    give_up_at = time.monotonic() + 10
    while not condition() and time.monotonic() < give_up_at:
        pass
    return condition()


def times(mark: Path) -> int:
    """How often a job ran that leaves this mark."""
    return len(mark.read_text()) if mark.exists() else 0


def test_the_child_goes_on_by_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    second = following("second", RUNS, mark=str(tmp_path / "second"))
    first = run(sandbox, "def main(): return os.getcwd()", second)
    assert until(lambda: times(tmp_path / "second") == 1), "nobody has asked for it yet"
    assert run_next(sandbox, second).value == first.value
    assert times(tmp_path / "second") == 1


def test_a_long_row_gives_every_job_its_own_answer_and_prints(sandbox: Sandbox) -> None:
    code = (
        "def main(n):\n    print('job', n)\n    os.write(1, b'raw')\n    open('file', 'x').close()\n    return [n] * n"
    )
    jobs = [following(f"j{n}", code, n=n) for n in range(40)]
    results = [run_next(sandbox, job, after) for job, after in zip(jobs, [*jobs[1:], None], strict=True)]
    assert [result.value for result in results] == [[n] * n for n in range(40)]
    assert [result.printed for result in results] == [f"job {n}\nraw" for n in range(40)]


def test_what_a_job_prints_much_of_is_not_the_next_ones(sandbox: Sandbox) -> None:
    loud = "def main():\n    os.write(1, b'l' * 300_000)"
    jobs = [following(f"j{n}", code) for n, code in enumerate([loud, "def main(): print('quiet')", loud, loud])]
    results = [run_next(sandbox, job, after) for job, after in zip(jobs, [*jobs[1:], None], strict=True)]
    assert [len(result.printed) for result in results] == [300_000, 6, 300_000, 300_000]
    assert results[1].printed == "quiet\n"


def test_large_jobs_can_be_handed_over(sandbox: Sandbox) -> None:
    text = "\N{SNOWMAN}x" * 150_000
    jobs = [following(f"j{n}", "def main(text, n): return [n, text]", text=text, n=n) for n in range(3)]
    results = [run_next(sandbox, job, after) for job, after in zip(jobs, [*jobs[1:], None], strict=True)]
    assert [result.value for result in results] == [[n, text] for n in range(3)]


def test_a_job_that_has_not_begun_is_taken_back(sandbox: Sandbox, tmp_path: Path) -> None:
    second = following("second", RUNS, mark=str(tmp_path / "second"))
    told: list[bool] = []

    def take_back() -> None:
        # Only what the child would read next can be taken back: first it must have read the first.
        told.append(until(lambda: sandbox.recall("second")))
        (tmp_path / "go").touch()

    thread = threading.Thread(target=take_back)
    handed = threading.Event()

    def look_ahead(hand_over: Callable[[NextJob], None]) -> None:
        hand_over(second)
        handed.set()
        thread.start()

    first = sandbox.run(
        payload(WAITS, until=str(tmp_path / "go")), timeout_seconds=10, turn="e1", key="first", look_ahead=look_ahead
    )
    thread.join()
    assert handed.is_set() and told == [True] and first.failure is None
    # The child is kept for others, and has not run it.
    assert run(sandbox, "def main(): return os.getcwd()").value == first.value
    assert times(tmp_path / "second") == 0
    assert run_next(sandbox, second).failure is None and times(tmp_path / "second") == 1


def test_a_job_that_has_begun_is_not_taken_back(sandbox: Sandbox, tmp_path: Path) -> None:
    second = following("second", RUNS, mark=str(tmp_path / "second"))
    run(sandbox, "def main(): pass", second)
    assert until(lambda: times(tmp_path / "second") == 1)
    assert sandbox.recall("second") is False
    assert run_next(sandbox, second).failure is None and times(tmp_path / "second") == 1


def test_what_was_never_handed_over_has_not_begun(sandbox: Sandbox) -> None:
    assert sandbox.recall("nobody") is True


LIES = """
def main():
    import socket, stat, sys
    frame = sys._getframe()
    while "asked" not in frame.f_locals:
        frame = frame.f_back
    for number in range(3, 100):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, frame.f_locals["asked"].mark + bytes([2]))
        except OSError:
            pass
"""


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("def main(): os._exit(3)", "exited"),
        ("def main(): os.kill(os.getpid(), 9)", "killed|"),
        ("import ctypes\ndef main(): ctypes.string_at(0)", "killed"),
        ("import time\ndef main(): time.sleep(60)", "timeout"),
        (
            "import threading, time\ndef main(): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
            "",
        ),
        ("import subprocess\ndef main(): subprocess.Popen(['sleep', '60'])", ""),
        ("def main(): os.closerange(3, 200)", "exited"),
        ("import builtins\ndef main(): builtins.much = bytearray(200 << 20)", ""),
        (LIES, ""),
    ],
)
def test_whatever_becomes_of_the_child_the_next_job_runs_once(
    sandbox: Sandbox, tmp_path: Path, code: str, failure: str
) -> None:
    second = following("second", RUNS, mark=str(tmp_path / "second"))
    result = run(sandbox, code, second, timeout=1)
    assert (result.failure.code if result.failure else "") in failure.split("|"), result
    after = run_next(sandbox, second)
    assert after.failure is None, after
    assert times(tmp_path / "second") == 1


def test_a_cancelled_job_takes_the_next_one_nowhere(sandbox: Sandbox, tmp_path: Path) -> None:
    second = following("second", RUNS, mark=str(tmp_path / "second"))
    cancelled = threading.Event()
    cancelled.set()
    result = run(sandbox, "import time\ndef main(): time.sleep(60)", second, cancelled=cancelled)
    assert result.failure is not None and result.failure.code == "cancelled"
    assert times(tmp_path / "second") == 0
    assert run_next(sandbox, second).failure is None and times(tmp_path / "second") == 1


def test_a_job_that_was_not_even_read_is_not_in_the_way_of_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    """The child is halted, so that it reads neither."""
    second = following("second", RUNS, mark=str(tmp_path / "second"))
    folder = run(sandbox, "def main(): return os.getcwd()").value
    [child] = [each for each in psutil.Process().children(recursive=True) if each.cwd() == folder]
    child.suspend()
    result = run(sandbox, "def main(): pass", second, timeout=0.2)
    assert result.failure is not None and result.failure.code == "timeout"
    assert run_next(sandbox, second).failure is None and times(tmp_path / "second") == 1


def test_a_job_that_died_when_it_was_ahead_has_died(sandbox: Sandbox, tmp_path: Path) -> None:
    second = following(
        "second", f"{RUNS}\n".replace("return os.getcwd()", "os._exit(5)"), mark=str(tmp_path / "second")
    )
    run(sandbox, "def main(): pass", second)
    assert until(lambda: times(tmp_path / "second") == 1)
    result = run_next(sandbox, second)
    assert result.failure is not None and result.failure.code == "exited" and "status 5" in result.failure.message
    assert times(tmp_path / "second") == 1


def test_the_zygotes_death_costs_no_job_that_had_not_begun(sandbox: Sandbox, tmp_path: Path) -> None:
    second = following("second", RUNS, mark=str(tmp_path / "second"))

    zygotes = [process for process in psutil.Process().children() if "zygote.py" in " ".join(process.cmdline())]

    def look_ahead(hand_over: Callable[[NextJob], None]) -> None:
        hand_over(second)
        if zygotes:
            zygotes.pop().send_signal(signal.SIGKILL)

    first = sandbox.run(
        payload("import time\ndef main(): time.sleep(60)"),
        timeout_seconds=3,
        turn="e1",
        key="first",
        look_ahead=look_ahead,
    )
    # It had begun, or another child has begun it.
    assert first.failure is not None and first.failure.code in ("killed", "timeout")
    assert run_next(sandbox, second).failure is None and times(tmp_path / "second") == 1


def test_a_turn_that_ends_takes_along_what_was_handed_over(sandbox: Sandbox) -> None:
    run(sandbox, "def main(): pass", following("second", "import time\ndef main(): time.sleep(60)"))
    [zygote] = [process for process in psutil.Process().children() if "zygote.py" in " ".join(process.cmdline())]
    spare = 1
    assert until(lambda: len(zygote.children()) == 1 + spare)
    sandbox.end_turn()
    assert until(lambda: len(zygote.children()) == spare)
    assert sandbox.recall("second") is True
