"""What a step of the `http` kind may say. Knows the shapes, and nothing of how a request is sent."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from executors import contract

DEFAULT_TIMEOUT_SECONDS = 30.0
DEFAULT_MAX_PAGES = 1000
MOST_PAGES = 100_000
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
EMPTY: tuple[Any, ...] = (None, {})
"""What says nothing: an empty map is how playbooks of old write "no payload"."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pagination(_Part):
    """How the next page is asked for, what is kept of each, and when it is enough.

    `path`, `cursor_path` and `link_path` lead into the reply, as `data.items`. `max_pages` and `max_items` end it
    quietly when the step names them.
    """

    type: Literal["page", "offset", "cursor", "link"]
    param: str | None = None
    place: Literal["query", "body"] = Field("query", alias="in")
    start: int | None = Field(None, ge=0)
    size: int | None = Field(None, ge=1)
    size_param: str | None = None
    cursor_path: str | None = None
    link_path: str | None = None
    path: str = "data"
    merge: Literal["append", "extend", "replace"] = "extend"
    max_pages: int | None = Field(None, ge=1, le=MOST_PAGES)
    max_items: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _of_its_type(self) -> Self:
        if (self.type == "cursor") != bool(self.cursor_path):
            raise ValueError("pagination of type cursor, and no other, has a cursor_path")
        if self.type != "link" and self.link_path:
            raise ValueError("only pagination of type link has a link_path")
        if self.type in ("cursor", "link") and self.start is not None:
            raise ValueError("only pagination of the types page and offset has a start")
        if self.type == "link" and self.param:
            raise ValueError("pagination of type link has no param: the link is the whole address")
        if self.merge != "extend" and (self.max_items is not None):
            raise ValueError("max_items counts what merge: extend joins")
        return self


class Download(_Part):
    """The name of the file, instead of one made of the step's; and a bound below the worker's own."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
    max_bytes: int | None = Field(None, ge=1)


class HttpArguments(contract.Arguments):
    """One request, or one per page. Of the words for a body one is given."""

    endpoint: str | None = None
    url: str | None = None
    method: str = Field("GET", pattern=r"^[A-Za-z]{1,32}$")
    headers: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    payload: Any = None
    json_body: Any = Field(None, alias="json")
    body: Any = None
    form: dict[str, Any] | None = None
    multipart: dict[str, Any] | None = None
    data: Any = None
    timeout: Annotated[float, Field(gt=0)] = DEFAULT_TIMEOUT_SECONDS
    auth: str | dict[str, Any] | None = None
    use_auth: str | None = None
    authentication: Literal["genericCredentialType"] | None = None
    generic_auth_type: str | None = Field(None, alias="genericAuthType")
    verify: bool = True
    allow_redirects: bool = True
    pagination: Pagination | None = None
    download: bool | Download = False

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if bool(self.endpoint) == bool(self.url):
            raise ValueError("give either endpoint or url")
        bodies = (self.payload, self.json_body, self.body, self.form, self.multipart, self.data)
        if sum(given not in EMPTY for given in bodies) > 1:
            raise ValueError("give only one of payload, json, body, form, multipart and data")
        if self.verb in ("CONNECT", "TRACE"):
            raise ValueError(f"method {self.verb} is not sent")
        given = [name for name in ("json_body", "body", "form", "multipart") if getattr(self, name) not in EMPTY]
        if given and self.verb in SAFE_METHODS:
            raise ValueError(f"a {self.verb} has no {given[0].removesuffix('_body')}: use params")
        if self.pagination is not None and self.pagination.place == "body" and self.verb in SAFE_METHODS:
            raise ValueError(f"a {self.verb} has no body for pagination to stand in")
        if self.pagination is not None and self.download:
            raise ValueError("give only one of pagination and download")
        return self

    @property
    def target(self) -> str:
        return (self.endpoint or self.url or "").strip()

    @property
    def verb(self) -> str:
        return self.method.upper()

    @property
    def saving(self) -> Download | None:
        """How the reply becomes a file; None when it does not."""
        return Download() if self.download is True else self.download or None
