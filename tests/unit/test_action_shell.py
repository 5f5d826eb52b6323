"""The shell kind: what a command gets, what it gives, how it fails, and who lets it run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from executors.actions.shell import KEPT_BYTES, ShellAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent, run_action
from executors.sandbox import bubblewrap
from executors.sandbox.host import Isolation


@pytest.fixture(scope="module")
def action() -> Iterator[ShellAction]:
    action = ShellAction(allowed=True)
    yield action
    action.close()


def run(
    action: ShellAction,
    command: str,
    *,
    inputs: dict[str, Any] | None = None,
    timeout: float = 20,
    cancelled: threading.Event | None = None,
    **arguments: Any,
) -> Any:
    request = ActionRequest(
        "shell", {"command": command, **arguments}, inputs or {}, "e1", "e1:s", "s", 1, "e1:s", timeout
    )
    return action.run(request, SimpleNamespace(cancelled=cancelled or threading.Event()))


def failure(action: ShellAction, command: str, **asked: Any) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        run(action, command, **asked)
    return caught.value


def test_the_result(action: ShellAction) -> None:
    told = run(action, "echo out; echo err >&2")
    assert told == {"exit_code": 0, "stdout": "out\n", "stderr": "err\n", "truncated": False}


def test_inputs_variables_arguments_and_standard_input(action: ShellAction) -> None:
    told = run(
        action,
        'printf "%s|" "$text" "$number" "$data" "$nothing" "$1" "$2" "$#"; cat',
        inputs={"text": "a b", "number": 1, "nothing": None},
        env={"number": 2, "data": {"ä": [1, True]}},
        args=["x y", 3],
        stdin=["line"],
    )
    assert told["stdout"] == 'a b|2|{"ä": [1, true]}|null|x y|3|2|["line"]'


def test_all_input_is_read_by_a_command_whose_output_goes_elsewhere(action: ShellAction) -> None:
    told = run(action, "exec >log 2>&1; cat >data; test $(wc -c <data) = 1000000", stdin="x" * 1_000_000)
    assert told["exit_code"] == 0


def test_a_command_is_no_template(action: ShellAction) -> None:
    assert run(action, "echo '{{ 1 + 1 }}'")["stdout"] == "{{ 1 + 1 }}\n"


def test_another_shell(action: ShellAction) -> None:
    assert run(action, 'a=(1 2); echo "${#a[@]}"', shell="/bin/bash")["stdout"] == "2\n"
    assert failure(action, "true", shell="/no/such/shell").code == "not_started"
    assert failure(action, "true", shell="sh").code == "arguments_invalid"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("echo a; echo first >&2; echo last >&2; exit 3", 3, "the command ended with 3: last"),
        ("exit 255", 255, "the command ended with 255"),
        ("no-such-program", 127, "the command ended with 127: step: 1: no-such-program: not found"),
        ("kill -TERM $$", 143, "the command was killed by SIGTERM"),
    ],
)
def test_another_code_than_0_is_an_error(action: ShellAction, command: str, code: int, message: str) -> None:
    failed = failure(action, command)
    assert (failed.code, str(failed)) == ("exit_code", message)
    assert failed.data["exit_code"] == code
    assert set(failed.data) == {"exit_code", "stdout", "stderr", "truncated"}


def test_outputs_are_bounded_and_read_to_the_end(action: ShellAction) -> None:
    told = run(
        action, "head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2; echo done >&2"
    )
    assert told["stdout"] == "x" * KEPT_BYTES
    assert told["stderr"] == "y" * KEPT_BYTES
    assert told["truncated"] is True


def test_outputs_are_texts_that_can_be_stored(action: ShellAction) -> None:
    assert run(action, r"printf 'a\000b\377'")["stdout"] == "a\ufffdb\ufffd"


def test_much_standard_input_and_a_command_that_does_not_read_it(action: ShellAction) -> None:
    assert run(action, "wc -c", stdin="x" * 3_000_000)["stdout"].strip() == "3000000"
    assert run(action, "head -c 1", stdin="x" * 3_000_000)["stdout"] == "x"
    assert run(action, "echo ok", stdin="x" * 3_000_000)["stdout"] == "ok\n"


def test_what_is_left_in_the_background_keeps_nobody_waiting(action: ShellAction) -> None:
    started = time.monotonic()
    assert run(action, "sleep 60 & echo started", timeout=15)["stdout"] == "started\n"
    assert time.monotonic() - started < 10


def test_a_timeout_and_a_cancellation(action: ShellAction) -> None:
    started = time.monotonic()
    assert failure(action, "sleep 60", timeout=0.5).code == "timeout"
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    assert failure(action, "sleep 60", cancelled=cancelled).code == "cancelled"
    assert time.monotonic() - started < 10


def test_a_worker_does_not_run_it_unless_it_is_told_to() -> None:
    off = ShellAction.build(SimpleNamespace())
    failed = failure(off, "true")
    assert failed.code == "shell_not_allowed"
    assert "NOETL_SHELL=1" in str(failed)
    on = ShellAction.build(SimpleNamespace(NOETL_SHELL=True))
    assert run(on, "echo on")["stdout"] == "on\n"
    on.close()


def test_levels_of_isolation(action: ShellAction) -> None:
    strict = ShellAction(allowed=True, isolation=Isolation.BWRAP, least=Isolation.BWRAP)
    assert failure(strict, "true", isolation="job").code == "isolation_refused"
    if bubblewrap.find() is not None:
        told = run(strict, "ls /sys/class/net 2>/dev/null | wc -l; pwd; touch /usr/x 2>/dev/null || echo read-only")
        assert told["stdout"].split() == ["0", "/tmp/job", "read-only"]
    strict.close()
    assert failure(action, "true", isolation="turn").code == "arguments_invalid"


def test_secrets_come_by_standard_input_only(action: ShellAction, tmp_path: Any) -> None:
    def outcome(arguments: dict[str, Any], inputs: dict[str, Any], place: str) -> Any:
        lent = Lent(tmp_path, threading.Event(), lambda name: Credential(name, "generic", {"value": "s3cret-value"}))
        request = ActionRequest("shell", arguments, inputs, "e1", "e1:s", "s", 1, "e1:s", 20)
        return run_action({"shell": action}, request, lent, {"secrets": {place: ["x"]}})

    mark = "⟦secret:x⟧"
    told = outcome({"command": "wc -c; cat /proc/self/environ", "stdin": mark}, {}, "/arguments/stdin")
    assert told.data["stdout"].startswith("12")
    for arguments, inputs, place in (
        ({"env": {"a": mark}}, {}, "/arguments/env/a"),
        ({"args": [mark]}, {}, "/arguments/args/0"),
        ({}, {"a": mark}, "/inputs/a"),
    ):
        told = outcome({"command": 'echo "$a$1"', **arguments}, inputs, place)
        assert (told.code, told.data) == ("secret_refused", None)
