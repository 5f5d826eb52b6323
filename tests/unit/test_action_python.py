"""The python kind: how a job's end becomes an outcome, and where its prints go."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executions.api import LogLine
from executors.actions.python import PythonAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from executors.sandbox.host import Isolation


@pytest.fixture(scope="module")
def action() -> Iterator[PythonAction]:
    action = PythonAction()
    yield action
    action.close()


def lend(tmp_path: Path = Path()) -> Lent:
    return Lent(tmp_path, threading.Event(), lambda name: Credential(name, "generic", {}))


def finished(lent: Lent) -> list[LogLine]:
    lent.lines.finish()
    return lent.lines.take()


def run(
    action: PythonAction, code: str, tmp_path: Path, *, timeout: float = 10, lent: Lent | None = None, **inputs: Any
) -> Any:
    request = ActionRequest("python", {"code": code}, inputs, "e1", "e1:s", "s", 2, "e1:s", timeout)
    return action.run(request, lent or lend(tmp_path))


def test_returns_what_main_returned(action: PythonAction, tmp_path: Path) -> None:
    assert run(action, "def main(n): return {'n': n + 1}", tmp_path, n=1) == {"n": 2}


def test_context_tells_about_the_step(action: PythonAction, tmp_path: Path) -> None:
    context = run(action, "def main(): return context", tmp_path, n=1)
    assert context == {
        "execution_id": "e1",
        "node_id": "e1:s",
        "step": "s",
        "attempt": 2,
        "effect_key": "e1:s",
        "inputs": {"n": 1},
    }


def test_code_is_not_a_template(action: PythonAction, tmp_path: Path) -> None:
    assert run(action, "def main(): return '{{ n }}'", tmp_path) == "{{ n }}"


def test_code_without_main_is_told_what_it_lacks(action: PythonAction, tmp_path: Path) -> None:
    with pytest.raises(ActionFailed, match="must define a function named main") as caught:
        run(action, "x = 1", tmp_path)
    assert caught.value.code == "code_invalid"


def test_an_error_carries_code_message_and_traceback(action: PythonAction, tmp_path: Path) -> None:
    with pytest.raises(ActionFailed) as caught:
        run(action, "def main():\n    return 1 / 0", tmp_path)
    assert caught.value.code == "python_error"
    assert str(caught.value) == "ZeroDivisionError: division by zero"
    assert "line 2, in main" in caught.value.traceback


def test_a_time_out_is_the_requests(action: PythonAction, tmp_path: Path) -> None:
    with pytest.raises(ActionFailed) as caught:
        run(action, "def main():\n    while True: pass", tmp_path, timeout=0.3)
    assert caught.value.code == "timeout"


def test_what_is_printed_and_logged_goes_to_the_executions_log(action: PythonAction, tmp_path: Path) -> None:
    code = """
        import sys
        def main():
            print('hello')
            print('oops', file=sys.stderr)
            logger.warning('careful')
            print('no end', end='')
    """
    lent = lend(tmp_path)
    run(action, textwrap.dedent(code), tmp_path, lent=lent)
    told = [(line.stream, line.level, line.text) for line in finished(lent)]
    assert told == [
        ("printed", "info", "hello"),
        ("printed", "info", "oops"),
        ("logged", "warning", "careful"),
        ("printed", "info", "no end"),
    ]


WHO = "def main(): return os.getcwd()"


def test_an_executions_steps_share_a_child_until_the_turn_ends(action: PythonAction, tmp_path: Path) -> None:
    first = run(action, WHO, tmp_path)
    assert run(action, WHO, tmp_path) == first
    action.end_turn()
    assert run(action, WHO, tmp_path) != first


def ask(action: PythonAction, isolation: Any) -> Any:
    request = ActionRequest("python", {"code": WHO, "isolation": isolation}, {}, "e1", "e1:s", "s", 1, "e1:s", 10)
    return action.run(request, lend())


def test_a_step_can_ask_for_a_stronger_level(action: PythonAction) -> None:
    shared = ask(action, "turn")
    assert len({ask(action, "turn"), ask(action, None), shared}) == 1
    assert len({ask(action, "job"), ask(action, "job"), shared}) == 3


@pytest.mark.parametrize("isolation", [None, "turn", "job"])
def test_a_step_below_the_least_level_is_refused(isolation: str | None) -> None:
    action = PythonAction(isolation=Isolation.JOB, least=Isolation.JOB)
    try:
        if isolation == "turn":
            with pytest.raises(ActionFailed, match=r"asks for the isolation turn; .* nothing below job") as caught:
                ask(action, isolation)
            assert caught.value.code == "isolation_refused"
        else:
            assert ask(action, isolation) != ask(action, isolation)
    finally:
        action.close()


def test_levels_are_in_order() -> None:
    levels = list(Isolation)
    assert levels == [Isolation.TURN, Isolation.JOB, Isolation.BWRAP]
    assert [one for one in levels for other in levels if one.is_below(other)] == [levels[0], levels[0], levels[1]]


@pytest.mark.parametrize("arguments", [{}, {"code": ""}, {"code": "x", "more": 1}, {"code": "x", "isolation": "none"}])
def test_arguments_are_checked(action: PythonAction, arguments: dict[str, Any]) -> None:
    request = ActionRequest("python", arguments, {}, "e1", "e1:s", "s", 1, "e1:s", 5)
    with pytest.raises(ActionFailed) as caught:
        action.run(request, lend())
    assert caught.value.code == "arguments_invalid"
