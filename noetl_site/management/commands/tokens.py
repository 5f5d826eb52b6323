"""`manage.py tokens`: make, list and end tokens of the API."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from noetl_site.access import tokens
from noetl_site.access.errors import AccessError
from noetl_site.access.roles import NAMES
from noetl_site.models import ApiToken


class Command(BaseCommand):
    """Make a token for a user or for a program; list them; end one."""

    help = (
        "Make, list and end API tokens. `create --service NAME --role ROLE` makes the account of a program with its "
        "token; `create --user NAME` a token of somebody who is known. A token is printed once and kept as a digest."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """`create`, `ls`, `rm`."""
        doing = parser.add_subparsers(dest="doing", required=True)
        one = doing.add_parser("create", help="make a token and print it")
        whose = one.add_mutually_exclusive_group(required=True)
        whose.add_argument("--user", metavar="NAME", help="somebody who is known")
        whose.add_argument("--service", metavar="NAME", help="the account of a program; made when it is missing")
        one.add_argument(
            "--role", action="append", default=[], choices=NAMES, dest="roles",
            help="of a program: what it may do; of a user's token: what of the user's roles it is narrowed to",
        )  # fmt: skip
        one.add_argument("--name", default="", help="what the token is for")
        one.add_argument("--days", type=int, help="how long it lasts (for ever when absent)")
        one.add_argument("--json", action="store_true")
        doing.add_parser("ls", help="tokens, never in clear").add_argument("--json", action="store_true")
        doing.add_parser("rm", help="end a token").add_argument("id")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked."""
        getattr(self, f"_{options['doing']}")(options)

    def _create(self, options: dict[str, Any]) -> None:
        roles, scopes = options["roles"], []
        if options["service"]:
            if not roles:
                raise AccessError("a program needs at least one --role")
            user = tokens.ensure_service_account(options["service"], roles)
        else:
            user, scopes = tokens.find_user(options["user"]), roles
        token = tokens.create_token(user, options["name"] or "made by manage.py", scopes, options["days"])
        if options["json"]:
            self.stdout.write(json.dumps({"token": token, "user": user.username}))
        else:
            self.stdout.write(token)

    def _ls(self, options: dict[str, Any]) -> None:
        found = [_told(token) for token in tokens.list_tokens()]
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        if not found:
            self.stdout.write("no tokens; make one with `manage.py tokens create --service NAME --role worker`")
        for token in found:
            used = token["last_used_at"] or "never used"
            narrowed = f" only {','.join(token['scopes'])}" if token["scopes"] else ""
            self.stdout.write(f"{token['id']} {token['begins']}… {token['user']}{narrowed} {token['name']!r} {used}")

    def _rm(self, options: dict[str, Any]) -> None:
        tokens.delete_token(options["id"])
        self.stdout.write("ended")


def _told(token: ApiToken) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "begins": token.token_key,
        "user": token.user.username,
        "scopes": token.scopes,
        "name": token.name,
        "created": token.created.isoformat(timespec="seconds"),
        "expires": token.expiry.isoformat(timespec="seconds") if token.expiry else None,
        "last_used_at": token.last_used_at.isoformat(timespec="minutes") if token.last_used_at else None,
    }
