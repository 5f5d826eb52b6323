"""The headers that credentials stand for, and OAuth2 tokens that are fetched for them.

Knows types of credentials; how a token's request is sent is handed in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Final
from urllib.parse import quote_plus

import requests
from requests.structures import CaseInsensitiveDict

from executors.actions.http.arguments import HttpArguments
from executors.actions.http.bodies import Headers, header_value
from executors.actions.http.sending import Asked
from executors.auth import bound_credentials
from executors.contract import ActionContext, ActionFailed, Credential
from executors.stores.http_addresses import AddressInvalid, check_address
from executors.stores.http_calls import field_of, headers_of
from executors.stores.http_replies import pieces, retry_after_seconds

Send = Callable[[Asked], requests.Response]
"""Sends one request, without redirects, and gives the reply with its body unread."""

MAX_TOKEN_REPLY_BYTES: Final = 65_536
MARGIN_SECONDS: Final = 60.0
UNTOLD_SECONDS: Final = 300.0
"""How long a token is kept whose reply does not say when it expires."""
MOST_TOKENS: Final = 1000


def credentials_of(arguments: HttpArguments, context: ActionContext) -> list[Credential]:
    """Every credential that the step names, in their order. Raises: `ActionFailed`."""
    found = bound_credentials(arguments.auth, context, arguments.use_auth)
    return [bound.credential for bound in found.values()]


class TokenStore:
    """Tokens of OAuth2 clients in this process's memory, each until shortly before it expires."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[str, float]] = {}

    def find(self, credential: Credential) -> str | None:
        """The token that was fetched for exactly this credential, when it is still good."""
        with self._lock:
            token, until = self._tokens.get(_key(credential), ("", 0.0))
            return token if time.monotonic() < until else None

    def keep(self, credential: Credential, token: str, seconds: float) -> None:
        """Keep a token that expires in so many seconds."""
        with self._lock:
            while len(self._tokens) >= MOST_TOKENS:
                self._tokens.pop(next(iter(self._tokens)))
            margin = min(MARGIN_SECONDS, seconds / 10)
            self._tokens[_key(credential)] = token, time.monotonic() + seconds - margin

    def drop(self, credential: Credential) -> None:
        """Forget the token of this credential."""
        with self._lock:
            self._tokens.pop(_key(credential), None)


class CredentialHeaders:
    """The headers of a step's credentials; tokens are fetched when they are needed first."""

    def __init__(self, credentials: Sequence[Credential], tokens: TokenStore, context: ActionContext) -> None:
        self._credentials = credentials
        self._tokens = tokens
        self._context = context

    def headers(self, send: Send) -> Headers:
        """Raises: `ActionFailed` for a credential that makes no header, or two that make the same one."""
        headers = Headers()
        for credential in self._credentials:
            for name, value in self._of(credential, send).items():
                if name in headers:
                    raise ActionFailed("credential_invalid", f"two credentials of the step set the header {name}")
                headers[name] = header_value(name, value)
        return headers

    def renew(self) -> bool:
        """After a 401: forget the tokens. Returns: whether there were any, so that it is worth asking again."""
        clients = [credential for credential in self._credentials if is_client(credential)]
        for credential in clients:
            self._tokens.drop(credential)
        return bool(clients)

    def mask(self, text: str) -> str:
        """The text with every secret of these credentials replaced."""
        for credential in self._credentials:
            text = credential.mask(text)
        return text

    def _of(self, credential: Credential, send: Send) -> Mapping[str, str]:
        if is_client(credential):
            return {"Authorization": f"Bearer {self._token(credential, send)}"}
        return headers_of(credential)

    def _token(self, credential: Credential, send: Send) -> str:
        token = self._tokens.find(credential)
        if token is None:
            token, seconds = fetch_token(credential, send, self._context)
            self._tokens.keep(credential, token, seconds)
        self._context.keep_secret([token])
        return token


def is_client(credential: Credential) -> bool:
    """Whether it is an OAuth2 client, for which tokens are fetched."""
    return credential.type == "oauth" and bool(credential.data.get("token_url"))


def fetch_token(credential: Credential, send: Send, context: ActionContext) -> tuple[str, float]:
    """A new token by the client's own credentials, and in how many seconds it expires.

    Raises: `ActionFailed` (`token_refused`, without a word of what was sent or answered).
    """
    name = credential.name
    with closing(send(_token_request(credential, context))) as response:
        if response.status_code != 200:
            raise ActionFailed(
                "token_refused",
                f"credential {name!r}: its token_url answered HTTP {response.status_code}",
                retry_after_seconds=retry_after_seconds(response.headers),
            )
        content = b"".join(pieces(response, MAX_TOKEN_REPLY_BYTES))
    try:
        told = json.loads(content)
        token, type_ = told["access_token"], str(told.get("token_type") or "bearer")
        seconds = float(told.get("expires_in") or UNTOLD_SECONDS)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        token, type_, seconds = None, "", 0.0
    if not isinstance(token, str) or not token or type_.lower() != "bearer" or not 0 < seconds < float("inf"):
        raise ActionFailed("token_refused", f"credential {name!r}: its token_url answered without a bearer token")
    return token, seconds


def _token_request(credential: Credential, context: ActionContext) -> Asked:
    data = credential.data
    client, secret, url = (field_of(credential, name) for name in ("client_id", "client_secret", "token_url"))
    try:
        check_address(url)
    except AddressInvalid as error:
        raise ActionFailed("credential_invalid", f"credential {credential.name!r}: token_url: {error}") from None
    form = {"grant_type": "client_credentials"}
    form |= {name: data[name] for name in ("scope", "audience", "resource") if data.get(name)}
    headers: Headers = CaseInsensitiveDict({"Accept": "application/json"})
    if data.get("client_auth") == "body":
        form |= {"client_id": client, "client_secret": secret}
    else:
        # RFC 6749, 2.3.1: both are written as in a form first.
        pair = base64.b64encode(f"{quote_plus(client)}:{quote_plus(secret)}".encode()).decode()
        context.keep_secret([pair])
        headers["Authorization"] = f"Basic {pair}"
    return Asked("POST", url, headers, body={"data": form})


def _key(credential: Credential) -> str:
    """A digest: a credential that was changed has another token."""
    written = json.dumps([credential.name, credential.type, sorted(credential.data.items())])
    return hashlib.sha256(written.encode()).hexdigest()
