"""What `auth` of an action means: which credentials it refers to, of which type, with which fields.

The one resolver of every kind. A kind declares its argument as `auth: Auth | None` (and `use_auth: str | None` when it
takes one credential), and asks for what is meant at the last moment:

    bound = bound_credential(arguments.auth, arguments.use_auth, context)      # one, or None: http, postgres, save
    bound = bound_credentials(arguments.auth, context)                        # all, by alias: duckdb

`bound.credential` has the canonical type (`bound.credential.type`) and the canonical names of fields
(`docs/security.md` lists them): `db_host` whether the credential says `host` or `db_host`. Fields that the reference
names beside the credential (`scope`, `service`, `header`, ...) stand in `bound.credential.data`, too.
"""

from executors.auth.references import (
    Auth,
    AuthInvalid,
    Bound,
    bound_credential,
    bound_credentials,
    stored_names,
)
from executors.auth.types import TYPES, CredentialType, canonical, problems_of, type_named

__all__ = [
    "TYPES",
    "Auth",
    "AuthInvalid",
    "Bound",
    "CredentialType",
    "bound_credential",
    "bound_credentials",
    "canonical",
    "problems_of",
    "stored_names",
    "type_named",
]
