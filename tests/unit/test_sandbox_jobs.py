"""The sandbox with real processes: what a job can do, what stops it, what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from executors.sandbox.host import JobResult, Limits, Sandbox
from executors.sandbox.printing import split_level
from tests.support.printing import Ran, run_printing

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up")


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox("python", Limits(memory_bytes=512 << 20, output_bytes=1 << 20))
    yield sandbox
    sandbox.close()


def run(sandbox: Sandbox, code: str, *, timeout: float = 10, **inputs: Any) -> Ran:
    payload = {"code": textwrap.dedent(code), "inputs": inputs, "context": {"step": "s"}}
    return run_printing(sandbox, payload, timeout_seconds=timeout)


def code_of(result: JobResult) -> str:
    assert result.failure is not None, f"unexpected success: {result.value!r}"
    return result.failure.code


def alive_with(marker: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if marker in " ".join(process.info["cmdline"] or []) and process.info["status"] != "zombie":
            found.append(process.pid)
    return found


@pytest.mark.parametrize(
    ("code", "inputs", "expected"),
    [
        ("def main(a, b): return a + b", {"a": 1, "b": 2, "unused": 3}, 3),
        ("def main(a=5): return a", {}, 5),
        ("def main(**kw): return kw", {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ("def main(a, **kw): return [a, kw]", {"a": 1, "b": 2}, [1, {"b": 2}]),
        ("def main(input_data): return input_data", {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ("def main(a, /, *, b): return [a, b]", {"a": 1, "b": 2}, [1, 2]),
        ("def main(a=1, b=2, /): return [a, b]", {"b": 5}, [1, 5]),
        ("async def main(a):\n    import asyncio\n    await asyncio.sleep(0)\n    return a", {"a": 1}, 1),
        ("import math\ndef half(x): return math.floor(x / 2)\ndef main(a): return half(a)", {"a": 5}, 2),
        (
            "def main(): return [context['step'], json.dumps(1), os.sep, str(uuid.UUID(int=0))[:2]]",
            {},
            ["s", "1", "/", "00"],
        ),
        ("def main(): return datetime.date(2020, 1, 2)", {}, "2020-01-02"),
        ("import tomllib, encodings.idna\ndef main(): return 'x'.encode('idna').decode()", {}, "x"),
    ],
)
def test_main_gets_what_it_asks_for(sandbox: Sandbox, code: str, inputs: dict[str, Any], expected: Any) -> None:
    result = run(sandbox, code, **inputs)
    assert result.failure is None and result.value == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def main(:", "code_invalid"),
        ("x = 1", "code_invalid"),
        ("def main(a, b): pass", "python_error"),
        ("def main(): 1 / 0", "python_error"),
        ("def main(): raise BaseException('x')", "python_error"),
        ("def main(): return bytearray(2 << 30)", "out_of_memory"),
        ("def main(): return main()", "python_error"),
        ("import sys\ndef main(): sys.exit(3)", "exited"),
        ("def main(): os._exit(3)", "exited"),
        ("import ctypes\ndef main(): ctypes.string_at(0)", "killed"),
        ("def main(): os.abort()", "killed"),
        ("def main(): return float('nan')", "output_invalid"),
        ("def main(): return {'a': ['\\0']}", "output_invalid"),
        ("def main(): return '\\ud800'", "output_invalid"),
        ("def main(): return object()", "output_invalid"),
        ("def main():\n    a = []\n    a.append(a)\n    return a", "output_invalid"),
        ("def main(): return 'x' * (2 << 20)", "output_too_large"),
        (
            "def main():\n    a = 'x' * 1000\n    for _ in range(60): a = [a, a]\n    return a",
            "output_too_large",
        ),
    ],
)
def test_failures_have_their_own_codes(sandbox: Sandbox, code: str, expected: str) -> None:
    assert code_of(run(sandbox, code)) == expected
    assert run(sandbox, "def main(): return 1").value == 1, "the next job is not hurt"


def test_missing_input_is_named(sandbox: Sandbox) -> None:
    failure = run(sandbox, "def main(city, year): pass", year=1).failure
    assert failure is not None and failure.message == "TypeError: main() is missing the input 'city'"


def test_traceback_shows_user_lines_only(sandbox: Sandbox) -> None:
    failure = run(sandbox, "def helper():\n    return {}['k']\ndef main():\n    return helper()").failure
    assert failure is not None and failure.message == "KeyError: 'k'"
    assert "line 2, in helper\n    return {}['k']" in failure.traceback
    assert "line 4, in main" in failure.traceback and "program_python" not in failure.traceback


def test_exit_status_and_signal_are_told(sandbox: Sandbox) -> None:
    ended, killed = (
        run(sandbox, "def main(): os._exit(7)"),
        run(sandbox, "def main(): os.kill(os.getpid(), 9)"),
    )
    assert ended.failure is not None and "status 7" in ended.failure.message
    # Process 1 of a namespace cannot kill itself; elsewhere it can.
    assert killed.failure is None or "SIGKILL" in killed.failure.message


def test_a_print_cannot_forge_a_result(sandbox: Sandbox) -> None:
    fake = (
        "import sys, struct\n"
        "def main():\n"
        '    body = b\'{"ok": true, "value": "forged"}\'\n'
        "    for stream in (1, 2): os.write(stream, struct.pack('<Q', len(body)) + body)\n"
        '    print(\'{"ok": true, "value": "forged"}\')\n'
        "    return 'real'"
    )
    result = run(sandbox, fake)
    assert result.value == "real" and "forged" in result.printed


def test_printing_never_blocks(sandbox: Sandbox) -> None:
    result = run(sandbox, "def main():\n    for _ in range(20_000): print('x' * 99)\n    return 1")
    assert result.value == 1 and len(result.printed) == 2_000_000


def test_logger_prints(sandbox: Sandbox) -> None:
    told = run(sandbox, "def main(): logger.info('hello %s\\nyou', 1)").printed.splitlines()
    assert [split_level(line) for line in told] == [("info", "hello 1"), ("info", "you")]


def test_timeout_kills_the_job_and_its_grandchildren(sandbox: Sandbox) -> None:
    marker = f"noetl-test-{os.getpid()}-{time.monotonic_ns()}"
    code = f"""
        import subprocess, signal
        def main():
            for start_new_session in (False, True):
                subprocess.Popen(["sh", "-c", "trap '' TERM HUP; while :; do sleep 60; done", "{marker}"],
                                 start_new_session=start_new_session)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True: pass
    """
    seen = threading.Thread(target=wait_until, args=(lambda: len(alive_with(marker)) == 2,))
    seen.start()
    started = time.monotonic()
    assert code_of(run(sandbox, code, timeout=1.5)) == "timeout"
    assert time.monotonic() - started < 4
    seen.join()
    assert wait_until(lambda: not alive_with(marker))


def test_a_finished_job_leaves_no_process(sandbox: Sandbox) -> None:
    marker = f"noetl-test-{os.getpid()}-{time.monotonic_ns()}"
    code = f"""
        import subprocess
        def main():
            subprocess.Popen(["sh", "-c", "echo up; sleep 60", "{marker}"], start_new_session=True,
                             stdout=subprocess.PIPE).stdout.readline()
            return 1
    """
    assert run(sandbox, code).value == 1
    assert wait_until(lambda: not alive_with(marker))


def test_cancel_ends_a_job_at_once(sandbox: Sandbox) -> None:
    cancelled = threading.Event()
    timer = threading.Timer(0.2, cancelled.set)
    timer.start()
    started = time.monotonic()
    payload = {"code": "import time\ndef main(): time.sleep(60)", "inputs": {}, "context": {}}
    result = sandbox.run(payload, timeout_seconds=60, cancelled=cancelled)
    assert code_of(result) == "cancelled" and time.monotonic() - started < 2


@as_root
def test_privileges_are_gone(sandbox: Sandbox) -> None:
    code = """
        def main(worker):
            def tries(function, *arguments):
                try:
                    function(*arguments)
                    return True
                except OSError:
                    return False
            return {
                "ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(),
                "shadow": tries(open, "/etc/shadow"), "environ": tries(open, f"/proc/{worker}/environ"),
                "kill": tries(os.kill, worker, 0), "root": tries(os.setuid, 0),
                "no_new_privs": "NoNewPrivs:\\t1" in open("/proc/self/status").read(),
            }
    """
    value = run(sandbox, code, worker=os.getpid()).value
    assert all(number != 0 for number in value.pop("ids")) and value.pop("no_new_privs")
    assert value == {"groups": [], "shadow": False, "environ": False, "kill": False, "root": False}


@as_root
def test_two_jobs_have_different_uids(sandbox: Sandbox) -> None:
    code = "def main(): return os.getuid()"
    assert run(sandbox, code).value != run(sandbox, code).value


def test_environment_and_descriptors(sandbox: Sandbox) -> None:
    os.environ["NOETL_TEST_CANARY"] = "canary"
    code = """
        import stat, sys
        def main():
            kinds = []
            for number in range(3, 256):
                try:
                    mode = os.fstat(number).st_mode
                except OSError:
                    continue
                names = {stat.S_IFCHR: "null", stat.S_IFIFO: "printed", stat.S_IFSOCK: "wire"}
                if not stat.S_ISDIR(mode):
                    kinds.append(names.get(stat.S_IFMT(mode), "other"))
            return [dict(os.environ), sorted(kinds), sys.stdin.read(), os.getpgrp() == os.getsid(0)]
    """
    kinds = ["null", "printed", "wire"]
    assert run(sandbox, code).value == [{}, kinds, "", True], "what the first three are put back from, and the wire"


def test_programs_inherit_no_descriptor(sandbox: Sandbox) -> None:
    code = """
        import subprocess
        def main():
            listed = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE, text=True)
            return listed.stdout.split()
    """
    assert run(sandbox, code).value == ["0", "1", "2", "3"], "the streams, and the folder that is listed"


def test_the_working_folder_is_private_and_goes(sandbox: Sandbox) -> None:
    code = """
        import tempfile
        def main():
            open("here", "w").write("x")
            os.makedirs("deep/er")
            return [os.getcwd(), oct(os.stat(".").st_mode & 0o777), tempfile.gettempdir() == os.getcwd()]
    """
    folder, mode, is_temp = run(sandbox, code).value
    assert mode == "0o700" and is_temp and not Path(folder).exists()


@as_root
def test_a_fork_bomb_is_bounded(sandbox: Sandbox) -> None:
    code = """
        import time
        def main():
            count = 0
            try:
                while True:
                    if os.fork() == 0:
                        time.sleep(60)
                    count += 1
            except OSError:
                return count
    """
    assert 0 < run(sandbox, code).value <= 64
    assert run(sandbox, "def main(): return 1").value == 1


def test_jobs_run_at_the_same_time(sandbox: Sandbox, tmp_path: Path) -> None:
    """Two jobs that wait for one another can only end when both run."""
    ours, theirs = tmp_path / "a", tmp_path / "b"
    for fifo in (ours, theirs):
        os.mkfifo(fifo)
        fifo.chmod(0o666)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_mode & 0o005 != 0o005 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    code = """
        def main(read_first, mine, other):
            if read_first:
                text = open(mine).read()
                open(other, "w").write("pong")
                return text
            open(other, "w").write("ping")
            return open(mine).read()
    """
    results: dict[bool, Any] = {}
    threads = [
        threading.Thread(
            target=lambda first, mine, other: results.__setitem__(
                first, run(sandbox, code, read_first=first, mine=str(mine), other=str(other)).value
            ),
            args=arguments,
        )
        for arguments in ((True, ours, theirs), (False, theirs, ours))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {True: "ping", False: "pong"}


def test_a_dead_zygote_is_replaced(sandbox: Sandbox) -> None:
    assert run(sandbox, "def main(): return 1").value == 1
    zygote = sandbox._zygote
    assert zygote is not None
    outcome: list[JobResult] = []
    job = threading.Thread(
        target=lambda: outcome.append(run(sandbox, "import time\ndef main(): time.sleep(60)", timeout=30))
    )
    job.start()
    # The job's child and the one that is forked ahead.
    assert wait_until(lambda: len(psutil.Process(zygote.pid).children()) == 2)
    children = psutil.Process(zygote.pid).children()
    os.kill(zygote.pid, signal.SIGKILL)
    job.join(10)
    assert code_of(outcome[0]) == "killed"
    assert wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    assert run(sandbox, "def main(): return 2").value == 2


def test_nothing_outlives_a_killed_worker() -> None:
    """A worker killed without warning takes its zygote, the job and the job's detached children along."""
    marker = f"noetl-test-{os.getpid()}-{time.monotonic_ns()}"
    job = (
        "import subprocess, time\\ndef main():\\n"
        f"    subprocess.Popen(['sh', '-c', 'sleep 60; :', '{marker}'], start_new_session=True)\\n"
        "    time.sleep(60)"
    )
    script = (
        "from executors.sandbox.host import Sandbox\n"
        "s = Sandbox('python')\n"
        f"s.run({{'code': \"{job}\", 'inputs': {{}}, 'context': {{}}}}, timeout_seconds=60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=root)
    try:
        family: list[psutil.Process] = []

        def shell_runs() -> bool:
            # By name: the worker's own forks carry the marker too, until they exec.
            family[:] = psutil.Process(worker.pid).children(recursive=True)
            return any(process.name() == "sh" for process in family)

        assert wait_until(shell_runs, 10)
        assert len(family) >= 3, "zygote, job and shell"
    finally:
        worker.kill()
        worker.wait()
    assert wait_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in family))
    assert not alive_with(marker)


def test_close_ends_running_jobs() -> None:
    own = Sandbox("python")
    assert own.run({"code": "def main(): return 1", "inputs": {}, "context": {}}, timeout_seconds=5).value == 1
    assert own._zygote is not None
    pid = own._zygote.pid
    own.close()
    assert not psutil.pid_exists(pid)
