"""The `shell` kind: runs a step's command in a confined child process, where the worker allows it.

Knows what a step says and what may come in from outside; confinement is the sandbox's matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field

from executors import contract
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.sandbox.host import Isolation, Limits, Sandbox

KEPT_BYTES: Final = 256 << 10
"""Of each output."""
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
CODE_BY_NAME: Final = re.compile(
    r"PATH|IFS|ENV|BASH_.*|BASHOPTS|SHELLOPTS|PS[0-9]|PROMPT_COMMAND|CDPATH|GLOBIGNORE|LD_.*|DYLD_.*|GCONV_PATH"
    r"|PYTHON.*|PERL.*|RUBY.*|NODE_.*|_?JAVA_.*|JDK_.*|GIT_.*|SSH_.*|EDITOR|VISUAL|PAGER|LESS.*"
)
"""Variables that tell a shell or a common program which code to run. A step sets them in its command."""


class ShellArguments(contract.Arguments):
    """`command` is for the shell, as it is written. Inputs (`with`) and `env` are its variables.

    A text is handed over as it is, anything else as JSON. In the command write `"$name"`, with quotes, and `"$1"` for
    what is in `args`: then every value is one word, and none is ever code.
    """

    model_config = ConfigDict(
        json_schema_extra={"x-noetl-caution": "runs only on workers that allow it: set NOETL_SHELL=1 there"}
    )

    command: str = Field(
        min_length=1,
        max_length=65_536,
        json_schema_extra={"x-noetl-template": "verbatim"},
        description="what the shell runs",
    )
    args: list[Any] = Field(default_factory=list, max_length=1000, description="`$1`, `$2`, ... of the command")
    env: dict[str, Any] = Field(default_factory=dict, description="variables, laid over the inputs")
    stdin: Any = Field(None, description="what the command reads")
    shell: str = Field(
        "/bin/sh", pattern=r"^/[^\x00]+$", json_schema_extra={"x-noetl-template": "verbatim"}, description="its program"
    )
    isolation: Literal["job", "bwrap"] | None = Field(None, description="as of `python`; the worker's without it")


class ShellAction(contract.ActionKind):
    """Runs a shell command in a process of its own: off, unless the worker allows it (`NOETL_SHELL=1`)."""

    name: ClassVar[str] = "shell"
    Arguments: ClassVar[type[contract.Arguments]] = ShellArguments
    result: ClassVar[str] = (
        f"`{{exit_code, stdout, stderr, truncated}}`. Of each output the first {KEPT_BYTES >> 10} KiB are kept, as "
        "UTF-8; `truncated` tells whether something was dropped."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "shell_not_allowed": "This worker runs no shell steps.",
        "secret_refused": "A secret stands elsewhere than in `stdin`: others see a process's variables and arguments.",
        "exit_code": "The command ended with another code than 0; the step's data is the result.",
        "not_started": "The shell is not there, or the variables are too many.",
        "arguments_invalid": "A variable's name is none, or would make its value code (`PATH`, `LD_PRELOAD`).",
        "timeout": "It was not over in time; it was killed with all that it had started.",
        "killed": "The process was killed: memory, CPU time.",
        "isolation_unavailable": "The worker has no bubblewrap, or may not use it.",
        "isolation_refused": "The step asks for less isolation than the worker allows.",
    }
    secrets_in: ClassVar[tuple[str, ...] | None] = ("/arguments/stdin",)
    """A process's variables and arguments are shown to others of the machine."""
    example: ClassVar[str] = """\
apiVersion: noetl.io/v1
kind: Playbook
name: count
path: docs/count
workload: {lines: "one\\ntwo\\n", word: "$(id); two"}
workflow:
  - step: start
    type: shell
    with: {word: "{{ word }}"}
    stdin: "{{ lines }}"
    command: |
      wc -l
      printf '%s' "$word"
    next: end
  - {step: end, result: "{{ start.stdout }}"}
"""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        allowed: bool = False,
        isolation: Isolation = Isolation.JOB,
        least: Isolation = Isolation.JOB,
    ) -> None:
        """`isolation` is the level of a step that asks for none; one that asks for less than `least` is refused."""
        self._allowed = allowed
        self._isolation = isolation
        self._least = least
        self._sandbox = Sandbox("shell", limits, isolation=isolation)

    @classmethod
    def build(cls, settings: Any) -> Self:
        """As the settings allow, at the level that they say for python: never with another job in one process."""
        wanted = Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION", Isolation.JOB))
        least = Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION_LEAST", Isolation.JOB))
        return cls(
            allowed=getattr(settings, "NOETL_SHELL", False),
            isolation=Isolation.JOB if wanted.is_below(Isolation.JOB) else wanted,
            least=least,
        )

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """What the command gave. Raises: `ActionFailed`."""
        if not self._allowed:
            raise ActionFailed("shell_not_allowed", "this worker runs no shell steps: NOETL_SHELL=1 would allow them")
        arguments = ShellArguments.check(request.arguments)
        level = Isolation(arguments.isolation) if arguments.isolation else self._isolation
        if level.is_below(self._least):
            message = f"the step asks for the isolation {level}; this worker runs nothing below {self._least}"
            raise ActionFailed("isolation_refused", message)
        payload = {
            "command": arguments.command,
            "shell": arguments.shell,
            "args": [_text(value, f"args.{place}") for place, value in enumerate(arguments.args)],
            "env": _variables({**request.inputs, **arguments.env}),
            "stdin": "" if arguments.stdin is None else _as_text(arguments.stdin),
            "kept_bytes": KEPT_BYTES,
        }
        result = self._sandbox.run(
            payload, timeout_seconds=request.timeout_seconds, cancelled=context.cancelled, isolation=level
        )
        if (failure := result.failure) is not None:
            raise ActionFailed(failure.code, failure.message, data=failure.data)
        return result.value

    def close(self) -> None:
        self._sandbox.close()


def _variables(given: Mapping[str, Any]) -> dict[str, str]:
    """Variables of a process. Raises: `ActionFailed` for a name that is none, or that would make a value code."""
    for name in given:
        if not NAME.fullmatch(name):
            raise ActionFailed("arguments_invalid", f"no variable can be called {name!r:.60}: rename the input")
        if CODE_BY_NAME.fullmatch(name):
            message = f"the variable {name} tells programs which code to run: set it inside the command"
            raise ActionFailed("arguments_invalid", message)
    return {name: _text(value, name) for name, value in given.items()}


def _text(value: Any, what: str) -> str:
    text = _as_text(value)
    if "\x00" in text:
        raise ActionFailed("arguments_invalid", f"{what} holds a NUL character, which ends texts there")
    return text


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
