"""The query and the body of a request, as `requests` takes them. Knows no socket and no credential."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from requests.structures import CaseInsensitiveDict

from executors.actions.http.arguments import BODY_METHODS, EMPTY, HttpArguments
from executors.contract import ActionFailed
from executors.stores.http_addresses import CONTROL

Headers = CaseInsensitiveDict[str]
Query = dict[str, Any]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
PART_KEYS = frozenset({"text", "base64", "filename", "content_type"})
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(; ?[A-Za-z0-9-]+=[A-Za-z0-9._-]+)*")
# They say where a request ends: whoever sets them can hide a second one in it.
OWN_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


def headers_of(given: Mapping[str, Any]) -> Headers:
    """Headers as texts; None is none. Raises: `ActionFailed` for what no header can hold, without quoting it."""
    headers = Headers()
    for name, value in given.items():
        if value is None:
            continue
        if not HEADER_NAME.fullmatch(name):
            raise ActionFailed("arguments_invalid", "headers: a name holds characters that no header's name has")
        if name.lower() in OWN_HEADERS or name.lower().startswith("proxy-"):
            raise ActionFailed("arguments_invalid", f"headers: {name} is not a step's to set")
        headers[name] = header_value(name, value)
    return headers


def header_value(name: str, value: Any) -> str:
    """A header's value as a text. Raises: `ActionFailed`, which names the header only."""
    text = _text(value).strip(" \t")
    if CONTROL.search(text.replace("\t", " ")) or not _is_latin(text):
        raise ActionFailed("arguments_invalid", f"headers: the value of {name} holds characters that no header has")
    return text


def query_and_body(arguments: HttpArguments) -> tuple[Query, Any]:
    """The query, and the body before it is written; None is none. `form` and `multipart` are not looked at."""
    query = dict(arguments.params)
    has_body = arguments.verb in BODY_METHODS
    data = arguments.data
    if isinstance(data, dict) and data and set(data) <= {"query", "body"}:
        if not isinstance(data.get("query") or {}, dict):
            raise ActionFailed("arguments_invalid", "data.query: must be a map")
        query |= data.get("query") or {}
        return query, data.get("body") if has_body else None
    if data not in EMPTY and not has_body:
        if not isinstance(data, dict):
            raise ActionFailed("arguments_invalid", f"data: is the query of a {arguments.verb}, and must be a map")
        return query | data, None
    asked = next((body for body in (arguments.json_body, arguments.body) if body not in EMPTY), None)
    if asked is not None:
        return query, asked
    given = (arguments.payload, arguments.json_body, arguments.body, data)
    return query, next((body for body in given if body is not None), None) if has_body else None


def pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A query or a form as pairs of texts; a list gives one pair per item, None none."""
    found = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        found += [(str(name), _text(item)) for item in items if item is not None]
    return found


def encode(arguments: HttpArguments, body: Any, headers: Headers) -> dict[str, Any]:
    """The keyword of `requests` that writes the body as its word or the content type asks; may change `headers`."""
    if arguments.form:
        headers.pop("Content-Type", None)
        return {"data": pairs(arguments.form)}
    if arguments.multipart:
        return _multipart(list(_parts(arguments.multipart)), headers)
    if body is None:
        return {}
    content_type = headers.get("Content-Type", "").lower()
    if arguments.json_body is not None and not content_type:
        return {"json": body}
    if MULTIPART in content_type and isinstance(body, dict):
        return _multipart(list(_parts(body)), headers)
    if FORM in content_type:
        return {"data": pairs(body) if isinstance(body, dict) else _text(body).encode()}
    if isinstance(body, str) and "json" not in content_type:
        return {"data": body.encode()}
    if isinstance(body, str):
        return {"data": body.encode() if _is_json(body) else json.dumps(body)}
    return {"json": body}


def _multipart(parts: list[tuple[str, Any]], headers: Headers) -> dict[str, Any]:
    # The boundary is part of the type, so requests has to write it.
    headers.pop("Content-Type", None)
    return {"files": parts}


def _parts(fields: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What `requests` takes for files: (name, (file name, content, type)). Raises: `ActionFailed`."""
    for name, value in fields.items():
        if CONTROL.search(name):
            raise ActionFailed("arguments_invalid", "multipart: the name of a part holds control characters")
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                yield name, _part(name, item)


def _part(name: str, value: Any) -> tuple[Any, ...]:
    if not (isinstance(value, dict) and value.keys() <= PART_KEYS and ("text" in value) != ("base64" in value)):
        return (None, value if isinstance(value, str) else json.dumps(value))
    content = value["text"] if "text" in value else _decoded(name, value["base64"])
    filename, media_type = value.get("filename"), value.get("content_type")
    if filename is not None and (not isinstance(filename, str) or CONTROL.search(filename)):
        raise ActionFailed("arguments_invalid", f"multipart.{name}: filename must be a text without control characters")
    if media_type is not None and not (isinstance(media_type, str) and MEDIA_TYPE.fullmatch(media_type)):
        raise ActionFailed("arguments_invalid", f"multipart.{name}: content_type must be as text/csv")
    written = content if isinstance(content, bytes) else _text(content).encode()
    return (filename, written, media_type) if media_type else (filename, written)


def _decoded(name: str, given: Any) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ActionFailed("arguments_invalid", f"multipart.{name}: base64 cannot be decoded") from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | dict | list) else str(value)


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
