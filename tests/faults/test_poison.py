"""Jobs that would take their worker along, beside a hundred good ones: theirs fail, all others complete."""

from __future__ import annotations

import pytest

from tests.faults.faulty import Faulty
from tests.support.starting import register

POISON = {
    "segfault": ("import ctypes\ndef main(): ctypes.string_at(0)", None),
    "out of memory": ("def main(): return len([bytearray(2 ** 26) for _ in range(2 ** 10)])", None),
    "fork bomb": (
        "import os, time\ndef main():\n    while True:\n        os.fork()",
        None,
    ),
    "endless loop": ("def main():\n    while True: pass", "timeout"),
    "kill the parent": ("import os, signal\ndef main():\n    os.kill(os.getppid(), signal.SIGKILL)", None),
    "huge": ("def main(): return 'x' * (11 * 2 ** 20)", "output_too_large"),
    "deep": (
        "def main():\n    value = []\n    for _ in range(7000): value = [value]\n    return value",
        "output_invalid",
    ),
    "nul": ("def main(): return 'a\\0b'", "output_invalid"),
    "not a number": ("def main(): return float('nan')", "output_invalid"),
}

BOOK = """
apiVersion: noetl.io/v1
kind: Playbook
name: poison{nth}
path: tests/poison{nth}
workflow:
  - {{step: start, next: bad}}
  - step: bad
    type: python
    timeout: 5s
    code: |
{code}
    next: end
  - {{step: end, result: "{{{{ bad.data }}}}"}}
"""


@pytest.mark.long
def test_poison_beside_a_hundred_good_jobs(killable: Faulty, tmp_path_factory: pytest.TempPathFactory) -> None:
    books = [
        BOOK.format(nth=nth, code="\n".join(f"      {line}" for line in code.split("\n")))
        for nth, (code, _) in enumerate(POISON.values())
    ]
    register(killable.platform, tmp_path_factory.mktemp("poison"), *books)
    good = killable.start_fan(items=100)
    started = {name: killable.starter.start(f"tests/poison{nth}") for nth, name in enumerate(POISON)}
    more = [killable.start_chain() for _ in range(10)]
    killable.check_completed(good, result={"results": [2 * item for item in range(100)]}, seconds=180)
    killable.wait_until_ended(*started.values(), *more, seconds=180)
    for name, execution_id in started.items():
        [(status, error)] = killable.query("SELECT status, error FROM execution WHERE id = %s", int(execution_id))
        expected = POISON[name][1]
        if name == "kill the parent" and status == "completed":
            # It may not even be allowed to: then nothing has happened.
            continue
        assert status == "failed", (name, status, error)
        assert expected is None or error["code"] == expected, (name, error)
    killable.check_invariants()
