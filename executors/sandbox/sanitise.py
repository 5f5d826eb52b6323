"""Turn any action's output into plain JSON values, or say where it cannot be.

A pure function of its argument: knows no action kind, no process and no database. Postgres refuses NUL, JSON
has no NaN, and a depth or size without bound would break the transaction that accepts the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

MAX_DEPTH = 100
MAX_OUTPUT_BYTES = 10 * 1024 * 1024
MAX_INTEGER_BITS = 8192
"""Python refuses to print integers past 4,300 digits; this stays well below."""


MAX_TEXT_CHARS = 20_000
"""Of a failure's message or traceback."""


def clean_text(text: str) -> str:
    """A failure's text as a database can hold it: no NUL, no half surrogates, bounded."""
    return text.replace("\x00", "�").encode("utf-8", "replace").decode()[:MAX_TEXT_CHARS]


class OutputInvalid(ValueError):
    """A value that JSON in Postgres cannot hold; the message names its place (`$.rows[3].name`)."""

    code = "output_invalid"


class OutputTooLarge(OutputInvalid):
    """More output than a result may hold."""

    code = "output_too_large"


def sanitise(value: Any, *, max_bytes: int = MAX_OUTPUT_BYTES) -> Any:
    """`value` as plain JSON: dict, list, str, int, float, bool or None.

    Dates become ISO text, UUIDs text, decimals floats, tuples and sets lists, integer keys text.
    A cyclic value is refused by its depth, a value that shares parts by its size written out.
    Raises: `OutputInvalid`, `OutputTooLarge`.
    """
    return _Walk(max_bytes).clean(value, "$", 0)


class _Walk:
    """One pass over one value; counts the bytes the JSON text would take, roughly and from below."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes_left = max_bytes

    def clean(self, value: Any, path: str, depth: int) -> Any:
        if value is None or value is True or value is False:
            self._spend(4)
            return value
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, int):
            return self._integer(value, path)
        if isinstance(value, float | Decimal):
            return self._number(value, path)
        if depth >= MAX_DEPTH:
            raise OutputInvalid(f"{_shorten(path)}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth)
        if isinstance(value, list | tuple | Set):
            self._spend(2)
            return [self.clean(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return self._other(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        self._spend(2)
        clean: dict[str, Any] = {}
        for key, item in value.items():
            name = self._key(key, path)
            if name in clean:
                raise OutputInvalid(f"{_shorten(path)}: two keys are written {name!r}")
            clean[name] = self.clean(item, f"{path}.{name}", depth + 1)
        return clean

    def _key(self, key: Any, path: str) -> str:
        if isinstance(key, str):
            return self._text(key, f"{path} (a key)")
        if isinstance(key, int) and not isinstance(key, bool):
            return str(self._integer(key, path))
        raise OutputInvalid(f"{_shorten(path)}: a key is of type {type(key).__name__}, must be text")

    def _text(self, value: str, path: str) -> str:
        text = str.__str__(value)
        size = len(text)
        if not text.isascii():
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                raise OutputInvalid(f"{_shorten(path)}: text holds a lone surrogate") from None
        if "\x00" in text:
            raise OutputInvalid(f"{_shorten(path)}: text holds a NUL character")
        self._spend(size + 2)
        return text

    def _integer(self, value: int, path: str) -> int:
        if value.bit_length() > MAX_INTEGER_BITS:
            raise OutputInvalid(f"{_shorten(path)}: an integer of more than {MAX_INTEGER_BITS} bits")
        self._spend(1 + value.bit_length() // 4)
        return int(value)

    def _number(self, value: float | Decimal, path: str) -> float:
        try:
            number = float(value)
        except (OverflowError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise OutputInvalid(f"{_shorten(path)}: {value} is not a finite number")
        self._spend(3)
        return number

    def _other(self, value: Any, path: str) -> str:
        if isinstance(value, datetime | date | time):
            return self._text(value.isoformat(), path)
        if isinstance(value, UUID):
            return self._text(str(value), path)
        if isinstance(value, bytes | bytearray | memoryview):
            raise OutputInvalid(f"{_shorten(path)}: bytes are not JSON; encode them, e.g. with base64")
        raise OutputInvalid(f"{_shorten(path)}: a value of type {type(value).__name__} is not JSON")

    def _spend(self, size: int) -> None:
        self._bytes_left -= size + 1
        if self._bytes_left < 0:
            raise OutputTooLarge(
                f"the output is larger than {self._max_bytes} bytes; return less, or store it elsewhere"
            )


def _shorten(path: str) -> str:
    """A place in a value, short enough for a message (a cyclic value's path is long) and safe to store."""
    text = path.replace("\x00", "?").encode(errors="replace").decode()
    return text if len(text) <= 120 else f"{text[:60]}...{text[-50:]}"
