"""The `python` kind: how a job's code is had, and how the end of its child becomes an outcome.

Confinement is the sandbox's matter, and where scripts are kept that of whoever fetches them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Self

from executors import contract
from executors.actions.python.arguments import PythonArguments, Script
from executors.actions.python.packages import Packages
from executors.auth import bound_credential
from executors.contract import ActionContext, ActionFailed, ActionRequest, Credential
from executors.sandbox.host import Isolation, Limits, NextJob, Sandbox

FetchScript = Callable[[Script, Credential | None, float, Event], str]
"""Gives a script's text within so many seconds, unless the event is set. Raises: `ActionFailed`."""

EXAMPLE = """\
apiVersion: noetl.io/v1
kind: Playbook
name: cheapest
path: examples/cheapest
workload: {offers: [{shop: north, price: 12}, {shop: south, price: 9}]}
workflow:
  - step: start
    type: python
    with: {offers: "{{ workload.offers }}"}
    code: |
      def main(offers):
          print(f"{context['step']}: {len(offers)} offers")
          return min(offers, key=lambda offer: offer["price"])
    next: end
  - {step: end, result: "{{ start.shop }}"}
"""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a step's child is to run, and with which packages."""

    code: str
    packages: Path | None
    isolation: Isolation


class PythonAction(contract.ActionKind):
    """Runs the function `main` of a step's code in a process that is kept apart."""

    name: ClassVar[str] = "python"
    Arguments: ClassVar[type[contract.Arguments]] = PythonArguments
    result: ClassVar[str] = (
        "What `main` returns, or what `result` is, as plain JSON: dates and ids become texts, decimals floats, tuples"
        " and sets lists."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "python_error": "the code raised an exception, or `main` lacks an input; the event has the traceback",
        "code_invalid": "the code cannot be compiled, or has neither `main` nor `result`",
        "out_of_memory": "it wanted more memory than it may have",
        "input_invalid": "the inputs are not JSON",
        "output_invalid": "the result is not JSON",
        "output_too_large": "the result is more than 10 MB",
        "exited": "the code ended its process",
        "killed": "the process was killed: too much memory or CPU time",
        "timeout": "the step's time is over; the process is killed with all it started",
        "script_refused": "the worker reads no script from there",
        "script_unavailable": "the script cannot be read",
        "script_too_large": "it is larger than 1 MiB",
        "script_changed": "it has not the digest that the step wants",
        "dependencies_refused": "the worker does not install these packages",
        "dependencies_failed": "it cannot install them",
        "isolation_refused": "the step asks for less isolation than the worker allows",
        "isolation_unavailable": "the worker has no bubblewrap, or may not use it",
    }
    example: ClassVar[str] = EXAMPLE

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        isolation: Isolation = Isolation.TURN,
        least: Isolation = Isolation.TURN,
        fetch: FetchScript | None = None,
        packages: Packages | None = None,
    ) -> None:
        """`isolation` is the level of a step that asks for none; one that asks for less than `least` is refused.

        Without `fetch` there are no scripts, without `packages` no dependencies.
        """
        self._least = least
        self._fetch = fetch
        self._packages = packages or Packages(Path())
        self._sandbox = Sandbox("python", limits, isolation=isolation)

    @classmethod
    def build(cls, settings: Any) -> Self:
        """At the level that the settings say, with the packages that they allow."""
        allowed = getattr(settings, "NOETL_PYTHON_DEPENDENCIES", ())
        return cls(
            isolation=Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION", Isolation.TURN)),
            least=Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION_LEAST", Isolation.TURN)),
            packages=Packages(Path(settings.NOETL_DATA_DIR) / "packages", allowed) if allowed else None,
        )

    def fetch_with(self, fetch: FetchScript) -> None:
        """Read scripts with this from now on."""
        self._fetch = fetch

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """What `main` returned, or what `result` is.

        Raises: `ActionFailed` with a code of `JobFailure`, `isolation_refused`, or what keeps a script or a dependency.
        """
        until = time.monotonic() + request.timeout_seconds
        wanted = self._wanted(PythonArguments.check(request.arguments), until, context)

        def look_ahead(hand_over: Callable[[NextJob], None]) -> None:
            context.look_ahead(partial(self._begin, hand_over))

        result = self._sandbox.run(
            _payload(wanted.code, request, wanted.packages),
            timeout_seconds=max(0.001, until - time.monotonic()),
            cancelled=context.cancelled,
            turn=request.execution_id,
            isolation=wanted.isolation,
            key=request.key,
            look_ahead=look_ahead,
            printed=context.take_printed,
        )
        if result.failure is not None:
            failure = result.failure
            message = failure.message
            if failure.code == "timeout":
                message = f"stopped after {request.timeout_seconds:g} s"
            raise ActionFailed(failure.code, message, data=failure.data, traceback=failure.traceback)
        return result.value

    def _level(self, arguments: PythonArguments) -> Isolation:
        return Isolation(arguments.isolation) if arguments.isolation else self._sandbox.isolation

    def _begin(self, hand_over: Callable[[NextJob], None], request: ActionRequest) -> None:
        """Let the child that has the job before this one go on with it by itself."""
        if request.kind != self.name:
            # The job before it is a save that runs code, and so is this one, or of another storage.
            return
        try:
            arguments = PythonArguments.check(request.arguments)
        except ActionFailed:
            # It will fail when it is run.
            return
        level = self._level(arguments)
        if arguments.code is None or arguments.dependencies:
            # What it needs is still to be fetched.
            return
        if level is Isolation.TURN and not level.is_below(self._least):
            hand_over(NextJob(request.key, _payload(arguments.code, request), request.timeout_seconds))

    def recall(self, request: ActionRequest) -> bool:
        """Take a job back that a child was handed and has not begun."""
        return self._sandbox.recall(request.key)

    def end_turn(self) -> None:
        """End the children that wait for another job of their execution."""
        self._sandbox.end_turn()

    def close(self) -> None:
        self._sandbox.close()

    def _wanted(self, arguments: PythonArguments, until: float, context: ActionContext) -> _Wanted:
        """Raises: `ActionFailed`."""
        level = self._level(arguments)
        if level.is_below(self._least):
            message = f"the step asks for the isolation {level}; this worker runs nothing below {self._least}"
            raise ActionFailed("isolation_refused", message)
        packages = None
        if arguments.dependencies:
            if level is Isolation.BWRAP:
                raise ActionFailed("dependencies_refused", "a step inside bubblewrap can have no dependencies")
            packages = self._packages.get(arguments.dependencies, until, context.cancelled)
            # What it imports is no other step's: a child of its own.
            level = Isolation.JOB
        return _Wanted(self._code(arguments, until, context), packages, level)

    def _code(self, arguments: PythonArguments, until: float, context: ActionContext) -> str:
        if arguments.script is None:
            return arguments.code or ""
        if self._fetch is None:
            raise ActionFailed("script_refused", "no scripts are read here")
        bound = bound_credential(arguments.auth, arguments.use_auth, context)
        credential = bound.credential if bound else None
        return self._fetch(arguments.script, credential, max(0.001, until - time.monotonic()), context.cancelled)


def _payload(code: str, request: ActionRequest, packages: Path | None = None) -> dict[str, Any]:
    payload = {"code": code, "inputs": dict(request.inputs), "context": _step_context(request)}
    return payload if packages is None else {**payload, "packages": str(packages)}


def _step_context(request: ActionRequest) -> dict[str, Any]:
    """The map that code sees as `context`."""
    return {
        "execution_id": request.execution_id,
        "node_id": request.node_id,
        "step": request.step,
        "attempt": request.attempt,
        "effect_key": request.effect_key,
        "inputs": dict(request.inputs),
    }
