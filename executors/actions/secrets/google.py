"""Secrets of Google Secret Manager, over its REST interface.

The token is the credential's, or is asked for with its service account's key. Without `auth` the worker's default
credentials are used, which `google-auth` finds (the extra `google`).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import Any, Final

from executors.actions.secrets.asking import LATEST, Asked, Secret, extra_missing
from executors.auth.google import token_in, token_request
from executors.contract import ActionFailed, Credential

ENDPOINT: Final = "https://secretmanager.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_FULL: Final = re.compile(r"projects/(?P<project>[^/]+)/secrets/(?P<secret>[^/]+)(?:/versions/(?P<version>[^/]+))?")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,255}")


def fetch(asked: Asked) -> Secret:
    """Access one version of a secret. Raises: `ActionFailed`."""
    arguments = asked.arguments
    bound = asked.bound()
    credential = bound.credential if bound else None
    token, project = _token(asked, credential)
    full = _FULL.fullmatch(arguments.secret_name)
    secret = full["secret"] if full else arguments.secret_name
    version = arguments.wanted_version or (full["version"] if full else None) or LATEST
    project = (full["project"] if full else arguments.project_id) or project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise ActionFailed("arguments_invalid", "google needs project_id, or GOOGLE_CLOUD_PROJECT on the worker")
    for part in (project, secret, version):
        if not _NAME.fullmatch(part):
            raise ActionFailed("arguments_invalid", f"google: {part!r} is no name of a project, secret or version")
    base = (arguments.api_endpoint or ENDPOINT).rstrip("/")
    reply = asked.answer(
        "GET",
        f"{base}/v1/projects/{project}/secrets/{secret}/versions/{version}:access",
        headers={"Authorization": f"Bearer {token}"},
    ).json()
    try:
        value = base64.b64decode(reply["payload"]["data"], validate=True).decode()
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise ActionFailed("secret_provider_failed", "google: the reply holds no secret that is a text") from None
    return Secret(value, str(reply.get("name") or "").rpartition("/versions/")[2] or version)


def _token(asked: Asked, credential: Credential | None) -> tuple[str, str | None]:
    """A token, and the project that goes with it."""
    if credential is None:
        token, project = _default_token(asked)
    elif credential.data.get("private_key"):
        token, project = token_of_key(asked, credential), credential.data.get("project_id")
    elif credential.data.get("token"):
        return credential.data["token"], credential.data.get("project_id")
    else:
        message = f"the credential {credential.name!r} has neither a token nor a service account's key"
        raise ActionFailed("credential_invalid", message)
    asked.context.keep_secret([token])
    return token, project


def _default_token(asked: Asked) -> tuple[str, str | None]:
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request
    except ImportError:
        raise extra_missing("google", "google-auth") from None
    try:
        found: Any
        found, project = google.auth.default(scopes=[SCOPE])
        found.refresh(Request())
    except GoogleAuthError as error:
        message = f"google: the worker has no default credentials ({type(error).__name__}); name some with `auth`"
        raise ActionFailed("secret_forbidden", message) from None
    return str(found.token), project


def token_of_key(asked: Asked, credential: Credential) -> str:
    """A token for a service account, by its key. Raises: `ActionFailed`."""
    address, form = token_request(credential, SCOPE)
    asked.context.keep_secret([form["assertion"]])
    token = token_in(asked.answer("POST", address, data=form).json())
    if token is None:
        raise ActionFailed("secret_forbidden", "google: the service account was given no token")
    return token
