"""One request as it is sent, with its redirects: what follows to another address, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests

from executors.actions.http.bodies import Headers, Query, pairs
from executors.stores.http_addresses import CONTROL, AddressInvalid, check_address, origin
from executors.stores.http_replies import check_headers
from executors.stores.http_transport import CONNECT_SECONDS, CheckedSession, Exchange

MAX_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# What may follow to another host; anything else may be a credential.
HARMLESS_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "idempotency-key", "user-agent"}
)
CONTENT_HEADERS: Final = ("Content-Type", "Content-Encoding", "Content-Language")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request before it is sent. `body` is the keyword of `requests` that writes it.

    `is_home`: its address is where the step's credentials are meant for.
    """

    method: str
    url: str
    headers: Headers
    query: Query = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    is_home: bool = True

    def moved(self, url: str) -> Asked:
        """The same request to an address that a server told. Another origin gets no credential, and no body at all.

        Raises: `AddressInvalid`.
        """
        check_address(url)
        if origin(url) == origin(self.url):
            return replace(self, url=url, query={})
        if self.body:
            raise AddressInvalid("the server leads to another host, which is not sent the body: ask there directly")
        kept = Headers({name: value for name, value in self.headers.items() if name.lower() in HARMLESS_HEADERS})
        return replace(self, url=url, query={}, headers=kept, is_home=False)


class Sender:
    """Sends requests within one exchange."""

    def __init__(self, session: CheckedSession, exchange: Exchange, *, verify: bool, follows: bool) -> None:
        self._session = session
        self._exchange = exchange
        self._verify = verify
        self._follows = follows

    def send(self, asked: Asked, credentials: Mapping[str, str]) -> tuple[requests.Response, bool]:
        """The reply, its body unread, and whether it is from where the credentials were meant for.

        Raises: `requests.RequestException`, `urllib3`'s `HTTPError`, `OSError`, `ValueError`, `ActionFailed`.
        """
        for _ in range(MAX_REDIRECTS + 1):
            prepared = self._prepare(asked, credentials)
            response = self._session.send(
                prepared,
                stream=True,
                timeout=(min(CONNECT_SECONDS, self._exchange.seconds_left), self._exchange.seconds_left),
                verify=self._verify,
                allow_redirects=False,
            )
            try:
                check_headers(response)
                location = response.headers.get("Location") if response.status_code in REDIRECTS else None
                if location is None or not self._follows:
                    return response, asked.is_home
                asked = _followed(asked, prepared, response.status_code, location)
            except BaseException:
                # The caller gets no reply that it could close.
                response.close()
                raise
            # Unread: a redirect's body can be of any size.
            response.close()
        raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")

    def _prepare(self, asked: Asked, credentials: Mapping[str, str]) -> requests.PreparedRequest:
        headers = Headers(asked.headers)
        if asked.is_home:
            headers.update(credentials)
        request = requests.Request(asked.method, asked.url, headers, params=pairs(asked.query), **asked.body)
        return self._session.prepare_request(request)


def _followed(asked: Asked, sent: requests.PreparedRequest, status: int, location: str) -> Asked:
    """The request that a redirect leads to. Raises: `AddressInvalid`, `ValueError`."""
    # Headers come as Latin-1, and addresses in them are sent as UTF-8.
    told = location.encode("latin-1", "replace").decode("utf-8", "replace")
    # Of the address as it was sent, with its query: a relative one is meant from there.
    base = replace(asked, url=str(sent.url))
    if (status == 303 and asked.method != "HEAD") or (status in (301, 302) and asked.method == "POST"):
        headers = Headers(asked.headers)
        for name in CONTENT_HEADERS:
            headers.pop(name, None)
        base = replace(base, method="GET", headers=headers, body={})
    return base.moved(address_from(str(sent.url), told))


def address_from(base: str, told: str) -> str:
    """An address that a server told, which may be relative. Raises: `ValueError`."""
    if CONTROL.search(told):
        raise AddressInvalid("the server leads to an address that holds control characters")
    return urljoin(base, requests.utils.requote_uri(told))


def place_of(url: str) -> str:
    """Host and path of an address that was checked: its query may hold what is not for a log."""
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"
