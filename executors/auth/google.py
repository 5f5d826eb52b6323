"""What the key of a Google service account is for: asking for a token. How it is sent is others' matter."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from executors.contract import ActionFailed, Credential

TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SECONDS: Final = 600
"""How long what is signed may be shown."""


def token_request(credential: Credential, scope: str) -> tuple[str, dict[str, str]]:
    """Where a token is asked for, and the form to post there; its `assertion` is a secret.

    Raises: `ActionFailed` (`credential_invalid`) for a key that cannot be read.
    """
    address = credential.data.get("token_uri") or TOKEN_URI
    return address, {"grant_type": GRANT, "assertion": _signed(credential, address, scope)}


def token_in(reply: Any) -> str | None:
    """The token in what was answered, as JSON; None when there is none."""
    told = reply.get("access_token") if isinstance(reply, Mapping) else None
    return str(told) if told else None


def _signed(credential: Credential, audience: str, scope: str) -> str:
    """A JWT signed with the service account's key."""
    try:
        key = serialization.load_pem_private_key(credential.data["private_key"].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ActionFailed("credential_invalid", f"the key of the credential {credential.name!r} cannot be read")
    now = int(time.time())
    claims = {
        "iss": credential.data.get("client_email"),
        "scope": scope,
        "aud": audience,
        "iat": now,
        "exp": now + SECONDS,
    }
    header = {"alg": "RS256", "typ": "JWT", "kid": credential.data.get("private_key_id")}
    text = f"{_encoded(header)}.{_encoded(claims)}"
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _encoded(part: Mapping[str, Any]) -> str:
    text = json.dumps({name: value for name, value in part.items() if value is not None})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
