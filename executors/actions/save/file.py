"""The storage `file`: files in the execution's own folder, which its other steps read."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.files import FilesStorage, Write
from executors.actions.save.storage import SaveContext, StorageSpec
from executors.stores.places import Places
from executors.stores.watching import Watch


class FileSpec(StorageSpec):
    """Which file it is."""

    path: str = Field(min_length=1, description="below the execution's folder")


class FileStorage(FilesStorage):
    """Writes below the execution's folder, and nowhere else."""

    name: ClassVar[str] = "file"
    takes: ClassVar[frozenset[str]] = frozenset({"spec", "format", "mode", "data"})
    Spec: ClassVar[type[StorageSpec] | None] = FileSpec
    place: ClassVar[str] = "path"

    def _named(self, spec: SaveArguments) -> str:
        return FileSpec.read(spec).path

    def _put(self, place: str, write: Write, spec: SaveArguments, context: SaveContext, watch: Watch) -> None:
        write(Places(context.lent.data_dir, (), context.request.execution_id).own_file(place))
