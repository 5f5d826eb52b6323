"""The `http` kind: from a step's arguments to what comes of them.

Knows what a step says and what it gets; which addresses may be reached is the transport's matter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Self

import requests
from urllib3.exceptions import HTTPError

from executors import contract
from executors.actions.http.arguments import SAFE_METHODS, Download, HttpArguments
from executors.actions.http.bodies import encode, headers_of, query_and_body
from executors.actions.http.credentials import CredentialHeaders, TokenStore, credentials_of
from executors.actions.http.downloads import save
from executors.actions.http.paging import Page, Pages
from executors.actions.http.sending import Asked, Sender, place_of
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.sandbox.sanitise import MAX_OUTPUT_BYTES
from executors.sandbox.sparing import Sparing, told_seconds
from executors.stores.files import files_folder, place_name
from executors.stores.http_addresses import AddressInvalid, AddressPolicy, check_address
from executors.stores.http_calls import idempotency_key
from executors.stores.http_replies import decode, pieces, retry_after_seconds, status_failure
from executors.stores.http_transport import CheckedSession, Exchange

USER_AGENT = "noetl"
IDEMPOTENCY_KEY = "Idempotency-Key"
EXAMPLE = """\
apiVersion: noetl.io/v1
kind: Playbook
name: stock
path: examples/stock
workload: {api: "https://shop.example"}
workflow:
  - step: start
    type: http
    url: "{{ workload.api }}/stores"
    params: {open: true}
    pagination: {type: link, path: data}
    retry: 3
    next: end
  - {step: end, result: "{{ start.data | map(attribute='id') | list }}"}
"""
PAGE_MARK = "/page-"
MAX_DOWNLOAD_BYTES = 1024**3
MAX_TOLD_PLACE = 300


class HttpAction(contract.ActionKind):
    """Asks an address over HTTP: once, or page by page; the reply is the result, or becomes a file."""

    name: ClassVar[str] = "http"
    Arguments: ClassVar[type[contract.Arguments]] = HttpArguments
    result: ClassVar[str] = (
        "`{status_code, headers, url, elapsed, data}`; `data` is the body, read when it is JSON. Of pages the last "
        "reply with `data` of all, and `{pages, complete}`. Of a download `{path, bytes, sha256, content_type}`."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "http_status": "the reply was not a 2xx; the step's data is the reply, and `retry` hears its `Retry-After`",
        "http_connection": "no connection, a refused address, or a reply that is cut off",
        "http_reply": "the reply's headers are too large, or its body is packed in a way that is not read",
        "timeout": "the reply was not whole in time",
        "output_too_large": "the reply or its pages are larger than 10 MB, a file than its bound, or it is a bomb",
        "pagination_invalid": "a reply has no page where the step says, or tells of the next what was there before",
        "file_error": "the file cannot be written",
        "token_refused": "the `token_url` of a credential gave no token",
        "auth_invalid": "`auth` names no credential",
        "credential_invalid": "a credential makes no header, or two make the same",
        "arguments_invalid": "the rendered arguments make no request",
    }
    example: ClassVar[str] = EXAMPLE

    def __init__(
        self,
        allowed_networks: Iterable[str] = (),
        *,
        max_bytes: int = MAX_OUTPUT_BYTES,
        max_download_bytes: int = MAX_DOWNLOAD_BYTES,
    ) -> None:
        self._policy = AddressPolicy(allowed_networks)
        self._max_bytes = max_bytes
        self._max_download_bytes = max_download_bytes
        self._tokens = TokenStore()
        self._local = threading.local()
        self._sessions: list[CheckedSession] = []

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the networks that the settings allow. Raises: `ValueError` for a malformed one."""
        return cls(
            getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ()),
            max_download_bytes=getattr(settings, "NOETL_HTTP_MAX_DOWNLOAD_BYTES", MAX_DOWNLOAD_BYTES),
        )

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """The reply of a 2xx; of pages `{..., data, pages, complete}`, of a download `{path, bytes, sha256,
        content_type}`.

        Raises: `ActionFailed` (`http_status` with the reply in `data`, `http_connection` also for a refused
        address, `http_reply`, `timeout`, `cancelled`, `output_too_large`, `pagination_invalid`, `file_error`, and
        those of credentials).
        """
        arguments = HttpArguments.check(request.arguments)
        try:
            check_address(arguments.target)
        except AddressInvalid as error:
            raise ActionFailed("arguments_invalid", f"endpoint: {error}") from None
        credentials = CredentialHeaders(credentials_of(arguments, context), self._tokens, context)
        job = _Job(arguments, request, context, credentials, self._session(), self._max_bytes)
        try:
            if arguments.pagination is not None:
                return job.collect(Pages(arguments.pagination, self._max_bytes))
            if arguments.saving is not None:
                return job.download(arguments.saving, self._max_download_bytes)
            return job.reply()
        finally:
            job.told.end()

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    def _session(self) -> CheckedSession:
        """This thread's session; cookies of an earlier job are forgotten."""
        session: CheckedSession | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = CheckedSession(self._policy)
            self._sessions.append(session)
        session.cookies.clear()
        return session


class _Answer:
    """A reply with its body unread, within its exchange."""

    def __init__(self, response: requests.Response, exchange: Exchange) -> None:
        self.response = response
        self.bytes_read = 0
        self._exchange = exchange

    @property
    def is_good(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.response.status_code < 300

    def pieces(self, max_bytes: int) -> Iterator[bytes]:
        """The body's pieces. Raises: `ActionFailed`; `OSError` when it was cut off by the exchange's end."""
        for piece in pieces(self.response, max_bytes):
            self.bytes_read += len(piece)
            yield piece
        self._exchange.check()


class _Job:
    """One run: what it is asked with, and until when."""

    def __init__(
        self,
        arguments: HttpArguments,
        request: ActionRequest,
        context: ActionContext,
        credentials: CredentialHeaders,
        session: CheckedSession,
        max_bytes: int,
    ) -> None:
        self._arguments = arguments
        self._request = request
        self._context = context
        self._credentials = credentials
        self._session = session
        self.told = Sparing(context.log)
        self._max_bytes = max_bytes
        self._deadline = time.monotonic() + request.timeout_seconds

    def reply(self) -> dict[str, Any]:
        """One request's reply."""
        started = time.monotonic()
        with self._asking(self._asked({})) as answer:
            return self._read(answer, started)

    def collect(self, pages: Pages) -> dict[str, Any]:
        """All pages' replies as one."""
        started = time.monotonic()
        asked = self._asked(pages.first())
        while True:
            with self._asking(asked) as answer:
                reply = self._read(answer, started)
                page = Page(reply, answer.response.url, answer.response.links.get("next", {}).get("url"))
                pages.take(page)
                following = pages.next(page)
                if following is None or pages.is_enough():
                    return {**reply, "data": pages.merged, "pages": pages.count, "complete": pages.is_complete}
                asked = asked.moved(following) if isinstance(following, str) else self._asked(following)
                self._mark_page(asked, pages.count + 1)

    def download(self, saving: Download, max_bytes: int) -> dict[str, Any]:
        """The reply as a file of the execution: a reference to it."""
        started = time.monotonic()
        folder = files_folder(self._context.data_dir, self._request.execution_id)
        with self._asking(self._asked({})) as answer:
            if not answer.is_good:
                self._read(answer, started)
            bound = min(saving.max_bytes or max_bytes, max_bytes)
            saved = save(answer.pieces(bound), folder, saving.name or f"{place_name(self._request)}.data")
            return {**saved, "content_type": answer.response.headers.get("Content-Type", "")}

    # -- what is asked ------------------------------------------------------------------------------------

    def _asked(self, said: dict[str, Any]) -> Asked:
        """The step's request; `said` is what pagination puts in its query or its body."""
        arguments = self._arguments
        headers = headers_of({"User-Agent": USER_AGENT, **arguments.headers})
        if arguments.verb not in SAFE_METHODS and IDEMPOTENCY_KEY not in headers:
            headers[IDEMPOTENCY_KEY] = idempotency_key(self._request.effect_key)
        query, body = query_and_body(arguments)
        if arguments.pagination is None or arguments.pagination.place == "query":
            query |= said
        elif arguments.form:
            arguments = arguments.model_copy(update={"form": {**arguments.form, **said}})
        elif isinstance(body, dict | None) and not arguments.multipart:
            body = {**(body or {}), **said}
        else:
            raise ActionFailed("arguments_invalid", "pagination: in: body needs a form, or a map for a body")
        return Asked(arguments.verb, arguments.target, headers, query, encode(arguments, body, headers))

    def _mark_page(self, asked: Asked, number: int) -> None:
        """Each write of a page is one of its own."""
        if IDEMPOTENCY_KEY in asked.headers and IDEMPOTENCY_KEY not in headers_of(self._arguments.headers):
            key, _, _ = asked.headers[IDEMPOTENCY_KEY].partition(PAGE_MARK)
            asked.headers[IDEMPOTENCY_KEY] = f"{key}{PAGE_MARK}{number}"

    # -- asking -------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self, asked: Asked) -> Iterator[_Answer]:
        """A reply with its body unread. What fails meanwhile becomes a failure that holds no secret."""
        seconds = min(self._arguments.timeout, max(0.001, self._deadline - time.monotonic()))
        started, is_answered = time.monotonic(), False
        exchange = Exchange(time.monotonic() + seconds, self._context.cancelled)
        try:
            with exchange, closing(self._send(asked, exchange)) as response:
                answer, is_answered = _Answer(response, exchange), True
                try:
                    yield answer
                finally:
                    self._tell(asked, answer, exchange, time.monotonic() - started)
        except ActionFailed:
            if exchange.cause:
                # Whatever it is: it came of a reply that was cut off.
                raise self._failure(exchange, OSError(), seconds) from None
            raise
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            if not is_answered:
                taken = told_seconds(time.monotonic() - started)
                self.told.tell(f"{self._place(asked)}: no reply after {taken}", "warning")
            raise self._failure(exchange, error, seconds) from None

    def _send(self, asked: Asked, exchange: Exchange) -> requests.Response:
        verify = self._arguments.verify
        sender = Sender(self._session, exchange, verify=verify, follows=self._arguments.allow_redirects)
        # A client's own secret follows no redirect.
        strict = Sender(self._session, exchange, verify=True, follows=False)

        def fetch(token_request: Asked) -> requests.Response:
            reply = strict.send(token_request, {})[0]
            self.told.tell(f"{self._place(token_request)}: {reply.status_code}, for a token")
            return reply

        response, is_home = sender.send(asked, self._credentials.headers(fetch) if asked.is_home else {})
        if response.status_code == requests.codes.unauthorized and is_home and self._credentials.renew():
            response.close()
            response, _ = sender.send(asked, self._credentials.headers(fetch))
        return response

    def _read(self, answer: _Answer, started: float) -> dict[str, Any]:
        """The reply. Raises: `ActionFailed` (`http_status`) for other than 2xx."""
        response = answer.response
        content = b"".join(answer.pieces(self._max_bytes))
        reply = {
            "status_code": response.status_code,
            "headers": dict(response.headers),
            "url": self._credentials.mask(response.url),
            "elapsed": round(time.monotonic() - started, 6),
            "data": decode(response, content),
        }
        if not answer.is_good:
            raise status_failure(response, reply)
        return reply

    def _tell(self, asked: Asked, answer: _Answer, exchange: Exchange, seconds: float) -> None:
        """A line in the log on a reply: nothing of a query, of headers or of a body."""
        response = answer.response
        line = f"{self._place(asked)}: {response.status_code} in {told_seconds(seconds)}, {answer.bytes_read:,} bytes"
        if exchange.cause:
            line += f", cut off ({exchange.cause})"
        if not answer.is_good and (pause := retry_after_seconds(response.headers)) is not None:
            line += f", asks to be left alone for {pause:g} s"
        self.told.tell(line, "info" if answer.is_good and not exchange.cause else "warning")

    def _place(self, asked: Asked) -> str:
        # Hidden before it is cut: of half a secret nobody would know that it is one.
        return f"{asked.method} {self._context.hide(place_of(asked.url))[:MAX_TOLD_PLACE]}"

    def _failure(self, exchange: Exchange, error: Exception, seconds: float) -> ActionFailed:
        if exchange.cause == "cancelled":
            return ActionFailed("cancelled", "stopped because the job was cancelled")
        if exchange.cause == "timeout" or isinstance(error, requests.Timeout):
            return ActionFailed("timeout", f"Request error: no complete reply after {seconds:g} s")
        return ActionFailed("http_connection", self._credentials.mask(f"Request error: {exchange.refusal or error}"))
