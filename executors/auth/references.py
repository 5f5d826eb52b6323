"""References to credentials: the forms that `auth` takes once a playbook is registered, and what each resolves to.

`auth` is the name of a stored credential, one object, or a map from aliases to either. A map with any of the keys in
`RESERVED` is one object. Every other spelling is made one of these at registration (`catalog.domain.credentials`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from executors.auth.types import as_fields, as_texts, canonical
from executors.contract import ActionContext, ActionFailed, Credential

Auth: TypeAlias = str | dict[str, Any]
"""The type of a kind's argument `auth`. Never read it: ask `bound_credential` or `bound_credentials`."""

MANY: Final[JsonDict] = {"x-noetl-credentials": "many"}

RESERVED: Final = frozenset(
    {
        *("source", "key", "name", "service", "secret_name", "scope", "fields", "inject", "type"),
        # The forms of the documents: which of these is there says where the credential is.
        *("credential", "secret", "env", "inline"),
    }
)
ONE: Final = "auth"
"""The alias of a reference that has none."""
EXTRAS: Final = ("scope", "service", "secret_name", "region", "header")
"""Fields that a reference may lay over those of its credential: none of them is secret."""
ENDPOINTS: Final = frozenset({"endpoint", "endpoint_url"})


class AuthInvalid(ActionFailed):
    """`auth` names no credential, or not one where one is needed."""

    def __init__(self, message: str) -> None:
        super().__init__("auth_invalid", message)


class Reference(BaseModel):
    """One object: where the credential is, its type, and what is laid over its fields."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    source: Literal["credential", "secret", "env", "inline"] | None = None
    provider: Literal["credential_store", "secret_manager", "inline"] | None = None
    key: str | None = None
    name: str | None = None
    credential: str | None = None
    secret: str | None = None
    env: str | None = None
    inline: dict[str, Any] | None = None
    fields_: dict[str, Any] | None = Field(None, alias="fields")
    value: str | None = None
    type: str | None = None
    service: str | None = None
    scope: str | None = None
    secret_name: str | None = None
    region: str | None = None
    endpoint: str | None = None
    header: str | None = None
    read_only: bool = False
    inject: Any = None

    @property
    def where(self) -> str:
        """The source, told or seen from the keys that are there."""
        if self.source is not None:
            return self.source
        told = {"credential_store": "credential", "secret_manager": "secret", "inline": "inline"}
        if self.provider is not None:
            return told[self.provider]
        for source in ("credential", "secret", "env", "inline"):
            if getattr(self, source) is not None:
                return source
        return "inline" if self.fields_ is not None or self.value is not None else "credential"

    @property
    def named(self) -> str:
        """The name of what is referred to; empty when there is none."""
        own = {"credential": self.credential, "secret": self.secret, "env": self.env}.get(self.where)
        named = own or self.key or self.name
        if not named and self.where == "secret":
            named = self.secret_name
        return (named or "").strip()


@dataclass(frozen=True, slots=True)
class Bound:
    """A reference and the credential it led to: canonical, with what the reference lays over it."""

    alias: str
    credential: Credential
    read_only: bool = False
    """Whether the reference says so."""


def bound_credential(auth: Auth | None, use_auth: str | None, context: ActionContext) -> Bound | None:
    """The one credential of a kind that takes one; `use_auth` chooses by alias. None: the step names none.

    Raises: `AuthInvalid`; `ActionFailed` when it is not found, may not be used here, or cannot be read.
    """
    references = dict(_references(auth))
    if not references:
        if use_auth:
            raise AuthInvalid(f"use_auth names {use_auth!r}, and there is no auth")
        return None
    if use_auth:
        if use_auth not in references:
            raise AuthInvalid(f"use_auth names {use_auth!r}; the aliases are: {', '.join(sorted(references))}")
        return _bind(use_auth, references[use_auth], context)
    if len(references) > 1:
        raise AuthInvalid(f"auth has several credentials ({', '.join(references)}): choose one with use_auth")
    [(alias, reference)] = references.items()
    return _bind(alias, reference, context)


def bound_credentials(auth: Auth | None, context: ActionContext, use_auth: str | None = None) -> dict[str, Bound]:
    """Every credential by its alias, in the order they are written, or the one that `use_auth` chooses.

    One without an alias is called `auth`; a bare name is its own alias. Raises: as `bound_credential`.
    """
    if use_auth:
        bound = bound_credential(auth, use_auth, context)
        return {} if bound is None else {bound.alias: bound}
    return {alias: _bind(alias, reference, context) for alias, reference in _references(auth)}


def names_in(auth: Any) -> tuple[set[str], set[str]]:
    """The stored credentials and the secrets that an `auth` names; of what is no `auth` none.

    `{{ secret.NAME }}` within it is not counted: its place is told beside the work.
    """
    try:
        references = [reference for _, reference in _references(auth)]
    except ActionFailed:
        return set(), set()
    named = {
        source: {one.named for one in references if one.where == source and one.named}
        for source in ("credential", "secret")
    }
    return named["credential"], named["secret"]


def _references(auth: Any) -> Iterator[tuple[str, Reference]]:
    if auth is None or auth in ("", {}):
        return
    if isinstance(auth, str):
        yield auth.strip(), Reference(key=auth.strip())
    elif not isinstance(auth, Mapping):
        raise AuthInvalid("auth must be the name of a credential or a map")
    elif RESERVED & auth.keys():
        yield ONE, _read(auth, ONE)
    else:
        for alias, entry in auth.items():
            yield alias, Reference(key=entry.strip()) if isinstance(entry, str) else _read(entry, alias)


def _read(entry: Any, alias: str) -> Reference:
    if not isinstance(entry, Mapping):
        raise AuthInvalid(f"{alias}: a reference to a credential is its name or a map")
    given = dict(entry)
    if str(given.get("type") or "").lower() == "header" and "value" in given and not given.keys() & _WHERE:
        # Of an inline header the name is the header's, and no credential's.
        given = {"type": given["type"], "inline": {name: given[name] for name in ("name", "value") if name in given}}
    try:
        return Reference.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        raise AuthInvalid(f"{alias}: {told}") from None


_WHERE: Final = frozenset({"source", "provider", "key", "credential", "secret", "env", "inline", "fields"})


def _bind(alias: str, reference: Reference, context: ActionContext) -> Bound:
    found = canonical(_resolve(alias, reference, context))
    context.keep_secret(found.secret_texts())
    if reference.endpoint is not None or (reference.where == "inline" and ENDPOINTS & found.data.keys()):
        # Who is asked there is asked past the rules for addresses, and gets what is signed with the credential.
        raise AuthInvalid(f"{alias}: an endpoint belongs into a stored credential")
    extras = {name: value for name in EXTRAS if (value := getattr(reference, name)) is not None}
    if reference.where == "secret" and reference.named == reference.secret_name:
        # It is what the reference is read from, and not what it is called where it is used.
        extras.pop("secret_name", None)
    laid = Credential(found.name, found.type, {**found.data, **extras})
    return Bound(alias, laid, reference.read_only)


def _resolve(alias: str, reference: Reference, context: ActionContext) -> Credential:
    source, name = reference.where, reference.named
    if source == "inline":
        fields = reference.inline or reference.fields_ or {}
        if reference.value is not None:
            fields = {**fields, "value": reference.value}
        if not fields:
            raise AuthInvalid(f"{alias}: an inline credential needs its fields")
        return Credential(alias, reference.type or "generic", as_texts(fields))
    if not name:
        raise AuthInvalid(f"{alias}: name the {source} with `key`")
    if source == "credential":
        found = context.credential(name)
        data = found.data
        if reference.type and data.keys() == {"value"}:
            # A secret of no type, used as one: the value is what the type is about.
            data = as_fields(reference.type, data["value"])
        return Credential(found.name, reference.type or found.type, data)
    value = context.secret(name) if source == "secret" else context.environment_secret(name)
    type_name = reference.type or "generic"
    return Credential(name, type_name, as_fields(type_name, value))
