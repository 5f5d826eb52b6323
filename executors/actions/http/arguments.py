"""What a step of the `http` kind may say. Knows the shapes, and nothing of how a request is sent."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from executors import contract
from executors.auth import MANY, Auth

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
    """How the next page is asked for, what is kept of each, and when it is enough."""

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


def _said(description: str, default: Any = None, **rules: Any) -> Any:
    """A field that is told in the kind's page."""
    return Field(default, description=description, **rules)


class HttpArguments(contract.Arguments):
    """`pagination` asks for one page after the other and gives them as one:

    * `type`: `page` and `offset` count pages, or items, until a page is empty; `cursor` sends what a reply tells of the
      next, until it tells nothing; `link` asks the address that the `Link` header tells, until there is none.
    * `param` and `in`: the name of what is counted or sent (by default the type), in the `query` or in the `body`.
    * `start`: the first number (`page` 1, `offset` 0).
    * `size` and `size_param`: how many items a page has, and what says so (`per_page` of `page`, else `limit`).
    * `cursor_path`, `link_path`: where the reply tells of the next: `data.meta.next`, `headers.X-Next`, `data.-1.id`.
    * `path`: where the reply has its items (`data`: all of its body).
    * `merge`: `extend` (default) joins lists, `append` makes a list of pages, `replace` keeps the last.
    * `max_pages` and `max_items` end it, with `complete: false`. A step without `max_pages` fails after 1,000.

    `download: true`, or a map of `name` and `max_bytes`, makes a file of the reply in the execution's folder, where its
    duckdb steps read. Without a name it is called after the step, its item and its visit.

    A part of `multipart` is a text, or a map of `text` or `base64` with `filename` and `content_type`; a list makes
    several parts of one name.
    """

    endpoint: str | None = _said("the address, http or https; or `url`")
    url: str | None = _said("the same")
    method: str = _said("not CONNECT or TRACE", "GET", pattern=r"^[A-Za-z]{1,32}$")
    headers: dict[str, Any] = Field(default_factory=dict, description="not those that say where a request ends")
    params: dict[str, Any] = Field(default_factory=dict, description="the query; a list gives one pair per item")
    payload: Any = _said("the body of POST, PUT and PATCH, written as the content type says: JSON, form, parts, text")
    json_body: Any = _said("the body as JSON, of any method but GET, HEAD and OPTIONS", alias="json")
    body: Any = _said("the body; a text as it is, anything else as JSON")
    form: dict[str, Any] | None = _said("the body as a form")
    multipart: dict[str, Any] | None = _said("the body as parts, see above")
    data: Any = _said("the body of POST, PUT and PATCH, else the query; or a map of `query` and `body`")
    timeout: float = _said("seconds for one request, with its redirects and its reply", DEFAULT_TIMEOUT_SECONDS, gt=0)
    auth: Auth | None = _said(
        "a credential's name, or a map of several, each of which adds its header", json_schema_extra=MANY
    )
    use_auth: str | None = _said("the one of `auth` that counts")
    verify: bool = _said("false: any certificate will do", True)
    allow_redirects: bool = _said("false: a redirect is the reply", True)
    pagination: Pagination | None = _said("see above")
    download: bool | Download = _said("see above", False)

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
