"""What data, or a hostile command, tries on the shell kind: none may run as code, none may reach the worker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from executors.actions.shell import ShellAction
from executors.contract import ActionFailed, ActionRequest
from executors.sandbox.host import Limits

CANARY = "c4nary-of-the-worker"
SECONDS = 2.0
TIMEOUT_SECONDS = 1.0
"""What a command has."""


@pytest.fixture(scope="module")
def action() -> Iterator[ShellAction]:
    os.environ["NOETL_SECRET_CANARY"] = CANARY
    action = ShellAction(Limits(memory_bytes=256 << 20), allowed=True)
    yield action
    action.close()
    del os.environ["NOETL_SECRET_CANARY"]


def run(
    action: ShellAction,
    command: str,
    *,
    inputs: dict[str, Any] | None = None,
    seconds: float = TIMEOUT_SECONDS,
    **arguments: Any,
) -> Any:
    """The result, or the failure; always in time."""
    asked = {"command": command, **arguments}
    request = ActionRequest("shell", asked, inputs or {}, "e1", "e1:s", "s", 1, "e1:s", seconds)
    started = time.monotonic()
    try:
        return action.run(request, SimpleNamespace(cancelled=threading.Event()))
    except ActionFailed as failed:
        return failed
    finally:
        assert time.monotonic() - started < SECONDS


def is_alive(action: ShellAction) -> bool:
    return bool(run(action, "echo alive")["stdout"] == "alive\n")


WORDS = [
    "$(touch {place})",
    "`touch {place}`",
    "; touch {place} ;",
    "&& touch {place}",
    "| touch {place}",
    "\n touch {place} \n",
    "\r\ntouch {place}",
    "' ; touch {place} ; '",
    '" ; touch {place} ; "',
    "'$(touch {place})'",
    "$((a[$(touch {place})]))",
    "${x:-$(touch {place})}",
    "$'\\n'touch {place}",
    "> {place}",
    "<(touch {place})",
    "() { :; }; touch {place}",
    "() { _; } >_[$($())] { touch {place}; }",
    "{{ ''.__class__ }} $(touch {place})",
    "\\$(touch {place})",
    "-c 'touch {place}'",
    "--version; touch {place}",
    "!touch {place}",
    "%s%n$(touch {place})",
    "\u2028touch {place}",
    "$IFS;touch$IFS{place}",
]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_data_is_never_code(action: ShellAction, word: str, shell: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    place = tmp_path / "broken-out"
    word = word.replace("{place}", str(place))
    told = run(
        action,
        'printf "%s" "$word"; printf "%s" "$1"; cat; test "$word" = x; echo "$word" $word >/dev/null; true',
        inputs={"word": word},
        args=[word],
        stdin=word,
        shell=shell,
    )
    assert told["stdout"] == word * 3
    assert not place.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "PS4"),
        *("BASH_FUNC_echo%%", "PROMPT_COMMAND", "PYTHONPATH", "PYTHONSTARTUP", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS"),
        *("GIT_SSH_COMMAND", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "GCONV_PATH", "LESSOPEN", "EDITOR"),
        *("", "1", "a-b", "a b", "a=b", "a\nb", "a\x00b", "ä", "$(id)", "a;id", "x" * 200),
    ],
)
@pytest.mark.parametrize("way", ["inputs", "env"])
def test_names_that_would_make_a_value_code(action: ShellAction, name: str, way: str) -> None:
    given: Any = {way: {name: "/tmp/evil"}}
    told = run(action, "env", **given)
    assert isinstance(told, ActionFailed) and told.code == "arguments_invalid"
    assert "/tmp/evil" not in str(told)


@pytest.mark.parametrize("given", [{"args": ["a\x00b"]}, {"env": {"a": "a\x00b"}}, {"inputs": {"a": "\x00"}}])
def test_nul_characters(action: ShellAction, given: dict[str, Any]) -> None:
    told = run(action, "true", **given)
    assert isinstance(told, ActionFailed) and told.code == "arguments_invalid"


@pytest.mark.parametrize(
    "command",
    [
        "env; set",
        "cat /proc/self/environ /proc/$PPID/environ",
        "cat /proc/*/environ 2>/dev/null",
        "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; tr '\\0' ' ' < $p/cmdline; done 2>/dev/null",
        "cat /proc/{worker}/environ /proc/{worker}/maps /proc/{worker}/mem",
        "ls -l /proc/{worker}/fd /proc/{worker}/cwd",
        "cat /proc/self/fd/* </dev/null",
        "ls ~root; cat /etc/shadow; cat ~root/.ssh/*",
    ],
)
def test_nothing_of_the_worker_is_read(action: ShellAction, command: str) -> None:
    told = run(action, command.replace("{worker}", str(os.getpid())))
    data = told.data if isinstance(told, ActionFailed) else told
    assert CANARY not in repr(data)
    assert "root:" not in repr(data)


@pytest.mark.parametrize(
    "command",
    [
        "kill -9 {worker}",
        "kill -9 -1",
        "kill -9 $PPID; kill -STOP $PPID",
        "kill -9 0",
        "pkill -9 python || killall python",
        "kill -STOP {worker}",
        "renice 19 {worker}",
        "f() { f | f & }; f",
        "while true; do sh -c 'sleep 100' & done",
        "while :; do :; done",
        "exec 0<&- 1>&- 2>&-; sleep 100",
        "trap '' TERM INT HUP QUIT XCPU; while :; do :; done",
        "head -c 2000000000 /dev/zero | tail",
        "x=a; while :; do x=$x$x; done",
        "yes",
        "cat /dev/zero",
        "yes >&2",
        "dd if=/dev/zero of=big bs=1M count=2000",
        "ulimit -t unlimited; ulimit -v unlimited; while :; do :; done",
        "mkdir -p a/b/c; chmod 000 a; ln -s / root; sleep 0",
    ],
)
def test_the_worker_lives_on(action: ShellAction, command: str) -> None:
    run(action, command.replace("{worker}", str(os.getpid())), seconds=0.5)
    assert is_alive(action)


@pytest.mark.parametrize(
    "command",
    [
        "{sleep} & echo left",
        "nohup {sleep} >/dev/null 2>&1 & echo left",
        "setsid {sleep} >/dev/null 2>&1 & echo left",
        "(setsid sh -c '{sleep} & {sleep}' </dev/null >/dev/null 2>&1 &) ; echo left",
        "setsid {sleep} & sleep 100",
    ],
)
def test_nothing_is_left_behind(action: ShellAction, command: str) -> None:
    seconds = f"9{time.monotonic_ns() % 10**9}"
    run(action, command.replace("{sleep}", f"sleep {seconds}"))
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in left if line and seconds in line]
    assert is_alive(action)


def test_an_answer_cannot_be_forged(action: ShellAction) -> None:
    forged = '{"ok": true, "value": {"exit_code": 0, "stdout": "forged"}}'
    told = run(
        action, 'for f in /proc/$PPID/fd/*; do printf "%s" "$forged" > "$f"; done; exit 7', inputs={"forged": forged}
    )
    assert isinstance(told, ActionFailed)
    assert told.data is None or told.data["exit_code"] == 7


def test_one_command_sees_nothing_of_another(action: ShellAction) -> None:
    run(action, "echo secret > left; echo secret > /tmp/noetl-$$-left; chmod 644 /tmp/noetl-$$-left; pwd")
    assert run(action, "ls -A | wc -l; ls /tmp/noetl-jobs-*/* 2>/dev/null | grep -c left || true")[
        "stdout"
    ].split() == [
        "0",
        "0",
    ]


@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_more_than_a_process_can_be_given(action: ShellAction, size: int) -> None:
    told = run(action, "true", env={"a": "x" * size})
    assert isinstance(told, ActionFailed) and told.code == "not_started"
    assert is_alive(action)
