"""The storage `python`: what is saved is handed to code, which runs as that of python steps does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, field_validator

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.by_kinds import KindStorage, Part, Work
from executors.actions.save.storage import SaveContext, StorageSpec

OWN: Final = frozenset({"data", "rows"})


class PythonSpec(StorageSpec):
    """What the code gets beside the data, and how far it is kept apart."""

    inputs: dict[str, Any] = Field({}, alias="with", description="further arguments of `main`, by their names")
    isolation: Literal["turn", "job", "bwrap"] | None = Field(None, description="as of a python step")

    @field_validator("inputs")
    @classmethod
    def _leave_the_data(cls, inputs: dict[str, Any]) -> dict[str, Any]:
        if taken := OWN & inputs.keys():
            raise ValueError(f"{min(taken)} is what is saved: call it otherwise")
        return inputs


class PythonStorage(KindStorage):
    """Calls `main` with `data` as it is and with `rows`, a list; or with so many rows at a time."""

    name: ClassVar[str] = "python"
    takes: ClassVar[frozenset[str]] = frozenset({"code", "data", "spec"})
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("code",),)
    Spec: ClassVar[type[StorageSpec] | None] = PythonSpec

    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        """`{saved: "python", rows, data}`: what `main` returned; with a `chunk_size` a list of it, per call."""
        asked = PythonSpec.read(spec)
        arguments = {"code": spec.code, "isolation": asked.isolation}

        def work_of(part: Part) -> Work:
            return Work(arguments, {**asked.inputs, "data": part.data, "rows": list(part.rows)})

        returned = list(self._each(rows, spec, context, work_of))
        told = returned[0] if spec.chunk_size is None else returned
        return {"saved": self.name, "rows": len(rows), "data": told}
