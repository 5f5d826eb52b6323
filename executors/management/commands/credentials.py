"""`manage.py credentials`: stored credentials. Their data is written, and carried away in files, but never shown."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors import services
from executors.credentials import carrying
from executors.credentials.store import CredentialSummary, delete_credential, list_credentials


class Command(BaseCommand):
    """Store, list, try, rotate and carry credentials."""

    help = (
        "Named credentials. Their data is a JSON object, read from a file or from standard input, so that no secret "
        "stands on a command line; it is encrypted and never shown again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """`set`, `ls`, `rm`, `test`, `rotate`, `import`, `export`."""
        doing = parser.add_subparsers(dest="doing", required=True)
        one = doing.add_parser("set", help="store a credential, or replace it")
        one.add_argument("name")
        one.add_argument("--type", required=True, help="postgres, bearer, basic, api_key, header, s3, gcs, ...")
        one.add_argument("--data", required=True, metavar="FILE", help="a JSON object; `-` reads standard input")
        one.add_argument("--description", default="")
        one.add_argument("--tag", action="append", default=[], metavar="TAG")
        one.add_argument(
            "--scope",
            action="append",
            metavar="PATTERN",
            help="playbooks whose path matches may use it; may be given several times (without it: all may)",
        )
        one.add_argument("--test-url", metavar="URL", help="where `test` shows it")
        listing = doing.add_parser("ls", help="names, types, scopes and last use, without data")
        listing.add_argument("--json", action="store_true")
        doing.add_parser("rm", help="delete a credential").add_argument("name")
        trial = doing.add_parser("test", help="connect with a credential; exit code 1 when it does not work")
        trial.add_argument("name")
        trial.add_argument("--url", help="where to show one that is a header of HTTP")
        trial.add_argument("--json", action="store_true")
        rotation = doing.add_parser("rotate", help="encrypt all with the newest of NOETL_CREDENTIAL_KEYS")
        rotation.add_argument("--json", action="store_true")
        self._add_carrying(doing)

    def _add_carrying(self, doing: argparse._SubParsersAction[Any]) -> None:
        taking = doing.add_parser("import", help="store the credentials of a file: all of them or none")
        taking.add_argument("file", help="what `export` wrote, or a JSON list of {name, type, data, ...}; `-`: stdin")
        taking.add_argument("--replace", action="store_true", help="store anew what is there already")
        taking.add_argument("--passphrase-file", metavar="FILE", help="without it the passphrase is asked for")
        giving = doing.add_parser("export", help="write credentials to a file, encrypted with a passphrase")
        giving.add_argument("names", nargs="*", help="which; all when none is named")
        giving.add_argument("--to", required=True, metavar="FILE", help="a file that is not there yet")
        giving.add_argument("--passphrase-file", metavar="FILE", help="without it the passphrase is asked for")
        giving.add_argument("--clear", action="store_true", help="do not encrypt: the file holds every secret")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked."""
        doing = {
            "set": self._set,
            "ls": self._list,
            "rm": self._remove,
            "test": self._test,
            "rotate": self._rotate,
            "import": self._import,
            "export": self._export,
        }
        doing[options["doing"]](options)

    def _set(self, options: dict[str, Any]) -> None:
        services.save_credential(
            options["name"],
            options["type"],
            _read(options["data"]),
            description=options["description"],
            tags=options["tag"],
            scopes=options["scope"],
            meta={"test_url": options["test_url"]} if options["test_url"] else None,
        )
        self._warn_of_type(options["type"])
        self.stdout.write(f"stored {options['name']}")

    def _warn_of_type(self, type_name: str) -> None:
        if not services.is_known_type(type_name):
            self.stderr.write(f"warning: no type is called {type_name!r}: the fields were not checked")

    def _remove(self, options: dict[str, Any]) -> None:
        delete_credential(options["name"])
        self.stdout.write(f"deleted {options['name']}")

    def _list(self, options: dict[str, Any]) -> None:
        found = list_credentials()
        if options["json"]:
            told = [{**asdict(one), "id": str(one.id), "last_used_by": _text(one.last_used_by)} for one in found]
            self.stdout.write(json.dumps(told, default=str))
            return
        if not found:
            self.stdout.write("no credentials; store one with `manage.py credentials set NAME --type T --data FILE`")
        for credential in found:
            self.stdout.write(_line(credential))

    def _test(self, options: dict[str, Any]) -> None:
        trial = services.try_stored(options["name"], options["url"])
        if options["json"]:
            self.stdout.write(json.dumps({"name": options["name"], **asdict(trial)}))
        else:
            self.stdout.write(f"{trial.status}: {trial.message}")
        if trial.status == "failed":
            raise CommandError("the credential does not work")

    def _rotate(self, options: dict[str, Any]) -> None:
        rotation = services.rotate_credentials()
        if options["json"]:
            self.stdout.write(json.dumps(asdict(rotation)))
        else:
            self.stdout.write(f"{rotation.rotated} credentials encrypted anew")
        if rotation.unreadable:
            raise CommandError(f"no key reads: {', '.join(rotation.unreadable)}")

    def _import(self, options: dict[str, Any]) -> None:
        text = _text_of(options["file"])
        passphrase = _passphrase(options["passphrase_file"]) if carrying.is_encrypted(text) else None
        entries = carrying.read_text(text, options["file"], passphrase)
        names = services.import_credentials(entries, replace=options["replace"])
        for type_name in sorted({entry.type for entry in entries}):
            self._warn_of_type(type_name)
        self.stdout.write(f"stored {len(names)} credentials")

    def _export(self, options: dict[str, Any]) -> None:
        passphrase = None if options["clear"] else _passphrase(options["passphrase_file"], twice=True)
        if passphrase is not None and len(passphrase) < carrying.SHORTEST_PASSPHRASE:
            raise CommandError(f"the passphrase has {carrying.SHORTEST_PASSPHRASE} characters at least", returncode=2)
        entries = services.export_credentials(options["names"])
        try:
            carrying.write_file(Path(options["to"]), entries, passphrase)
        except OSError as error:
            raise CommandError(f"{options['to']} cannot be written: {error.strerror}", returncode=2) from None
        if options["clear"]:
            self.stderr.write(f"warning: {options['to']} holds every secret in clear; remove it when it has been read")
        self.stdout.write(f"wrote {len(entries)} credentials to {options['to']}")


def _line(credential: CredentialSummary) -> str:
    used = f"{credential.last_used_at:%Y-%m-%d %H:%M}" if credential.last_used_at else "never used"
    scopes = ", ".join(credential.scopes) or "nowhere"
    return f"{credential.name:<30} {credential.type:<12} {scopes:<20} {used:<16} {credential.description}".rstrip()


def _text(id_: int | None) -> str | None:
    return None if id_ is None else str(id_)


def _text_of(source: str) -> str:
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, ValueError):
        # Without the cause: it may quote the secret.
        raise CommandError(f"{source} cannot be read", returncode=2) from None


def _read(source: str) -> dict[str, Any]:
    try:
        data = json.loads(_text_of(source))
    except (ValueError, RecursionError):
        raise CommandError(f"{source} is no readable JSON", returncode=2) from None
    if not isinstance(data, dict):
        raise CommandError(f"{source} must hold a JSON object", returncode=2)
    return data


def _passphrase(file: str | None, *, twice: bool = False) -> str:
    if file is not None:
        return _text_of(file).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CommandError("give the passphrase in a file: --passphrase-file FILE", returncode=2)
    passphrase = getpass.getpass("passphrase: ")
    if twice and getpass.getpass("once more: ") != passphrase:
        raise CommandError("the two are not the same", returncode=2)
    return passphrase
