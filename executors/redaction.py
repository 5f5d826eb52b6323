"""Taking secrets out of texts: by value, in every form they are sent or printed in, and by the names of keys.

Knows the values that are in use in this process; nothing of where they come from. Standard library only: it is loaded
with the settings, before anything else.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from html import escape
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

HIDDEN: Final = "***"
SHORTEST_HIDDEN: Final = 4
"""Shorter values are in too many texts to be searched for."""
SHORTEST_PIECE: Final = 8
"""Shorter pieces of base64 and lines of a key are in too many texts."""
SHORTEST_CUT: Final = 200
"""Shorter texts are cut by nobody."""
LINGERING: Final = 32
"""How many values of jobs that are over are still hidden in logs: a thread may tell late."""


@lru_cache(maxsize=256)
def forms_of(value: str) -> tuple[str, ...]:
    """A secret's value in every form in which it may be told, the longest first."""
    if len(value) < SHORTEST_HIDDEN:
        return ()
    forms: set[str] = set()
    for piece in _pieces(value):
        forms |= _written(piece)
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST_HIDDEN), key=len, reverse=True))


def _pieces(value: str) -> set[str]:
    """The value, and what may be told of it alone: lines of a key, texts of a JSON map, a DSN's password."""
    pieces = {value}
    if len(stripped := value.strip()) >= SHORTEST_HIDDEN:
        pieces.add(stripped)
    if "\n" in value:
        pieces |= {line.strip() for line in value.splitlines() if len(line.strip()) >= 2 * SHORTEST_PIECE}
    if value.lstrip().startswith("{"):
        pieces |= set(_secret_leaves(value))
    # Libraries tell what they have read, and not how it was written.
    if found := _DSN.search(value):
        pieces |= {found["password"], unquote(found["password"])}
    if found := _CONNINFO.search(value):
        written = found["quoted"] or found["bare"] or ""
        pieces |= {written, re.sub(r"\\(.)", r"\1", written)}
    return {piece for piece in pieces if len(piece) >= SHORTEST_HIDDEN}


def _secret_leaves(text: str) -> Iterator[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, str) and names_secret(name):
                yield value
                yield from (line for line in value.splitlines() if len(line) >= 2 * SHORTEST_PIECE)


def _written(value: str) -> set[str]:
    quoted = {quote(value, safe="", errors="replace"), quote(value, errors="replace")}
    quoted |= {quote_plus(value, errors="replace")}
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found.group().lower(), text) for text in quoted}
    in_json = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    # In a log a JSON text is often a text of another JSON text.
    escaped = {*in_json, repr(value)[1:-1], *(json.dumps(text)[1:-1] for text in (*in_json, repr(value)[1:-1]))}
    doubled = {value.replace("'", "''"), value.replace('"', '""'), value.replace("'", "\\'"), escape(value)}
    ascii_ = value.encode("ascii", "backslashreplace").decode()
    # A whole JSON text may be in base64, as some tools keep their credentials.
    coded = {form for text in {value, *in_json} for form in _coded(text.encode("utf-8", "surrogatepass"))}
    return {value, ascii_, *quoted, *lower, *escaped, *doubled, *coded}


def _coded(raw: bytes) -> Iterator[str]:
    yield raw.hex()
    yield raw.hex().upper()
    yield from _base64(raw)


def _base64(raw: bytes) -> Iterator[str]:
    """Its base64, and what of it stays the same whatever stands before and after it, as in `user:password`."""
    yield base64.b64encode(raw).decode()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode()
        known_bits = 8 * (before + len(raw))
        first = -(-8 * before // 6)
        piece = whole[first : known_bits // 6]
        if len(piece) >= SHORTEST_PIECE:
            yield piece
            yield piece.translate(_URL_SAFE)


_URL_SAFE: Final = str.maketrans("+/", "-_")


class Hider:
    """Takes some values out of texts and JSON-like values."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in forms_of(value)}
        # The longest first: of two that begin alike it is the whole.
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms))) if self._forms else None
        # As they look inside of JSON.
        self._in_json = {json.dumps(form, ensure_ascii=False)[1:-1] for form in self._forms}

    def hide(self, value: Any) -> Any:
        """The value with every secret in its texts, keys and numbers replaced by `***`."""
        if self._pattern is None or value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        # Most results hold none: one look at the whole is much less than a look at every part.
        whole = json.dumps(value, ensure_ascii=False, default=str)
        return self._parts(value) if any(form in whole for form in self._in_json) else value

    def _parts(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {self._parts(key): self._parts(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._parts(item) for item in value]
        # A secret of digits may have been read as a number.
        return HIDDEN if isinstance(value, int | float) and str(value) in self._forms else value

    def _text(self, text: str) -> str:
        if self._pattern is not None and any(form in text for form in self._forms):
            text = self._pattern.sub(HIDDEN, text)
        return self._cut_off(text) if len(text) >= SHORTEST_CUT else text

    def _cut_off(self, text: str) -> str:
        """The text without the beginning of a value at its end: where a long text was cut, it may go through one."""
        kept = text.rstrip(".… ")
        for form in self._forms:
            tail = kept[-len(form) :]
            at = tail.find(form[:SHORTEST_HIDDEN])
            while at >= 0:
                if form.startswith(tail[at:]):
                    return kept[: len(kept) - len(tail) + at] + HIDDEN + text[len(kept) :]
                at = tail.find(form[:SHORTEST_HIDDEN], at + 1)
        return text


class _InUse:
    """The values in use in this process, and the last of those that were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._last: OrderedDict[str, None] = OrderedDict()
        self._hider: Hider | None = None

    def add(self, values: Iterable[str]) -> None:
        with self._lock:
            for value in values:
                self._counts[value] = self._counts.get(value, 0) + 1
                if value in self._last:
                    del self._last[value]
            self._hider = None

    def remove(self, values: Iterable[str]) -> None:
        with self._lock:
            for value in values:
                self._counts[value] = self._counts.get(value, 0) - 1
                if self._counts[value] <= 0:
                    del self._counts[value]
                    self._last[value] = None
            while len(self._last) > LINGERING:
                self._last.popitem(last=False)
                self._hider = None

    @property
    def hider(self) -> Hider:
        with self._lock:
            if self._hider is None:
                self._hider = Hider([*self._counts, *self._last])
            return self._hider


_in_use: Final = _InUse()


class Secrets:
    """The secret values of one job. What is kept here is hidden in this process's logs, too, until `forget`."""

    def __init__(self) -> None:
        self._values: list[str] = []
        self._hider: Hider | None = None

    def keep(self, values: Iterable[str]) -> None:
        """Hide these from now on."""
        new = [value for value in values if value not in self._values]
        if new:
            _in_use.add(new)
            self._values += new
            self._hider = None

    def hide(self, value: Any) -> Any:
        """The value with every secret in its texts replaced by `***`."""
        if self._hider is None:
            self._hider = Hider(self._values)
        return self._hider.hide(value)

    def forget(self) -> None:
        """The job is over."""
        _in_use.remove(self._values)
        self._values, self._hider = [], None


@contextmanager
def secrets_in_use() -> Iterator[Secrets]:
    """The secrets of one job, for as long as it runs."""
    secrets = Secrets()
    try:
        yield secrets
    finally:
        secrets.forget()


# -- by name ------------------------------------------------------------------------------------------

_WORDS: Final = (
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "authorization", "cookie", "dsn"),
    *("api_key", "apikey", "access_key", "secret_key", "private_key", "conn_string", "connection_string"),
)
_WHOLE_WORDS: Final = frozenset({"key", "auth", "pin", "pass", "conn", "value", "jwt", "bearer", "keys"})
_HARMLESS: Final = frozenset({"token_expiry", "token_url", "token_uri", "token_endpoint", "secret_name"})


def names_secret(name: str) -> bool:
    """Whether a field of this name holds something that must not be shown."""
    lower = name.lower().replace("-", "_")
    if lower in _HARMLESS:
        return False
    return any(word in lower for word in _WORDS) or bool(_WHOLE_WORDS & set(re.split("[^a-z0-9]+", lower)))


_NAMED: Final = "|".join(word.replace("_", "[_-]?") for word in _WORDS if word != "credential")
_IN_TEXT: Final = re.compile(
    # The name of an error's code ends in what went wrong: `secret_not_found: there is ...`.
    rf"""(?ix) (?P<name> ["']? \b (?! \w*_(?: not | out | un ) ) [\w-]* (?: {_NAMED} ) [\w-]* ["']?
    \s* (?: = | :\s ) \s* )
    (?: (?: bearer | basic | token ) \s+ )?
    (?: "(?: [^"\\] | \\. )*" | '(?: [^'\\] | \\. )*' | [^\s,;&}})\]]+ )"""
)
_AUTHORIZATION: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}")
_DSN: Final = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]*):(?P<password>[^\s/]+)@")
_CONNINFO: Final = re.compile(r"\bpassword\s*=\s*(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s']+))")


def hide_named(text: str) -> str:
    """A log's text without what stands behind names of secrets, in `Authorization`, and as a DSN's password."""
    text = _DSN.sub(rf"\g<head>:{HIDDEN}@", text)
    text = _AUTHORIZATION.sub(rf"\1 {HIDDEN}", text)
    return _IN_TEXT.sub(rf"\g<name>{HIDDEN}", text)


def hide_keys(value: Any) -> Any:
    """A JSON-like value without what stands under keys that name secrets."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if isinstance(key, str) and names_secret(key) else hide_keys(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(map(hide_keys, value)) if type(value) in (list, tuple) else value
    return value


class SecretsFilter(logging.Filter):
    """On every handler of the project: no record leaves with a secret in its message, its traceback or its extras."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: the record is changed, not dropped."""
        hide = _in_use.hider.hide
        try:
            record.args = hide_keys(record.args) if record.args else record.args
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A message and arguments that do not fit: logging would print both on stderr as they are.
            message = f"{record.msg} (arguments that do not fit)"
        record.msg, record.args = hide(hide_named(message)), None
        if record.exc_info and record.exc_info[0] is not None:
            told = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            record.exc_text = hide(hide_named(told))
            # A handler with a formatter of its own would format it anew.
            record.exc_info = None
        elif record.exc_text:
            record.exc_text = hide(hide_named(record.exc_text))
        for name in record.__dict__.keys() - _OWN_FIELDS:
            value = record.__dict__[name]
            record.__dict__[name] = HIDDEN if names_secret(name) else _hide_extra(value, hide)
        return True


def _hide_extra(value: Any, hide: Any) -> Any:
    if isinstance(value, str | dict | list | tuple):
        return hide(hide_keys(value))
    return value


_OWN_FIELDS: Final = logging.LogRecord("", 0, "", 0, "", None, None).__dict__.keys() | {"message", "asctime"}
