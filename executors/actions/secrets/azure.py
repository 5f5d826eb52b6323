"""Secrets of Azure Key Vault, over its REST interface.

The vault answers the first request with a challenge that says who gives tokens. They are asked for with the
credential's client id and secret. Without `auth` the worker's own identity is used, which `azure-identity` finds (the
extra `azure`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from executors.actions.secrets.asking import Asked, Secret, extra_missing
from executors.contract import ActionFailed, Credential

API_VERSION: Final = "7.4"
LOGIN_HOSTS: Final = frozenset(
    {"login.microsoftonline.com", "login.windows.net", "login.microsoftonline.us", "login.chinacloudapi.cn"}
)
"""A challenge from elsewhere may name no other: it is told a secret."""
RESOURCE: Final = "https://vault.azure.net"
_VAULT: Final = re.compile(r"[A-Za-z0-9-]{3,24}")
_PARAMETER: Final = re.compile(r'(\w+)="?([^",\s]+)"?')


def fetch(asked: Asked) -> Secret:
    """Get one version of a secret. Raises: `ActionFailed`."""
    arguments = asked.arguments
    if arguments.vault_name and not _VAULT.fullmatch(arguments.vault_name):
        raise ActionFailed("arguments_invalid", "azure: vault_name is no name of a vault")
    base = (arguments.api_endpoint or f"https://{arguments.vault_name}.vault.azure.net").rstrip("/")
    path = "/".join(quote(part, safe="") for part in (arguments.secret_name, arguments.wanted_version or "") if part)
    url, query = f"{base}/secrets/{path}", {"api-version": API_VERSION}
    bound = asked.bound()
    credential = bound.credential if bound else None
    if credential is not None and credential.data.get("token"):
        token = credential.data["token"]
    else:
        challenged = asked.call("GET", url, params=query)
        if challenged.status != 401:
            raise asked.refused(challenged.status)
        challenge = dict(_PARAMETER.findall(challenged.headers.get("WWW-Authenticate", "")))
        token = _token(asked, challenge, credential)
        asked.context.keep_secret([token])
    reply = asked.answer("GET", url, params=query, headers={"Authorization": f"Bearer {token}"}).json()
    if not isinstance(reply, Mapping) or not isinstance(reply.get("value"), str):
        raise ActionFailed("secret_provider_failed", "azure: the reply holds no secret that is a text")
    return Secret(reply["value"], str(reply.get("id") or "").rpartition("/")[2])


def _token(asked: Asked, challenge: Mapping[str, str], credential: Credential | None) -> str:
    resource = (challenge.get("resource") or challenge.get("scope") or RESOURCE).removesuffix("/.default").rstrip("/")
    scope = f"{resource}/.default"
    if credential is None:
        return _default_token(scope)
    fields = credential.data
    if not (fields.get("client_id") and fields.get("client_secret")):
        message = f"the credential {credential.name!r} has neither a token nor client_id and client_secret"
        raise ActionFailed("credential_invalid", message)
    address = fields.get("token_url") or _token_address(challenge, fields.get("tenant_id"))
    grant = {
        "grant_type": "client_credentials",
        "client_id": fields["client_id"],
        "client_secret": fields["client_secret"],
        "scope": scope,
    }
    told = asked.answer("POST", address, data=grant).json()
    if not isinstance(told, Mapping) or not told.get("access_token"):
        raise ActionFailed("secret_forbidden", "azure: the client was given no token")
    return str(told["access_token"])


def _token_address(challenge: Mapping[str, str], tenant: str | None) -> str:
    authority = challenge.get("authorization") or challenge.get("authorization_uri") or ""
    parts = urlsplit(authority)
    if parts.scheme != "https" or (parts.hostname or "").lower() not in LOGIN_HOSTS:
        message = "azure: the vault names a place for tokens that is not Azure's; give the credential a token_url"
        raise ActionFailed("secret_forbidden", message)
    tenant = quote(tenant, safe="") if tenant else parts.path.strip("/").split("/")[0]
    return f"https://{parts.netloc}/{tenant}/oauth2/v2.0/token"


def _default_token(scope: str) -> str:
    try:
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import CredentialUnavailableError, DefaultAzureCredential
    except ImportError:
        raise extra_missing("azure", "azure-identity") from None
    try:
        return str(DefaultAzureCredential().get_token(scope).token)
    except (ClientAuthenticationError, CredentialUnavailableError) as error:
        message = f"azure: the worker has no identity ({type(error).__name__}); name a credential with `auth`"
        raise ActionFailed("secret_forbidden", message) from None
