"""Values a playbook can hold: plain JSON that Postgres can store. The one check for all that templates give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

MAX_DEPTH: Final = 100
MAX_PARTS: Final = 1_000_000
MAX_CHARS: Final = 32 * 1024 * 1024
MAX_INTEGER_BITS: Final = 8192
"""Python refuses to print integers past 4,300 digits; this stays well below."""


class Unstorable(ValueError):
    """What no JSON column can hold: NUL, half surrogates, infinities, foreign objects, or too much of it all."""


def plain(value: Any) -> Any:
    """The value as plain JSON: dict, list, str, int, float, bool or None. Raises: `Unstorable`."""
    return _Walk().clean(value, 0)


class _Walk:
    """One pass over one value. What is shared is counted as often as it would be written."""

    def __init__(self) -> None:
        self._parts = MAX_PARTS
        self._chars = MAX_CHARS

    def clean(self, value: Any, depth: int) -> Any:
        self._parts -= 1
        if self._parts < 0:
            raise Unstorable(f"a value has more than {MAX_PARTS} parts")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            if value.bit_length() > MAX_INTEGER_BITS:
                raise Unstorable("a number is too large")
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise Unstorable("a number is not finite")
            return value
        if depth >= MAX_DEPTH:
            raise Unstorable(f"a value is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            return {self._key(key): self.clean(item, depth + 1) for key, item in value.items()}
        return self._list(value, depth)

    def _list(self, value: Any, depth: int) -> list[Any]:
        if isinstance(value, bytes | bytearray) or not isinstance(value, Iterable):
            raise Unstorable(f"a {type(value).__name__} is no value a playbook can hold")
        return [self.clean(item, depth + 1) for item in value]

    def _key(self, key: Any) -> str:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise Unstorable(f"the key {key!r} is no text")
        return self._text(str(key))

    def _text(self, text: str) -> str:
        self._chars -= len(text)
        if self._chars < 0:
            raise Unstorable(f"a value has more than {MAX_CHARS} characters")
        if "\x00" in text:
            raise Unstorable("a text holds the character NUL")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unstorable("a text holds half of a surrogate pair") from None
        return str(text)


def as_stored(value: Any) -> Any:
    """Plain JSON as it is when it has been read back from Postgres: what is planned now and what is replayed is one.

    `jsonb` orders keys by their length, then byte by byte, writes a float of 1e16 and more without its exponent, which
    reads as an integer, and knows no negative zero.
    """
    if isinstance(value, dict):
        keys = sorted(value, key=_stored_order) if len(value) > 1 else value
        return {key: as_stored(value[key]) for key in keys}
    if isinstance(value, list):
        return [as_stored(item) for item in value]
    if isinstance(value, float):
        text = repr(value)
        return int(Decimal(text)) if "e+" in text else value + 0.0
    return value


def _stored_order(key: str) -> tuple[int, bytes]:
    written = key.encode()
    return len(written), written
