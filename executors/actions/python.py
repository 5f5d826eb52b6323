"""The `python` kind: runs a step's code in a confined child process.

Knows how a job's reply becomes an outcome; confinement is the sandbox's matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from executors import contract
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.sandbox.host import Isolation, Limits, NextJob, Sandbox

logger = logging.getLogger(__name__)


class PythonArguments(contract.Arguments):
    """`code` defines `main`, which is called with the step's inputs.

    `isolation` is how far the step wants to be kept apart from others; without it the worker's level counts.
    """

    code: str = Field(min_length=1, json_schema_extra={"x-noetl-template": "verbatim"})
    isolation: Literal["turn", "job", "bwrap"] | None = None


class PythonAction(contract.ActionKind):
    """Runs `main(**inputs)` and returns what it returned."""

    name: ClassVar[str] = "python"
    Arguments: ClassVar[type[contract.Arguments]] = PythonArguments

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        isolation: Isolation = Isolation.TURN,
        least: Isolation = Isolation.TURN,
    ) -> None:
        """`isolation` is the level of a step that asks for none; one that asks for less than `least` is refused."""
        self._least = least
        self._sandbox = Sandbox("python", limits, isolation=isolation)

    @classmethod
    def build(cls, settings: Any) -> Self:
        """At the level that the settings say."""
        return cls(
            isolation=Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION", Isolation.TURN)),
            least=Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION_LEAST", Isolation.TURN)),
        )

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """What `main` returned. Raises: `ActionFailed` with a code of `JobFailure`, or `isolation_refused`."""
        arguments = PythonArguments.check(request.arguments)
        level = self._level(arguments)
        if level.is_below(self._least):
            message = f"the step asks for the isolation {level}; this worker runs nothing below {self._least}"
            raise ActionFailed("isolation_refused", message)

        def look_ahead(hand_over: Callable[[NextJob], None]) -> None:
            context.look_ahead(partial(self._begin, hand_over))

        result = self._sandbox.run(
            _payload(arguments, request),
            timeout_seconds=request.timeout_seconds,
            cancelled=context.cancelled,
            turn=request.execution_id,
            isolation=level,
            key=request.key,
            look_ahead=look_ahead,
        )
        _log_printed(request, context.hide(result.printed), was_cut=result.printed_truncated)
        if result.failure is not None:
            failure = result.failure
            raise ActionFailed(failure.code, failure.message, data=failure.data, traceback=failure.traceback)
        return result.value

    def _level(self, arguments: PythonArguments) -> Isolation:
        return Isolation(arguments.isolation) if arguments.isolation else self._sandbox.isolation

    def _begin(self, hand_over: Callable[[NextJob], None], request: ActionRequest) -> None:
        """Let the child that has the job before this one go on with it by itself."""
        try:
            arguments = PythonArguments.check(request.arguments)
        except ActionFailed:
            # It will fail when it is run.
            return
        level = self._level(arguments)
        if level is Isolation.TURN and not level.is_below(self._least):
            hand_over(NextJob(request.key, _payload(arguments, request), request.timeout_seconds))

    def recall(self, request: ActionRequest) -> bool:
        """Take a job back that a child was handed and has not begun."""
        return self._sandbox.recall(request.key)

    def end_turn(self) -> None:
        """End the children that wait for another job of their execution."""
        self._sandbox.end_turn()

    def close(self) -> None:
        self._sandbox.close()


def _payload(arguments: PythonArguments, request: ActionRequest) -> dict[str, Any]:
    return {"code": arguments.code, "inputs": dict(request.inputs), "context": _step_context(request)}


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


def _log_printed(request: ActionRequest, printed: str, *, was_cut: bool) -> None:
    if printed:
        logger.info(
            "printed by %s: %s%s",
            request.node_id,
            printed,
            " [the rest was dropped]" if was_cut else "",
            extra={"execution_id": request.execution_id, "step": request.step},
        )
