"""Looking a token up, on every request: one prepared statement or two, where Knox and the ORM take up to five."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import connection
from knox.crypto import hash_token

from noetl_site.models import ApiToken

_IN_USE: Final = """
SELECT t.id, t.name, t.token_key, t.scopes::text, t.expiry, t.created, t.last_used_at,
       u.id, u.username, u.is_superuser
FROM api_token t JOIN auth_user u ON u.id = t.user_id
WHERE t.digest = %(digest)s AND u.is_active AND (t.expiry IS NULL OR t.expiry > clock_now())
  AND t.last_used_at > clock_now() - make_interval(secs => %(seconds)s)
"""

# As `User.get_all_permissions` finds them: the user's own and its groups'.
_PERMISSIONS: Final = """
SELECT c.app_label || '.' || p.codename
FROM (SELECT permission_id FROM auth_user_user_permissions WHERE user_id = %(user_id)s
      UNION
      SELECT gp.permission_id FROM auth_user_groups ug JOIN auth_group_permissions gp ON gp.group_id = ug.group_id
      WHERE ug.user_id = %(user_id)s) AS held
JOIN auth_permission p ON p.id = held.permission_id
JOIN django_content_type c ON c.id = p.content_type_id
"""


def find_in_use(token: str, seconds: float) -> tuple[User, ApiToken] | None:
    """The user and the token, when it is good and its use was recorded in the last `seconds`.

    Nothing is remembered from one request to the next: whatever ends or narrows a token counts from then on.
    """
    digest = hash_token(token)
    rows = _rows("in_use", _IN_USE, digest=digest, seconds=float(seconds))
    if not rows:
        return None
    token_id, name, key, scopes, expiry, created, used_at, user_id, username, is_superuser = rows[0]
    # In the order of the model's fields. What is not given here, Django loads when somebody asks for it.
    names = ("id", "is_superuser", "username", "is_active")
    user = User.from_db(connection.alias, names, (user_id, is_superuser, username, True))
    if not is_superuser:
        # Where `ModelBackend` keeps what it has read of a user in this request.
        held = _rows("permissions", _PERMISSIONS, user_id=user_id)
        vars(user)["_perm_cache"] = {permission for (permission,) in held}
    found = ApiToken(
        digest=digest, token_key=key, user=user, expiry=expiry, id=token_id, name=name, scopes=json.loads(scopes),
        last_used_at=used_at,
    )  # fmt: skip
    found.created = created
    found._state.adding = False
    return user, found


def _rows(name: str, sql: str, **parameters: Any) -> list[Any]:
    # The project's own database backend; Django's types do not know it.
    rows: list[Any] = connection.ask_prepared(  # type: ignore[attr-defined]  # see above
        f"access.{name}", sql, parameters
    )()
    return rows
