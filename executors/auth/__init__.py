"""What `auth` of an action means: which credentials it refers to, of which type, with which fields.

The one resolver of every kind. A kind declares `auth: Auth | None = None` and `use_auth: str | None = None`, and asks
for what is meant at the last moment:

    bound = bound_credential(arguments.auth, arguments.use_auth, context)       # one, or None: postgres, save
    found = bound_credentials(arguments.auth, context, arguments.use_auth)      # all, by alias: duckdb, http

A kind that uses all of them says so at its argument, or registration demands `use_auth`:

    auth: Auth | None = Field(None, json_schema_extra=MANY)

`bound.credential` has the canonical type (`bound.credential.type`) and the canonical names of fields
(`docs/language.md` lists them): `db_host` whether the credential says `host` or `db_host`. Fields that the reference
names beside the credential (`scope`, `service`, `header`, ...) stand in `bound.credential.data`, too.
"""

from executors.auth.references import (
    MANY,
    ONE,
    Auth,
    AuthInvalid,
    Bound,
    bound_credential,
    bound_credentials,
    names_in,
)
from executors.auth.types import TYPES, CredentialType, as_texts, canonical, json_object, problems_of, type_named

__all__ = [
    "MANY",
    "ONE",
    "TYPES",
    "Auth",
    "AuthInvalid",
    "Bound",
    "CredentialType",
    "as_texts",
    "bound_credential",
    "bound_credentials",
    "canonical",
    "json_object",
    "names_in",
    "problems_of",
    "type_named",
]
