"""The storages `s3` and `gcs`: objects in buckets, which are there whole or not at all."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from pydantic import Field

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.files import FilesStorage, Write
from executors.actions.save.storage import SaveContext, StorageSpec
from executors.auth import bound_credential
from executors.contract import ActionFailed, Credential
from executors.stores.gcs_store import gcs_object
from executors.stores.http_calls import CheckedCalls
from executors.stores.objects import StoredObject, passing_file
from executors.stores.places import Places
from executors.stores.s3_store import s3_object
from executors.stores.watching import Watch


class ObjectSpec(StorageSpec):
    """Which object it is."""

    url: str = Field(min_length=1, description="s3://BUCKET/KEY, or gs://BUCKET/NAME")


class _Buckets(FilesStorage):
    """Objects, of whoever keeps the buckets."""

    takes: ClassVar[frozenset[str]] = frozenset({"auth", "use_auth", "spec", "format", "mode", "data"})
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("auth",),)
    Spec: ClassVar[type[StorageSpec] | None] = ObjectSpec
    place: ClassVar[str] = "url"

    def __init__(self, calls: CheckedCalls | None = None) -> None:
        """`calls` go where steps may connect to."""
        self._calls = calls or CheckedCalls()

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the networks that the settings allow. Raises: `ValueError` for a malformed one."""
        return cls(CheckedCalls(getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ())))

    def _named(self, spec: SaveArguments) -> str:
        return ObjectSpec.read(spec).url

    def _put(self, place: str, write: Write, spec: SaveArguments, context: SaveContext, watch: Watch) -> None:
        bound = bound_credential(spec.auth, spec.use_auth, context.lent)
        if bound is None:
            raise ActionFailed("auth_invalid", f"the storage {self.name} needs a credential: name it with `auth`")
        found = self._object(place, bound.credential, context, watch)
        with passing_file(Places(context.lent.data_dir, (), context.request.execution_id).work) as path:
            write(path)
            found.upload(path)

    @abstractmethod
    def _object(self, url: str, credential: Credential, context: SaveContext, watch: Watch) -> StoredObject: ...


class S3Storage(_Buckets):
    """Amazon's buckets, and those of whoever speaks as they do."""

    name: ClassVar[str] = "s3"

    def _object(self, url: str, credential: Credential, context: SaveContext, watch: Watch) -> StoredObject:
        return s3_object(url, credential, self._calls.policy, watch)


class GcsStorage(_Buckets):
    """Google's buckets."""

    name: ClassVar[str] = "gcs"

    def _object(self, url: str, credential: Credential, context: SaveContext, watch: Watch) -> StoredObject:
        return gcs_object(url, credential, self._calls, watch, context.lent.keep_secret)
