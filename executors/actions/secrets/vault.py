"""Secrets of HashiCorp Vault and OpenBao: the key-value store, version 2, over plain HTTP.

A secret is named `MOUNT/PATH`. The token is the credential's, or that of its AppRole, or the worker's `VAULT_TOKEN`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import quote

from executors.actions.secrets.asking import Asked, Secret
from executors.contract import ActionFailed, Credential


def fetch(asked: Asked) -> Secret:
    """Read one field of a secret. Raises: `ActionFailed`."""
    arguments = asked.arguments
    bound = asked.bound()
    credential = bound.credential if bound else None
    fields: Mapping[str, str] = credential.data if credential else {}
    address = arguments.api_endpoint or fields.get("address") or os.environ.get("VAULT_ADDR")
    if not address:
        raise ActionFailed("arguments_invalid", "vault needs api_endpoint, the credential's address, or VAULT_ADDR")
    mount, _, path = arguments.secret_name.strip("/").partition("/")
    if not mount or not path or {".", ".."} & {mount, *path.split("/")}:
        raise ActionFailed("arguments_invalid", "vault: secret_name is MOUNT/PATH")
    base = f"{address.rstrip('/').removesuffix('/v1')}/v1"
    namespace = fields.get("namespace") or os.environ.get("VAULT_NAMESPACE")
    headers = {"X-Vault-Request": "true", **({"X-Vault-Namespace": namespace} if namespace else {})}
    headers["X-Vault-Token"] = token_of(asked, base, headers, credential)
    version = arguments.wanted_version
    reply = asked.answer(
        "GET",
        f"{base}/{quote(mount)}/data/{quote(path)}",
        headers=headers,
        params={"version": version} if version else None,
    ).json()
    data = reply.get("data") if isinstance(reply, Mapping) else None
    fields_there = data.get("data") if isinstance(data, Mapping) else None
    if not isinstance(fields_there, Mapping):
        # A deleted version has metadata, and no data.
        raise asked.refused(404)
    metadata = data.get("metadata") if isinstance(data, Mapping) else None
    told = metadata.get("version") if isinstance(metadata, Mapping) else version
    return Secret(asked.one_field(fields_there), str(told or ""))


def token_of(asked: Asked, base: str, headers: Mapping[str, str], credential: Credential | None) -> str:
    """The credential's token, its AppRole's, or the worker's own. Raises: `ActionFailed`."""
    if credential is None:
        token = os.environ.get("VAULT_TOKEN", "")
    elif credential.data.get("token"):
        return credential.data["token"]
    elif credential.data.get("role_id"):
        body = {name: credential.data.get(name) for name in ("role_id", "secret_id")}
        told = asked.answer("POST", f"{base}/auth/approle/login", headers=headers, json=body).json()
        auth = told.get("auth") if isinstance(told, Mapping) else None
        token = str(auth.get("client_token") or "") if isinstance(auth, Mapping) else ""
    else:
        raise ActionFailed("credential_invalid", f"the credential {credential.name!r} lacks token")
    if not token:
        raise ActionFailed("secret_forbidden", "vault: there is no token; name a credential with `auth`")
    asked.context.keep_secret([token])
    return token
