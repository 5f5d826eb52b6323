"""What comes back: bounds while it is read, its text or JSON, and how long it asks to be left alone."""

from __future__ import annotations

import codecs
import email.utils
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import requests

from executors.contract import ActionFailed

CHUNK_BYTES: Final = 65_536
MAX_HEADER_BYTES: Final = 65_536
MAX_REASON: Final = 200
FREE_BYTES: Final = 1_048_576
MAX_RATIO: Final = 200
"""How many bytes one byte on the wire may become, once there are more than `FREE_BYTES`."""
MAX_RETRY_AFTER_SECONDS: Final = 3600.0
# Of the others some take quadratic time, or make texts that no database holds.
CHARSETS: Final = re.compile(
    r"ascii|utf-8(-sig)?|utf-(16|32)(-[bl]e)?|iso8859-\d+|cp\d+|koi8-[rtu]|gb2312|gbk|gb18030|big5(hkscs)?"
    r"|euc_(jp|kr|jis_2004|jisx0213)|shift_jis(_2004|x0213)?|iso2022_(jp|kr)\w*|mac-\w+|tis-620"
)


def check_headers(response: requests.Response) -> None:
    """Raises: `ActionFailed` when its headers are larger than the bound."""
    size = sum(len(name) + len(value) + 4 for name, value in response.headers.items())
    if size > MAX_HEADER_BYTES:
        raise ActionFailed("http_reply", f"the reply's headers are larger than {MAX_HEADER_BYTES} bytes")


def pieces(response: requests.Response, max_bytes: int) -> Iterator[bytes]:
    """The decoded body. Raises: `ActionFailed` (`output_too_large`) for too much of it, or a compressed bomb."""
    size = 0
    while piece := response.raw.read1(CHUNK_BYTES, decode_content=True):
        size += len(piece)
        if size > max_bytes:
            raise ActionFailed("output_too_large", f"the reply is larger than {max_bytes} bytes; ask for less of it")
        if size > FREE_BYTES and size > MAX_RATIO * response.raw.tell():
            message = f"the reply is compressed to less than a {MAX_RATIO}th of its size, and not unpacked any further"
            raise ActionFailed("output_too_large", message)
        yield piece


def decode(response: requests.Response, content: bytes) -> Any:
    """JSON when the reply says so and it is, else text."""
    content_type = response.headers.get("Content-Type", "").lower()
    if "application/json" in content_type or "+json" in content_type:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            pass
    return content.decode(_charset(response.encoding), errors="replace")


def _charset(told: str | None) -> str:
    """The charset that a reply names, when it is one of texts that people send; else UTF-8."""
    if told is None or not re.fullmatch(r"[A-Za-z0-9_:.-]{1,40}", told):
        return "utf-8"
    try:
        name = codecs.lookup(told).name
    except LookupError:
        return "utf-8"
    return name if CHARSETS.fullmatch(name) else "utf-8"


def status_failure(response: requests.Response, reply: dict[str, Any]) -> ActionFailed:
    """What another reply than a 2xx fails with."""
    message = f"HTTP {response.status_code}: {str(response.reason)[:MAX_REASON]}"
    return ActionFailed("http_status", message, data=reply, retry_after_seconds=retry_after_seconds(response))


def retry_after_seconds(response: requests.Response) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date, an hour at most; None when it asks for nothing.

    A date is compared with the reply's own, as the server's clock may differ from this machine's.
    """
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return min(float(asked[:10]), MAX_RETRY_AFTER_SECONDS)
    until = _date(asked)
    if until is None:
        return None
    now = _date(response.headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), MAX_RETRY_AFTER_SECONDS)


def _date(text: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text[:100])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
