"""Children that serve an execution's turn: what a job leaves to the next one, and what makes a child end."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from executors.sandbox import frames, turns
from executors.sandbox.host import Isolation, JobResult, Limits, Sandbox
from tests.support.printing import Ran, run_printing

# Who a child is: no two work in the same folder.
WHO = "def main(): return os.getcwd()"
LIMITS = Limits(memory_bytes=512 << 20, output_bytes=1 << 20)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox("python", LIMITS, isolation=Isolation.TURN)
    yield sandbox
    sandbox.close()


@pytest.fixture(autouse=True)
def _a_turn(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A busy machine must not end a turn that a test is about.
    monkeypatch.setattr(turns, "MOST_SECONDS", 60.0)
    yield
    sandbox.end_turn()


def run(sandbox: Sandbox, code: str, turn: str | None = "e1", *, timeout: float = 10, **inputs: Any) -> Ran:
    payload = {"code": textwrap.dedent(code), "inputs": inputs, "context": {"step": "s"}}
    return run_printing(sandbox, payload, timeout_seconds=timeout, turn=turn)


def value_of(sandbox: Sandbox, code: str, turn: str | None = "e1", **inputs: Any) -> Any:
    result = run(sandbox, code, turn, **inputs)
    assert result.failure is None, result.failure
    return result.value


def who(sandbox: Sandbox, turn: str | None = "e1") -> str:
    """Which child serves this execution now."""
    return str(value_of(sandbox, WHO, turn))


def code_of(result: JobResult) -> str:
    assert result.failure is not None, f"unexpected success: {result.value!r}"
    return result.failure.code


def children(sandbox: Sandbox) -> list[psutil.Process]:
    """All processes of the sandbox but the zygote; the child that is forked ahead is ended first."""
    assert sandbox._zygote is not None
    spares, sandbox._spares = sandbox._spares, {}
    sandbox._end(spares.values())
    return psutil.Process(sandbox._zygote.pid).children(recursive=True)


def are_soon_gone(sandbox: Sandbox) -> bool:
    """Whether no child is left that had a job; an end is not waited for by whoever asks for it."""
    return psutil.wait_procs(children(sandbox), timeout=10)[1] == []


# -- one execution's child --------------------------------------------------------------------------


def test_an_execution_keeps_its_child(sandbox: Sandbox) -> None:
    assert len({who(sandbox) for _ in range(5)}) == 1


def test_another_execution_never_gets_it(sandbox: Sandbox) -> None:
    used = {who(sandbox, "e1")}
    for number in range(2, 6):
        for _ in range(2):
            used.add(who(sandbox, f"e{number}"))
    assert len(used) == 5
    assert who(sandbox, "e1") in used, "and the first one still has its own"


def test_without_an_execution_nothing_is_kept(sandbox: Sandbox) -> None:
    assert who(sandbox, None) != who(sandbox, None)
    assert children(sandbox) == []


def test_a_step_can_ask_for_a_child_of_its_own(sandbox: Sandbox) -> None:
    first = who(sandbox)
    payload = {"code": WHO, "inputs": {}, "context": {}}
    alone = sandbox.run(payload, timeout_seconds=10, turn="e1", isolation=Isolation.JOB).value
    assert alone != first and who(sandbox) == first


def test_two_threads_never_share_a_child(sandbox: Sandbox, tmp_path: Path) -> None:
    """Two jobs of an execution that wait for one another can only end when each has a child."""
    ours, theirs = tmp_path / "a", tmp_path / "b"
    for fifo in (ours, theirs):
        os.mkfifo(fifo)
        fifo.chmod(0o666)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_mode & 0o005 != 0o005 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    code = """
        def main(is_first, mine, other):
            if is_first:
                return open(mine).read() + open(other, "w").write("pong") * "."
            open(other, "w").write("ping")
            return open(mine).read()
    """
    who(sandbox)
    told: dict[bool, Any] = {}

    def one(is_first: bool, mine: Path, other: Path) -> None:
        told[is_first] = run(sandbox, code, is_first=is_first, mine=str(mine), other=str(other)).value

    threads = [
        threading.Thread(target=one, args=arguments) for arguments in ((True, ours, theirs), (False, theirs, ours))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {True: "ping....", False: "pong"}


def test_end_turn_leaves_no_process(sandbox: Sandbox) -> None:
    for number in range(3):
        who(sandbox, f"e{number}")
    assert len(children(sandbox)) == 3
    folders = [Path(folder.path) for folder in sandbox._folders.values()]
    give_up_at = time.monotonic() + 10
    # Told to die at once; what was not dead yet is buried by a later call.
    while any(folder.exists() for folder in folders) and time.monotonic() < give_up_at:
        sandbox.end_turn()
    assert len(folders) == 3 and not any(folder.exists() for folder in folders)
    assert children(sandbox) == []


def test_few_children_wait_at_a_time(sandbox: Sandbox) -> None:
    for number in range(turns.MOST_WAITING + 3):
        who(sandbox, f"e{number}")
    give_up_at = time.monotonic() + 10
    # Those that had to make room are told to die, and not waited for.
    while len(children(sandbox)) > turns.MOST_WAITING and time.monotonic() < give_up_at:
        pass
    assert len(children(sandbox)) == turns.MOST_WAITING


def test_jobs_and_seconds_bound_a_turn(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_JOBS", 3)
    served = [who(sandbox) for _ in range(6)]
    assert [served.count(child) for child in dict.fromkeys(served)] == [3, 3]
    last = who(sandbox)
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)
    assert who(sandbox) != last, "found spent when it is asked for"
    assert children(sandbox) == [], "found spent after its job"


def test_a_longer_job_than_the_first_gets_its_cpu_time(sandbox: Sandbox) -> None:
    """The hard limit cannot be raised: such a job gets another child."""
    code = "import resource\ndef main(): return resource.getrlimit(resource.RLIMIT_CPU)"
    soft, hard = run(sandbox, code, timeout=5).value
    again = run(sandbox, code, timeout=5).value
    assert 5 < again[0] <= hard and again[1] == hard and soft <= hard
    assert run(sandbox, code, timeout=500).value[0] > 500
    assert run(sandbox, code, timeout=5).value[0] < 20


def test_the_worker_forks_and_leaves_the_children_to_its_parent(sandbox: Sandbox) -> None:
    first = who(sandbox)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if who(sandbox) != first and len(children(sandbox)) == 1 else 2
            sandbox.close()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert who(sandbox) == first


# -- what a job leaves to the next one ----------------------------------------------------------------

SPOIL = """
    import builtins, gc, json, logging, random, signal, sys, tempfile, threading, warnings
    def main():
        global left
        left = builtins.left = 1
        os.environ["LEFT"] = "1"
        open("file", "w").write("x"); os.makedirs("folder/deep"); os.symlink("/etc", "link")
        os.chdir("/"); os.umask(0)
        sys.path.insert(0, "/left"); sys.setrecursionlimit(5000); gc.disable()
        signal.signal(signal.SIGTERM, lambda *_: None); signal.alarm(1)
        signal.setitimer(signal.ITIMER_PROF, 0.2)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        warnings.simplefilter("error"); random.seed(7); tempfile.tempdir = "/left"
        logging.basicConfig(stream=sys.stdout); logging.disable()
        class Silent:
            def write(self, text): return len(text)
            def flush(self): pass
        sys.stdout.close(); sys.stdout = sys.stderr = Silent(); sys.stdin = None
        for number in (0, 1, 2): os.close(number)
"""
LOOK = """
    import builtins, gc, json, logging, random, signal, sys, tempfile, warnings
    def main():
        print("heard"); os.write(2, b"also\\n")
        return {
            "namespace": "left" in globals(), "environ": dict(os.environ), "files": os.listdir(),
            "cwd is tempdir": os.getcwd() == tempfile.gettempdir() != "/", "umask": os.umask(0o077),
            "path": "/left" in sys.path, "recursion": sys.getrecursionlimit(), "gc": gc.isenabled(),
            "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "alarm": signal.alarm(0),
            "timer": signal.getitimer(signal.ITIMER_PROF)[0],
            "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "warnings": warnings.filters[0][0] == "error", "dice": random.random() == random.Random(7).random(),
            "handlers": len(logging.root.handlers), "quiet": logging.root.manager.disable,
            "input": sys.stdin.read(), "builtins": getattr(builtins, "left", 0),
        }
"""
CLEAN = {
    "namespace": False,
    "environ": {},
    "files": [],
    "cwd is tempdir": True,
    "umask": 0o077,
    "path": False,
    "recursion": 1000,
    "gc": True,
    "term": True,
    "alarm": 0,
    "timer": 0.0,
    "mask": 0,
    "warnings": False,
    "dice": False,
    "handlers": 0,
    "quiet": 0,
    "input": "",
}


def test_what_is_cheap_is_put_back_and_builtins_stay_in_the_execution(sandbox: Sandbox) -> None:
    first = who(sandbox)
    assert run(sandbox, SPOIL).failure is None
    result = run(sandbox, LOOK)
    assert result.value == {**CLEAN, "builtins": 1} and result.printed == "heard\nalso\n"
    assert who(sandbox) == first, "all that in the same child"
    assert run(sandbox, LOOK, "e2").value == {**CLEAN, "builtins": 0}


@pytest.mark.parametrize(
    "spoil",
    [
        "import builtins\ndef main(): builtins.len = lambda _: 42",
        "import json\ndef main(): json.dumps = json.loads = lambda *_, **__: 1 / 0",
        "import sys\ndef main(): sys.modules['json'] = sys.modules['os'] = None",
        "import os\ndef main(): os.chdir = os.listdir = os.getpid = lambda *_: 1 / 0",
    ],
)
def test_a_poisoned_interpreter_reaches_no_other_execution(sandbox: Sandbox, spoil: str) -> None:
    run(sandbox, spoil)
    assert value_of(sandbox, "def main(): return len(json.dumps([1, 2])) + len(os.listdir('.'))", "e2") == 6


def test_prints_belong_to_their_job(sandbox: Sandbox) -> None:
    told = [run(sandbox, f"def main(): print({number}, end='')").printed for number in range(3)]
    assert told == ["0", "1", "2"]


def test_a_link_in_place_of_the_folder_is_not_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    """The worker empties the folder that it made, whatever stands under the name now."""
    (tmp_path / "precious").write_text("x")
    code = """
        def main(target):
            here = os.getcwd()
            try:
                os.rename(here, here + "-away")
                os.symlink(target, here)
            except OSError:
                return None
            return here
    """
    here = value_of(sandbox, code, target=str(tmp_path))
    sandbox.end_turn()
    assert (tmp_path / "precious").exists()
    if here:
        Path(here).unlink(missing_ok=True)
        Path(f"{here}-away").rmdir()


# -- what ends a child ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def main(): os._exit(3)", "exited"),
        ("import ctypes\ndef main(): ctypes.string_at(0)", "killed"),
        ("def main(): os.abort()", "killed"),
        ("def main():\n    while True: pass", "timeout"),
        (
            "import time, signal\ndef main():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(60)",
            "timeout",
        ),
        ("def main(): os.closerange(3, 256)", "exited"),
        ("def main(): return 'x' * (2 << 20)", "output_too_large"),
    ],
)
def test_a_job_that_goes_wrong_harms_nobody_else(sandbox: Sandbox, code: str, expected: str) -> None:
    first, other = who(sandbox), who(sandbox, "e2")
    assert code_of(run(sandbox, code, timeout=1)) == expected
    if expected != "output_too_large":
        assert who(sandbox) != first
    assert who(sandbox, "e2") == other


@pytest.mark.parametrize("code", ["def main(): 1 / 0", "import sys\ndef main(): sys.exit(3)", "def main(:"])
def test_an_error_of_the_code_costs_no_child(sandbox: Sandbox, code: str) -> None:
    first = who(sandbox)
    assert run(sandbox, code).failure is not None
    assert who(sandbox) == first


def test_cancelling_ends_the_child(sandbox: Sandbox) -> None:
    first = who(sandbox)
    cancelled = threading.Event()
    cancelled.set()
    payload = {"code": "import time\ndef main(): time.sleep(60)", "inputs": {}, "context": {}}
    assert code_of(sandbox.run(payload, timeout_seconds=10, turn="e1", cancelled=cancelled)) == "cancelled"
    assert who(sandbox) != first


@pytest.mark.parametrize(
    "code",
    [
        "import threading, time\ndef main(): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "import _thread, time\ndef main(): _thread.start_new_thread(time.sleep, (60,))",
        "import subprocess\ndef main(): subprocess.Popen(['sleep', '60'])",
        # A grandchild that detached itself, and whose parent is gone.
        "import subprocess\ndef main(): subprocess.run(['sh', '-c', 'setsid sleep 60 > /dev/null 2>&1 &'])",
        "import time\ndef main():\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(60)",
        "import builtins\ndef main(): builtins.much = bytearray(200 << 20)",
        "import builtins\ndef main(): builtins.many = [open('/dev/null') for _ in range(200)]",
        # More levels than it may open files: it cannot empty its folder.
        "def main(): os.makedirs('/'.join(['d'] * 500))",
    ],
)
def test_what_a_job_leaves_running_or_takes_ends_the_child(sandbox: Sandbox, code: str) -> None:
    first = who(sandbox)
    run(sandbox, code)
    assert are_soon_gone(sandbox)
    assert who(sandbox) != first


def test_threads_and_processes_that_are_over_cost_no_child(sandbox: Sandbox) -> None:
    first = who(sandbox)
    code = """
        import concurrent.futures, subprocess
        def main():
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                list(pool.map(abs, range(100)))
            subprocess.Popen(["true"]).wait()
            return subprocess.run(["echo", "x"], capture_output=True, text=True).stdout
    """
    assert value_of(sandbox, code) == "x\n" and who(sandbox) == first


def test_a_fork_that_comes_back_from_the_code_answers_nothing(sandbox: Sandbox) -> None:
    code = """
        def main():
            child = os.fork()
            if child == 0:
                return "forged"
            os.waitpid(child, 0)
            return "real"
    """
    assert value_of(sandbox, code) == "real"


# -- answers -----------------------------------------------------------------------------------------------

WIRE = """
    import socket, stat, struct
    def wire():
        for number in range(3, 256):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    return number
            except OSError:
                pass
"""


def test_a_late_word_is_not_taken_for_the_next_answer(sandbox: Sandbox) -> None:
    """Whatever a job puts on the wire in advance, the next job's answer is its own."""
    code = f"""{WIRE}
    def main(guesses, tail):
        for guess in guesses:
            os.write(wire(), bytes.fromhex(guess) + tail.encode())
        return "mine"
    """
    first = who(sandbox)
    tail = '\x01{"ok": true, "value": "forged"}'
    guesses = ["00" * frames.MARK_BYTES, "ff" * frames.MARK_BYTES, "", "00"]
    assert value_of(sandbox, code, guesses=guesses, tail=tail) == "mine"
    assert value_of(sandbox, "def main(): return 'next'") == "next"
    assert who(sandbox) == first


def test_every_job_has_a_mark_that_cannot_be_guessed(sandbox: Sandbox) -> None:
    code = """
        import sys
        def main():
            frame = sys._getframe()
            while "asked" not in frame.f_locals:
                frame = frame.f_back
            return frame.f_locals["asked"].mark.hex()
    """
    marks = [value_of(sandbox, code) for _ in range(20)]
    assert len({mark[:8] for mark in marks}) == len({mark[-8:] for mark in marks}) == 20


def test_a_thread_that_writes_later_reaches_no_later_job(sandbox: Sandbox) -> None:
    """It knows its own job's mark and floods the wire; the next job has another child."""
    code = f"""{WIRE}
    import sys, threading
    def main():
        frame = sys._getframe()
        while "asked" not in frame.f_locals:
            frame = frame.f_back
        word = frame.f_locals["asked"].mark + b'\\x01{{"ok": true, "value": "forged"}}'
        began = threading.Event()
        def flood():
            number = wire()
            while True:
                began.set()
                os.write(number, b"\\0" * 16 + word[16:])
        threading.Thread(target=flood, daemon=True).start()
        began.wait()
        return "mine"
    """
    first = who(sandbox)
    assert value_of(sandbox, code) == "mine"
    assert value_of(sandbox, "def main(): return 'next'") == "next"
    assert who(sandbox) != first


def test_large_questions_and_answers_pass(sandbox: Sandbox) -> None:
    text = "\N{SNOWMAN}x" * 150_000
    for _ in range(2):
        assert value_of(sandbox, "def main(text): return text", text=text) == text


def test_an_endless_answer_is_bounded(sandbox: Sandbox) -> None:
    code = f"""{WIRE}
    import sys
    def main():
        frame = sys._getframe()
        while "asked" not in frame.f_locals:
            frame = frame.f_back
        number = wire()
        while True:
            os.write(number, frame.f_locals["asked"].mark + b"\\0" + b"x" * 60000)
    """
    assert code_of(run(sandbox, code)) == "output_too_large"
    assert are_soon_gone(sandbox)


def test_a_child_that_died_while_it_waited_costs_no_job(sandbox: Sandbox) -> None:
    first = who(sandbox)
    [child] = children(sandbox)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    assert who(sandbox) != first


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up: without it jobs have the worker's user id")
def test_no_job_can_end_its_zygote_or_another_child(sandbox: Sandbox) -> None:
    other = who(sandbox, "e2")
    assert sandbox._zygote is not None
    pids = [sandbox._zygote.pid, os.getpid(), *(child.pid for child in children(sandbox))]
    code = """
        import signal
        def main(pids):
            for pid in [os.getppid(), -1, *pids]:
                try:
                    os.kill(pid, signal.SIGTERM)
                except OSError:
                    pass
    """
    value_of(sandbox, code, pids=pids)
    assert who(sandbox, "e2") == other
