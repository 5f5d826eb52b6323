"""Looking a token up on every request: one prepared statement, where Knox and the ORM take three queries or five."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import connection
from knox.crypto import hash_token

from noetl_site.models import ApiToken

# Permissions as `User.get_all_permissions` finds them: the user's own and its groups'. A superuser needs none.
_IN_USE: Final = """
SELECT t.id, t.name, t.token_key, t.scopes::text, t.expiry, t.created, t.last_used_at,
       u.id, u.username, u.is_superuser,
       CASE WHEN NOT u.is_superuser THEN (
           SELECT json_agg(c.app_label || '.' || p.codename)
           FROM (SELECT permission_id FROM auth_user_user_permissions WHERE user_id = u.id
                 UNION
                 SELECT gp.permission_id FROM auth_user_groups ug
                 JOIN auth_group_permissions gp ON gp.group_id = ug.group_id
                 WHERE ug.user_id = u.id) AS held
           JOIN auth_permission p ON p.id = held.permission_id
           JOIN django_content_type c ON c.id = p.content_type_id)::text END
FROM api_token t JOIN auth_user u ON u.id = t.user_id
WHERE t.digest = %(digest)s AND u.is_active AND (t.expiry IS NULL OR t.expiry > clock_now())
  AND t.last_used_at > clock_now() - make_interval(secs => %(seconds)s)
"""


def find_in_use(token: str, seconds: float) -> tuple[User, ApiToken] | None:
    """The user and the token, when it is good and its use was recorded in the last `seconds`.

    Nothing is remembered from one request to the next: whatever ends or narrows a token counts from then on.
    """
    digest = hash_token(token)
    # The project's own database backend; Django's types do not know it.
    rows: list[Any] = connection.run_prepared(  # type: ignore[attr-defined]  # see above
        "access.in_use", _IN_USE, {"digest": digest, "seconds": float(seconds)}
    )
    if not rows:
        return None
    (token_id, name, key, scopes, expiry, created, used_at, user_id, username, is_superuser, permissions) = rows[0]
    # In the order of the model's fields. What is not given here, Django loads when somebody asks for it.
    names = ("id", "is_superuser", "username", "is_active")
    user = User.from_db(connection.alias, names, (user_id, is_superuser, username, True))
    if not is_superuser:
        # Where `ModelBackend` keeps what it has read of a user in this request.
        vars(user)["_perm_cache"] = set(json.loads(permissions or "[]"))
    found = ApiToken(
        digest=digest, token_key=key, user=user, expiry=expiry, id=token_id, name=name, scopes=json.loads(scopes),
        last_used_at=used_at,
    )  # fmt: skip
    found.created = created
    found._state.adding = False
    return user, found
