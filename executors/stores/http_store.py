"""Rows of an address: pages of JSON are read, batches are sent as JSON lists.

Knows pages and replies; which addresses may be reached is `http_calls`' matter. No redirect is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urljoin

from requests.utils import parse_header_links

from executors.contract import ActionFailed
from executors.stores.http_addresses import AddressInvalid, check_address, origin
from executors.stores.http_calls import Reply, idempotency_key
from executors.stores.http_replies import retry_after_seconds
from executors.stores.rows import Row, to_line
from executors.stores.watching import Watch

MAX_PAGES: Final = 100_000
MAX_SECONDS: Final = 300.0
MAX_PAGE_BYTES: Final = 10_000_000
Calls = Callable[..., Reply]


class HttpSource:
    """The rows of pages, in their order. `path` (dots) leads to the list in a page; the next page's address is in a
    `Link` header, or where `next_path` leads to in the page, and is of the same host."""

    def __init__(
        self,
        calls: Calls,
        url: str,
        watch: Watch,
        *,
        headers: Mapping[str, str] | None = None,
        path: str = "",
        next_path: str = "",
    ) -> None:
        self._calls, self._url, self._watch = calls, _checked(url), watch
        self._headers, self._path, self._next_path = dict(headers or {}), path, next_path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing is open between two pages."""

    def batches(self, size: int, key: str | None = None, after: Any = None) -> Iterator[list[Row]]:
        """As `rows.Source` has it."""
        del key, after
        url: str | None = self._url
        seen: set[str] = set()
        while url is not None:
            if url in seen or len(seen) >= MAX_PAGES:
                raise ActionFailed("source_failed", "http: a page leads to one that was there before")
            seen.add(url)
            reply = _ask(self._calls, self._watch, "GET", url, "source_failed", headers=self._headers)
            page = reply.json()
            rows = _at(page, self._path)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ActionFailed("source_failed", f"http: there is no list of maps at {self._path or 'the top'!r}")
            for start in range(0, len(rows), size):
                yield rows[start : start + size]
            url = self._next(reply, page, url)

    def _next(self, reply: Reply, page: Any, url: str) -> str | None:
        told = _at(page, self._next_path) if self._next_path else _linked(reply)
        if not told:
            return None
        try:
            following = _checked(urljoin(url, str(told)))
        except ValueError:
            raise ActionFailed("source_failed", "http: what a page tells of the next is no address") from None
        if origin(following) != origin(self._url):
            # The credential is for the address that the step names.
            raise ActionFailed("source_failed", "http: the next page is on another host")
        return following


class HttpSink:
    """An address that takes lists of rows. A batch that was sent counts at once; each has its own `Idempotency-Key`,
    the same whenever the same rows are written in the same batches."""

    def __init__(
        self,
        calls: Calls,
        url: str,
        watch: Watch,
        *,
        effect_key: str,
        headers: Mapping[str, str] | None = None,
        method: Literal["POST", "PUT", "PATCH"] = "POST",
    ) -> None:
        self._calls, self._url, self._watch = calls, _checked(url), watch
        self._headers, self._method, self._key = dict(headers or {}), method, idempotency_key(effect_key)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing is open between two batches."""

    def begin(self) -> None:
        """Nothing."""

    def write(self, rows: Sequence[Row]) -> None:
        """As `rows.Sink` has it."""
        body = "[" + ",".join(map(to_line, rows)) + "]"
        self._count += 1
        own = {"Content-Type": "application/json", "Idempotency-Key": f"{self._key}/batch-{self._count}"}
        headers = {**own, **self._headers}
        _ask(self._calls, self._watch, self._method, self._url, "target_failed", headers=headers, data=body.encode())

    def commit(self) -> None:
        """Nothing: what was sent was sent."""


def _ask(calls: Calls, watch: Watch, method: str, url: str, code: str, **options: Any) -> Reply:
    watch.check()
    seconds = min(MAX_SECONDS, watch.seconds_left)
    try:
        reply = calls(method, url, seconds=seconds, cancelled=watch.cancelled, **options)
    except ActionFailed:
        watch.check()
        raise
    if not 200 <= reply.status < 300:
        after = retry_after_seconds(reply.headers)
        raise ActionFailed(code, f"http: {method} was answered with {reply.status}", retry_after_seconds=after)
    return reply


def _at(page: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        page = page.get(part) if isinstance(page, dict) else None
    return page


def _linked(reply: Reply) -> str | None:
    links = parse_header_links(reply.headers.get("Link", ""))
    return next((str(link["url"]) for link in links if link.get("rel") == "next" and link.get("url")), None)


def _checked(url: str) -> str:
    """Raises: `ActionFailed` (`arguments_invalid`)."""
    try:
        check_address(url)
    except AddressInvalid as error:
        raise ActionFailed("arguments_invalid", f"http: url: {error}") from None
    return url
