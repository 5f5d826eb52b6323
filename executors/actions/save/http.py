"""The storage `http`: what is saved is sent to an address as JSON, by the rules of http steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.by_kinds import KindStorage, Part, Work
from executors.actions.save.storage import SaveContext, StorageSpec
from executors.contract import ActionFailed

JSON_NULL: Final = {"body": "null"}
JSON: Final = {"Content-Type": "application/json"}
IDEMPOTENCY_KEY: Final = "idempotency-key"


class HttpSpec(StorageSpec):
    """Where it is sent, and how; each as of an http step."""

    url: str = Field(min_length=1, description="the address, http or https")
    method: Literal["POST", "PUT", "PATCH"] = Field("POST", description="how it is sent")
    headers: dict[str, Any] = Field({}, description="those that go along")
    params: dict[str, Any] = Field({}, description="the query")
    timeout: float = Field(30.0, gt=0, description="seconds for one request, with its reply")
    verify: bool = Field(True, description="false: any certificate will do")


class HttpStorage(KindStorage):
    """Sends `data` as it is, or its rows so many at a time."""

    name: ClassVar[str] = "http"
    takes: ClassVar[frozenset[str]] = frozenset({"data", "spec", "auth", "use_auth"})
    Spec: ClassVar[type[StorageSpec] | None] = HttpSpec

    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        """`{saved: "http", rows, requests, status_code}`, of the last reply. Every reply was a 2xx.

        A redirect is a failure: it would lead elsewhere, or make a read of the write.
        """
        sent = HttpSpec.read(spec)
        is_many = spec.of_items or spec.chunk_size is not None
        if is_many and any(name.lower() == IDEMPOTENCY_KEY for name in sent.headers):
            message = "spec.headers: one Idempotency-Key cannot stand for several requests; each gets its own"
            raise ActionFailed("arguments_invalid", message)
        how = {**sent.model_dump(), "allow_redirects": False, "auth": spec.auth, "use_auth": spec.use_auth}

        def work_of(part: Part) -> Work:
            if part.data is None:
                # To an http step this says that there is no body.
                return Work({**how, **JSON_NULL, "headers": {**JSON, **sent.headers}}, {})
            return Work({**how, "json": part.data}, {})

        requests, last = 0, dict[str, Any]()
        # None is kept: replies may be large.
        for reply in self._each(rows, spec, context, work_of):
            requests, last = requests + 1, {"status_code": reply["status_code"]}
        return {"saved": self.name, "rows": len(rows), "requests": requests, **last}
