"""The level `bwrap` with real processes: what a job sees and reaches there, and a worker that cannot offer it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from executors.sandbox.host import Isolation, JobResult, Sandbox
from tests.support.printing import Ran, run_printing

ROOT = Path(__file__).resolve().parents[2]


def _bubblewrap_works() -> bool:
    tried = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return shutil.which("bwrap") is not None and subprocess.run(tried, check=False, capture_output=True).returncode == 0


needs_bubblewrap = pytest.mark.skipif(not _bubblewrap_works(), reason="needs bubblewrap and leave to make namespaces")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox("python", isolation=Isolation.BWRAP)
    yield sandbox
    sandbox.close()


def run(sandbox: Sandbox, code: str, *, timeout: float = 30, **inputs: Any) -> Ran:
    payload = {"code": textwrap.dedent(code), "inputs": inputs, "context": {}}
    return run_printing(sandbox, payload, timeout_seconds=timeout, turn="e1")


def code_of(result: JobResult) -> str:
    assert result.failure is not None, f"unexpected success: {result.value!r}"
    return result.failure.code


@needs_bubblewrap
def test_a_job_sees_nothing_of_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("x")
    os.environ["NOETL_TEST_CANARY"] = "canary"
    code = """
        import sys, tempfile
        def main(secret, settings):
            seen = {
                "secret": os.path.exists(secret), "settings": os.path.exists(settings),
                "accounts": os.path.exists("/etc/passwd"), "environ": dict(os.environ),
                "processes": len([name for name in os.listdir("/proc") if name.isdigit()]) <= 2,
                "here": os.listdir(), "cwd": os.getcwd() == tempfile.gettempdir(), "home": os.path.exists("/home"),
                "descriptors": len(os.listdir("/proc/self/fd")),
            }
            print("printed", file=sys.stderr)
            return seen
    """
    result = run(
        sandbox, code, secret=str(tmp_path / "secrets.json"), settings=str(ROOT / "noetl_site" / "settings.py")
    )
    assert result.failure is None and result.printed == "printed\n"
    assert result.value == {
        "secret": False,
        "settings": False,
        "accounts": False,
        "environ": {},
        "processes": True,
        "here": [],
        "cwd": True,
        "home": False,
        # Three streams, what two of them are put back from, the folder, the wire, and the listing itself.
        "descriptors": 8,
    }


@needs_bubblewrap
def test_a_job_writes_to_its_own_folder_only(sandbox: Sandbox) -> None:
    code = """
        import sys
        def main():
            refused = []
            for folder in ["/", "/usr", "/etc", sys.prefix, os.path.dirname(os.__file__)]:
                try:
                    open(os.path.join(folder, "noetl-test"), "w")
                except OSError:
                    refused.append(folder)
            left = os.listdir("/tmp") + os.listdir(".")
            open("/tmp/left", "w").write("x"); open("left", "w").write("x")
            return [len(refused), "left" in left]
    """
    assert [run(sandbox, code).value for _ in range(2)] == [[5, False]] * 2


@needs_bubblewrap
def test_a_job_has_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = """
            import socket
            def main(port):
                for address in [("127.0.0.1", port), ("192.0.2.1", 80)]:
                    try:
                        socket.create_connection(address, 1)
                        return "reached"
                    except ConnectionRefusedError as error:
                        pass
                    except OSError as error:
                        return error.strerror
        """
        assert run(sandbox, code, port=server.getsockname()[1]).value == "Network is unreachable"


@needs_bubblewrap
def test_privileges_are_gone_and_limits_hold(sandbox: Sandbox) -> None:
    code = """
        import resource
        def main():
            status = open("/proc/self/status").read()
            effective = status.partition("CapEff:")[2].split()[0]
            refused = 0
            for number in (0, 1):
                try:
                    os.setuid(number)
                except OSError:
                    refused += 1
            return {
                "capabilities": int(effective, 16), "no new": "NoNewPrivs:\\t1" in status, "refused": refused,
                "user": os.getuid(), "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
            }
    """
    value = run(sandbox, code).value
    user = value.pop("user")
    assert value == {"capabilities": 0, "no new": True, "refused": 2, "memory": 1 << 30}
    assert user != 0 and (os.geteuid() != 0 or user != run(sandbox, code).value["user"])


@needs_bubblewrap
def test_no_two_jobs_share_an_interpreter(sandbox: Sandbox) -> None:
    code = """
        import builtins
        def main():
            builtins.left = getattr(builtins, "left", 0) + 1
            return builtins.left
    """
    assert [run(sandbox, code).value for _ in range(2)] == [1, 1]


@needs_bubblewrap
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def main(): os._exit(3)", "exited"),
        ("import ctypes\ndef main(): ctypes.string_at(0)", "exited"),
        ("def main():\n    while True: pass", "timeout"),
        ("def main(): os.closerange(3, 256)", "exited"),
        ("def main(): return bytearray(2 << 30)", "out_of_memory"),
        ("import time\ndef main():\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(60)", ""),
    ],
)
def test_a_job_that_goes_wrong_leaves_no_process(sandbox: Sandbox, code: str, expected: str) -> None:
    result = run(sandbox, code, timeout=30 if expected != "timeout" else 3)
    assert (result.failure.code if result.failure else "") == expected
    assert sandbox._zygote is not None
    spares, sandbox._spares = sandbox._spares, {}
    sandbox._end(spares.values())
    assert psutil.Process(sandbox._zygote.pid).children(recursive=True) == []


@needs_bubblewrap
def test_cancelling_ends_the_job(sandbox: Sandbox) -> None:
    cancelled = threading.Event()
    cancelled.set()
    payload = {"code": "import time\ndef main(): time.sleep(60)", "inputs": {}, "context": {}}
    assert code_of(sandbox.run(payload, timeout_seconds=60, cancelled=cancelled)) == "cancelled"


def test_without_bubblewrap_the_job_fails(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(sandbox, "def main(): return 1")
    assert code_of(result) == "isolation_unavailable" and "not installed" in str(result.failure)


def test_a_bubblewrap_that_may_not_work_is_told_with_its_words(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    # The second time the one that was made ahead is found dead.
    for _ in range(2):
        result = run(sandbox, "def main(): return 1")
        assert code_of(result) == "isolation_unavailable"
        assert "No permissions to create new namespace" in str(result.failure)


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to give up")
def test_a_worker_that_may_not_make_namespaces_refuses() -> None:
    script = (
        "from executors.sandbox.host import Isolation, Sandbox\n"
        "s = Sandbox('python')\n"
        "job = {'code': 'def main(): return 1', 'inputs': {}, 'context': {}}\n"
        "print(s.run(job, timeout_seconds=30, isolation=Isolation.BWRAP).failure.code)\n"
        "print(s.run(job, timeout_seconds=30, isolation=Isolation.JOB).value)\n"
        "s.close()\n"
    )
    powerless = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable, "-c", script]
    done = subprocess.run(powerless, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["isolation_unavailable", "1"], done.stderr
