"""Which credentials an action uses: `auth`, out of all its spellings, in the form that the executors read.

That is a stored credential's name, one object `{source, key, type, ...}`, or a map from aliases to either. A name by
itself and an object that says no more become the name. What a credential is and where it is kept is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from catalog.domain.action_schemas import KindSchema
from catalog.domain.parser import join_pointer
from catalog.domain.reading import Field, Fields, Reading, shown
from catalog.domain.spelling import CREDENTIAL, GENERIC_AUTH
from catalog.domain.template_syntax import is_template

AUTH: Final = CREDENTIAL[0]
CHOICE: Final = "use_auth"
SOURCES: Final = ("credential", "secret", "env", "inline")
MANY_KEYWORD: Final = "x-noetl-credentials"
PROVIDERS: Final = {"credential_store": "credential", "secret_manager": "secret", "inline": "inline"}
EXTRAS: Final = ("service", "scope", "secret_name", "region", "endpoint", "header", "inject")
KEYS: Final = frozenset({"source", "provider", "key", "name", "fields", "value", "type", *SOURCES, *EXTRAS})
RESERVED: Final = frozenset(
    {"source", "key", "name", "service", "secret_name", "scope", "fields", "inject", "type", *SOURCES}
)
"""A map that has one of these is one object; any other is a map of aliases."""
REQUEST: Final = frozenset({"headers", "params", "payload", "method"})
"""What an action that calls an address of its own takes for `auth` instead: the parts of the request."""
SECRET_WORDS: Final = ("password", "secret", "token", "key", "value", "dsn", "conn")


def fold_credential(reading: Reading, fields: Fields, schema: KindSchema, where: str) -> None:
    """Put what names the credentials under `auth`."""
    _fold_generic(reading, fields)
    for spelling in CREDENTIAL:
        if spelling in fields:
            fields[spelling] = _folded(reading, fields[spelling], schema)
    found = reading.one_of(fields, CREDENTIAL, f"the credential {where}")
    if found is None:
        return
    fields[AUTH] = found
    if _is_aliases(found.value) and not _takes_many(schema) and CHOICE not in fields and len(found.value) > 1:
        advice = f"choose one of {', '.join(map(shown, found.value))} with `use_auth`: the action uses one credential"
        reading.error("invalid_argument", advice, found.pointer)


def _fold_generic(reading: Reading, fields: Fields) -> None:
    """`authentication`, `genericAuthType` and `credentials: {THAT TYPE: {name: NAME}}`, as http steps had them."""
    way, kind = (fields.pop(name, None) for name in GENERIC_AUTH)
    if way is None and kind is None:
        return
    credentials = fields.get("credentials")
    type_ = reading.text(kind, "`genericAuthType`")
    if credentials is None or not isinstance(credentials.value, dict) or type_ not in credentials.value:
        if way is not None and str(way.value).lower() == "none":
            return
        told = "name the credential: `auth: NAME`, or `credentials: {TYPE: {name: NAME}}` with `genericAuthType: TYPE`"
        reading.error("invalid_argument", told, (kind or way or credentials).pointer)  # type: ignore[union-attr]  # one is there
        return
    entry = credentials.value[type_]
    pointer = join_pointer(credentials.pointer, type_)
    named = entry if isinstance(entry, dict) else {"key": entry}
    fields["credentials"] = Field({"type": type_, **named}, pointer)


def _folded(reading: Reading, found: Field, schema: KindSchema) -> Field:
    value = found.value
    if isinstance(value, str):
        return Field(reading.credential_aliases.get(value.strip(), value.strip()), found.pointer)
    if not isinstance(value, dict) or (value and value.keys() <= REQUEST):
        return found
    if RESERVED & value.keys():
        return _object(reading, found, schema)
    entries = {
        alias: _folded(reading, Field(entry, join_pointer(found.pointer, alias)), schema)
        for alias, entry in value.items()
    }
    for entry in entries.values():
        if not isinstance(entry.value, str | dict) or not entry.value:
            reading.error("invalid_argument", "make this the name of a credential, or a map", entry.pointer)
    if len(entries) == 1 and not _takes_many(schema):
        # Of a kind that uses one credential an alias says nothing.
        [entry] = entries.values()
        return entry
    if not entries:
        reading.error("invalid_argument", "name the credential: `auth: NAME`", found.pointer)
    return Field({alias: entry.value for alias, entry in entries.items()}, found.pointer)


def _object(reading: Reading, found: Field, schema: KindSchema) -> Field:
    given = dict(found.value)
    for name in given.keys() - KEYS:
        advice = f"remove `{shown(name)}`: a reference to a credential has {', '.join(sorted(KEYS))}"
        reading.error("invalid_argument", advice, join_pointer(found.pointer, name))
        del given[name]
    source = _source(reading, given, found.pointer)
    told: dict[str, Any] = {}
    if source == "inline":
        told = {"source": source, "fields": _inline_fields(reading, given, found.pointer)}
    else:
        named = next((given[key] for key in (source, "key", "name") if given.get(key)), None)
        if named is None and source == "secret":
            named = given.pop("secret_name", None)
        if not isinstance(named, str) or not named.strip():
            reading.error("invalid_argument", f"name the {source} with `key`, as a text", found.pointer)
        elif source == "credential":
            told = {"key": reading.credential_aliases.get(named.strip(), named.strip())}
        else:
            told = {"source": source, "key": named.strip()}
    told |= {name: given[name] for name in ("type", *EXTRAS) if given.get(name) is not None}
    for name in ("type", *EXTRAS[:-1]):
        if name in told and not isinstance(told[name], str):
            reading.error("invalid_argument", f"make `{name}` a text", join_pointer(found.pointer, name))
    if told.keys() == {"key"} or (told.keys() == {"key", "type"} and told["type"] == schema.kind):
        return Field(told["key"], found.pointer)
    return Field(told, found.pointer)


def _source(reading: Reading, given: Mapping[str, Any], pointer: str) -> str:
    source = given.get("source")
    if source is None and "provider" in given:
        source = PROVIDERS.get(str(given["provider"]), given["provider"])
    if source is None:
        if _is_inline_header(given):
            return "inline"
        source = next((name for name in SOURCES if given.get(name) is not None), None)
    if source is None:
        source = "inline" if given.get("fields") is not None or given.get("value") is not None else "credential"
    if source in SOURCES:
        return str(source)
    reading.error("invalid_argument", f"make the source of the credential one of: {', '.join(SOURCES)}", pointer)
    return "credential"


def _is_inline_header(given: Mapping[str, Any]) -> bool:
    """`{type: header, name: X-Token, value: ...}`: the name is the header's, and no credential's."""
    return (
        str(given.get("type") or "").lower() == "header" and "value" in given and not given.keys() & {"key", "fields"}
    )


def _inline_fields(reading: Reading, given: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    fields = given.get("inline") or given.get("fields") or {}
    if not isinstance(fields, dict):
        reading.error("invalid_argument", "make the fields of an inline credential a map", pointer)
        return {}
    fields = dict(fields)
    if given.get("value") is not None:
        fields["value"] = given["value"]
    if _is_inline_header(given) and given.get("name") is not None:
        fields["name"] = given["name"]
    if not fields:
        reading.error("invalid_argument", "give the fields of the inline credential", pointer)
    for name, value in fields.items():
        if isinstance(value, str) and not is_template(value) and any(word in name.lower() for word in SECRET_WORDS):
            advice = (
                "write {{ secret.NAME }} here, or store the credential: a secret in a playbook is seen by its readers"
            )
            reading.warn("secret_in_playbook", advice, pointer)
            break
    return fields


def _takes_many(schema: KindSchema) -> bool:
    """Whether the kind uses all credentials of a map, by their aliases."""
    return bool(schema.schema["properties"][AUTH].get(MANY_KEYWORD) == "many")


def _is_aliases(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and not RESERVED & value.keys() and not value.keys() <= REQUEST
