"""Secrets that stand in the clear in an address, where all who read the playbook see them. Pure, and a guess."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

ADDRESSED_BY_HOST: Final = frozenset(
    {*("http", "https", "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"), "apprise", "apprises"}
)
"""Schemes whose address is a host and a path. Any other names an account, mostly by its token."""
_SECRET_NAME: Final = re.compile("pass|pwd|secret|token|key|auth|sig", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def holds_secret(text: str) -> bool:
    """Whether one of the addresses in a text holds a password or a token by itself; templates are not looked into."""
    return any(_holds_secret(address) for address in _REFERENCE.sub("\x00", text).split())


def _holds_secret(address: str) -> bool:
    scheme, found, rest = address.partition("://")
    if not found or not rest.strip("/\x00"):
        return False
    if scheme.lower() not in ADDRESSED_BY_HOST:
        # `slack://{{ secret.a }}/{{ secret.b }}` holds none by itself.
        return "\x00" not in rest
    try:
        parts = urlsplit(address)
        password = parts.password
    except ValueError:
        return False
    named = [value for name, value in parse_qsl(parts.query) if _SECRET_NAME.search(name)]
    return any(value and "\x00" not in value for value in (password, *named))
