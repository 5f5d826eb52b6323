"""What a storage is: the one door between the kind `save` and the places that it can write to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from executors import contract
from executors.actions.save.arguments import SaveArguments
from executors.contract import ActionContext, ActionFailed, ActionKind, ActionRequest


@dataclass(frozen=True, slots=True)
class SaveContext:
    """The job that a storage works for, and what the worker lends it: `executors.auth` finds credentials with that.

    `deadline` is on `time.monotonic`.
    """

    request: ActionRequest
    lent: ActionContext
    deadline: float

    @property
    def effect_key(self) -> str:
        """The same for every attempt of this job: for targets that can remove doubles."""
        return self.request.effect_key


class StorageSpec(contract.Arguments):
    """Base of what a storage reads in `spec`; registration knows its schema."""

    @classmethod
    def read(cls, given: SaveArguments) -> Self:
        """The checked `spec`. Raises: `ActionFailed` (`arguments_invalid`), without quoting a value."""
        try:
            return cls.check(given.spec)
        except ActionFailed as failure:
            raise ActionFailed(failure.code, f"spec: {failure}") from None


class Storage(ABC):
    """One place that can be written to. An instance is shared by all jobs of a worker process and keeps no job's state.

    What of the arguments it reads and cannot do without is told at registration, from `takes` and `needs`.
    """

    name: ClassVar[str]
    """What `storage` says."""
    takes: ClassVar[frozenset[str]]
    """The arguments that it reads; any other given one is warned of."""
    needs: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Of each of these choices one argument has to be there."""
    Spec: ClassVar[type[StorageSpec] | None] = None
    """What it reads in `spec`, when that is to be checked at registration, too."""
    modes: ClassVar[tuple[str, ...]] = ()
    """What `mode` may say, when that is not any of them."""

    @classmethod
    def build(cls, settings: Any) -> Self:
        """One for a worker process. `settings` is an object with Django's settings. Cheap: no connection, no file."""
        return cls()

    @abstractmethod
    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        """Write the rows and return JSON-like data: `{saved: NAME, ...}`, small.

        `rows` are `spec.rows()`; what is no table writes `spec.data` as it is. It may run again after a worker died:
        either all is written or nothing, or `context.effect_key` keeps doubles out. Raises: `ActionFailed`.
        """

    # Not abstract: most storages need none.
    def work_with(self, kinds: Mapping[str, ActionKind]) -> None:  # noqa: B027  (see above)
        """Be lent the worker's other action kinds, by their names, before the first job; they are not its to close."""

    # Not abstract: most storages keep nothing.
    def close(self) -> None:  # noqa: B027  (see above)
        """Release what is kept warm; called once when the worker stops."""
