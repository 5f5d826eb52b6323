"""What comes back: bounds while it is read, its text or JSON, and how long it asks to be left alone."""

from __future__ import annotations

import codecs
import email.utils
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import requests

from executors.contract import ActionFailed

GZIP_BEGINS: Final = b"\x1f\x8b"
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
    """The unpacked body.

    Raises: `ActionFailed`: `output_too_large` for too much of it, or a compressed bomb; `http_reply` for an encoding
    that is not read. `ValueError` for one that is broken, or ends too early.
    """
    size = 0
    for piece in _unpacked(response):
        size += len(piece)
        if size > max_bytes:
            raise ActionFailed("output_too_large", f"the reply is larger than {max_bytes} bytes; ask for less of it")
        if size > FREE_BYTES and size > MAX_RATIO * response.raw.tell():
            message = f"the reply is compressed to less than a {MAX_RATIO}th of its size, and not unpacked any further"
            raise ActionFailed("output_too_large", message)
        yield piece


def _unpacked(response: requests.Response) -> Iterator[bytes]:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    unpacker = None if encoding in ("", "identity") else _Unpacker(encoding)
    while packed := response.raw.read1(CHUNK_BYTES, decode_content=False):
        if unpacker is None:
            yield packed
        else:
            yield from unpacker.feed(packed)
    if unpacker is not None:
        yield unpacker.end()


class _Unpacker:
    """Unpacks piece by piece, and knows when the end is missing: `requests` takes half a reply for a whole one."""

    def __init__(self, encoding: str) -> None:
        """Raises: `ActionFailed`."""
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise ActionFailed("http_reply", f"the reply is encoded as {encoding[:40]!r}, which nobody asked for")
        self._is_gzip = encoding != "deflate"
        self._inflate: Any = None

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Pieces of a bounded size. Raises: `ValueError`."""
        while packed:
            if self._inflate is None or self._inflate.eof:
                if self._inflate is not None and not self._begins_another(packed):
                    # What follows the end is padding.
                    return
                self._inflate = zlib.decompressobj(self._window(packed))
            try:
                piece = self._inflate.decompress(packed, CHUNK_BYTES)
            except zlib.error as error:
                raise ValueError(f"the compressed reply is broken: {error}") from None
            if piece:
                yield piece
            packed = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def end(self) -> bytes:
        """What was left. Raises: `ValueError` when there should be more."""
        if self._inflate is None:
            # A reply to HEAD tells how its body would be packed.
            return b""
        left: bytes = self._inflate.flush()
        if not self._inflate.eof:
            raise ValueError("the compressed reply ends too early")
        return left

    def _begins_another(self, packed: bytes) -> bool:
        return self._is_gzip and packed[:2] == GZIP_BEGINS[: len(packed)]

    def _window(self, packed: bytes) -> int:
        if self._is_gzip:
            return 16 + zlib.MAX_WBITS
        # Some send deflate without the frame that it should have.
        return zlib.MAX_WBITS if packed[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS


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
    return ActionFailed("http_status", message, data=reply, retry_after_seconds=retry_after_seconds(response.headers))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date, an hour at most; None when it asks for nothing.

    A date is compared with the reply's own, as the server's clock may differ from this machine's.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return min(float(asked[:10]), MAX_RETRY_AFTER_SECONDS)
    until = _date(asked)
    if until is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), MAX_RETRY_AFTER_SECONDS)


def _date(text: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text[:100])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
