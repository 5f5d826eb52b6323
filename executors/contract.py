"""What an action kind is: the one door between the worker and the things it can do.

Knows nothing of queues, leases, events or any particular kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from executors.redaction import Hider, names_secret

Level = Literal["debug", "info", "warning", "error", "critical"]


class Arguments(BaseModel):
    """Base of a kind's arguments; an unknown key is an error.

    A field whose `json_schema_extra` is `{"x-noetl-template": "verbatim"}` is never rendered (code);
    `"sql"` is rendered with contextual SQL escaping; anything else is an ordinary template.
    """

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def check(cls, given: Mapping[str, Any]) -> Self:
        """The checked arguments. Raises: `ActionFailed` (`arguments_invalid`), without quoting a value."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False, include_context=False)
            texts = [f"{'.'.join(map(str, p['loc'])) or 'arguments'}: {p['msg']}" for p in problems]
            raise ActionFailed("arguments_invalid", "; ".join(texts)) from None


@dataclass(frozen=True, slots=True)
class Credential:
    """A resolved credential. `data` is clear text: it never leaves the worker's memory."""

    name: str
    type: str
    data: Mapping[str, str] = field(repr=False)

    def secret_texts(self) -> list[str]:
        """Its secret values, and those that are made of two of them; `executors.redaction` knows their forms."""
        values = [value for name, value in self.data.items() if value and names_secret(name)]
        user = self.data.get("username") or self.data.get("user") or self.data.get("client_id")
        password = self.data.get("password") or self.data.get("client_secret")
        # Short ones are found in base64 only together.
        return [*values, f"{user}:{password}"] if user and password else values

    def mask(self, text: str) -> str:
        """`text` with every secret value of this credential replaced."""
        return str(Hider(self.secret_texts()).hide(text))


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """One leased job, as the action sees it; every value is rendered.

    `effect_key` is stable over attempts (`execution:node_id`), for targets that can remove doubles.
    `timeout_seconds` is the whole time the action may take.
    """

    kind: str
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Any]
    execution_id: str
    node_id: str
    step: str
    attempt: int
    effect_key: str
    timeout_seconds: float

    @property
    def key(self) -> str:
        """Of this try among all."""
        return f"{self.node_id}#{self.attempt}"


class ActionContext(Protocol):
    """What the worker lends an action while it runs."""

    data_dir: Path
    """Folder for files that belong to executions (DuckDB databases)."""
    cancelled: Event
    """Set when the worker lost the lease or is told to stop: end at once, keep nothing."""

    def log(self, text: str, level: Level = "info") -> None:
        """Write a line, or several, into the execution's log. Secrets of the job are taken out of it."""

    def take_printed(self, chunk: bytes) -> None:
        """The same for what a child process prints, as it comes."""

    def credential(self, name: str) -> Credential:
        """Resolve a stored credential by its name; kinds ask `executors.auth`, which reads every form of `auth`.

        Raises: `ActionFailed` (`credential_not_found`, `credential_out_of_scope`, `credential_unreadable`).
        """

    def secret(self, name: str) -> str:
        """The value of `{{ secret.NAME }}`. Raises: `ActionFailed` (`secret_not_found`)."""

    def environment_secret(self, name: str) -> str:
        """The value of `NOETL_SECRET_NAME` in the worker's environment. Raises: `ActionFailed` (`secret_not_found`)."""

    def stored_secret(self, name: str) -> str:
        """The one secret field of a stored credential. Raises: `ActionFailed` (`secret_not_found`)."""

    def keep_secret(self, values: Iterable[str]) -> None:
        """Hide these values, too, in all that comes of the job and in this process's logs while it runs."""

    def hide(self, value: Any) -> Any:
        """A text or JSON-like value with every secret of this job replaced by `***`."""

    def look_ahead(self, begin: Callable[[ActionRequest], None]) -> None:
        """Call `begin` with the job that this worker comes to next, if it is known and of the same kind.

        The kind may begin it then, before it is asked to run it; it must know when it is asked (`ActionRequest.key`),
        and be able to take it back (`ActionKind.recall`).
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended. `data` is JSON-like; on an error it may hold what there was so far.

    `retry_after_seconds`: the least time that whoever was asked wants to pass before the next try.
    """

    status: Literal["success", "error"]
    data: Any = None
    code: str = ""
    message: str = ""
    traceback: str = ""
    retry_after_seconds: float | None = None


class ActionFailed(Exception):
    """An action's failure with its cause; the worker reports it as an error outcome.

    `retry_after_seconds`: the least time until the next try, if the step has one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        data: Any = None,
        traceback: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        self.code = code
        self.data = data
        self.traceback = traceback
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class ActionKind(ABC):
    """One kind of action: the door for those that are built in and for plugins alike.

    A kind is one subclass. Its first paragraph of documentation, its arguments' descriptions and what stands in
    `result`, `errors` and `example` are its page in docs/actions.md. An instance is shared by all jobs of a worker
    process and keeps no job's state.
    """

    name: ClassVar[str]
    """What a step's `type` says: lower case letters, digits and underscores."""
    Arguments: ClassVar[type[Arguments]]
    """What a step gives it: the keys of the step that are its own."""
    result: ClassVar[str] = ""
    """What `run` returns, in Markdown."""
    errors: ClassVar[Mapping[str, str]] = {}
    """The codes with which it fails, and when it does."""
    example: ClassVar[str] = ""
    """A whole playbook, in YAML."""
    secrets_in: ClassVar[tuple[str, ...] | None] = None
    """Where `{{ secret.NAME }}` may stand, as `/arguments/stdin` and below; None: in every argument and input."""

    @classmethod
    def build(cls, settings: Any) -> Self:
        """One for a worker process. `settings` is an object with Django's settings.

        Cheap: processes, pools and files come with the first job. Raises: `ValueError` for a setting that is wrong.
        """
        return cls()

    @abstractmethod
    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """Do it and return JSON-like data. Raises: `ActionFailed`."""

    def recall(self, request: ActionRequest) -> bool:
        """Take back what `look_ahead` gave. Returns: whether it has not begun, and never will. Does not wait."""
        return True

    # Not abstract: most kinds keep nothing.
    def end_turn(self) -> None:  # noqa: B027  (see above)
        """End what was kept for a worker's turn, which is over; called often, so that it must cost nothing else."""

    def close(self) -> None:  # noqa: B027  (the same)
        """Release what the kind keeps warm (processes, pools); called once when the worker stops."""
