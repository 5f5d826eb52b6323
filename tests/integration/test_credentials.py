"""Stored credentials: who may use one, when it was used, keys that change, files that carry them, and their command."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import LazySettings, settings
from django.core.management import CommandError, call_command

from executors import services
from executors.credentials import store
from executors.errors import (
    CredentialExists,
    CredentialInvalid,
    CredentialNotFound,
    CredentialOutOfScope,
    CredentialsUnreadable,
    CredentialUnreadable,
)
from executors.models import Credential
from executors.services import change_credential, resolve_credential, save_credential
from noetl_site import embedded
from tests.support.books import CHAIN, start
from tests.support.vaults import Vaults, serving

pytestmark = pytest.mark.django_db

VALUE = "st0red-s3cret"


@pytest.fixture(autouse=True)
def own_keys(settings: LazySettings) -> Iterator[None]:
    settings.NOETL_CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    services._cipher.cache_clear()
    services._uses.clear()
    yield
    services._cipher.cache_clear()


@pytest.fixture(scope="module")
def vaults() -> Iterator[Vaults]:
    with serving({"db": VALUE}) as found:
        yield found


def new_key(settings: LazySettings) -> None:
    settings.NOETL_CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.NOETL_CREDENTIAL_KEYS]
    services._cipher.cache_clear()


def command(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("credentials", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def data_file(folder: Path, data: Mapping[str, Any]) -> str:
    file = folder / "data.json"
    file.write_text(json.dumps(data))
    return str(file)


# -- scopes and use ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (None, True),
        (["*"], True),
        (["tests/*"], True),
        (["other/*", "tests/chain"], True),
        (["test?/chain"], True),
        (["tests/chai"], False),
        (["other/*"], False),
        (["TESTS/*"], False),
        ([], False),
    ],
)
def test_a_credential_is_for_the_playbooks_of_its_scopes(scopes: list[str] | None, may: bool) -> None:
    assert "path: tests/chain" in CHAIN
    execution_id = start(CHAIN)
    save_credential("shop", "generic", {"value": VALUE}, scopes=scopes)
    if may:
        assert resolve_credential("shop", execution_id).data == {"value": VALUE}
        return
    with pytest.raises(CredentialOutOfScope, match="'shop' may not be used by the playbook tests/chain"):
        resolve_credential("shop", execution_id)
    assert Credential.objects.get().last_used_at is None, "it was not used"


def test_a_credential_with_scopes_is_for_no_execution_that_is_not_there() -> None:
    save_credential("shop", "generic", {"value": VALUE}, scopes=["tests/*"])
    with pytest.raises(CredentialOutOfScope):
        resolve_credential("shop", 1)


def test_a_use_is_written_once_in_a_while() -> None:
    save_credential("shop", "generic", {"value": VALUE})
    assert Credential.objects.get().last_used_at is None
    resolve_credential("shop", 7)
    first = Credential.objects.get()
    assert (first.last_used_by, first.last_used_at is not None) == (7, True)
    services._uses.clear()
    resolve_credential("shop", 8)
    again = Credential.objects.get()
    assert (again.last_used_by, again.last_used_at) == (7, first.last_used_at)
    Credential.objects.update(last_used_at="2020-01-01T00:00:00Z")
    resolve_credential("shop", 9)
    assert Credential.objects.get().last_used_by == 7, "this process has told of it a moment ago"
    services._uses.clear()
    resolve_credential("shop", 9)
    assert Credential.objects.get().last_used_by == 9


# -- what is stored ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "type_", "data", "words"),
    [
        ("shop", "postgres", {"db_host": "h", "db_user": "u"}, "lacks db_name"),
        ("shop", "basic", {"username": VALUE}, "lacks password"),
        ("shop", "bearer", {}, "lacks token"),
        ("a/b", "generic", {"value": "x"}, "name of a credential"),
        ("", "generic", {"value": "x"}, "name of a credential"),
        ("shop", "", {"value": "x"}, "type of a credential"),
        ("shop", "generic", {}, "at least one field"),
        ("shop", "generic", {"value": "x" * 300_000}, "characters at most"),
    ],
)
def test_what_is_no_credential_of_its_type_is_not_stored(name: str, type_: str, data: Any, words: str) -> None:
    with pytest.raises(CredentialInvalid, match=words) as caught:
        save_credential(name, type_, data)
    assert VALUE not in str(caught.value)
    assert Credential.objects.count() == 0


def test_data_is_kept_as_it_was_given_and_nowhere_in_clear() -> None:
    save_credential("shop", "pg", {"host": "h", "port": 5432, "user": "u", "password": VALUE, "database": "d"})
    row = Credential.objects.get()
    assert VALUE not in str(row.__dict__)
    assert resolve_credential("shop", 1).data == {
        "host": "h",
        "port": "5432",
        "user": "u",
        "password": VALUE,
        "database": "d",
    }


def test_a_map_in_the_data_is_json_and_no_python() -> None:
    save_credential("key", "googleServiceAccount", {"json": {"client_email": "e", "private_key": "k"}})
    assert json.loads(resolve_credential("key", 1).data["json"]) == {"client_email": "e", "private_key": "k"}


def test_a_change_leaves_what_it_does_not_name() -> None:
    save_credential("shop", "generic", {"value": VALUE}, description="d", tags=["t"], scopes=["a/*"])
    changed = change_credential("shop", {"description": "other"})
    assert (changed.description, changed.tags, changed.scopes) == ("other", ("t",), ("a/*",))
    changed = change_credential(str(changed.id), {"data": {"value": "n3w-v4lue"}, "scopes": ["*"]})
    assert resolve_credential("shop", 1).data == {"value": "n3w-v4lue"}
    with pytest.raises(CredentialInvalid):
        change_credential("shop", {"type": "basic"})
    with pytest.raises(CredentialNotFound):
        change_credential("other", {"description": "x"})


# -- keys that change -------------------------------------------------------------------------------------


def test_a_rotation_encrypts_all_with_the_newest_key(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROTATED_AT_ONCE", 2)
    for number in range(5):
        save_credential(f"c{number}", "generic", {"value": f"{VALUE}-{number}"})
    Credential.objects.filter(name="c0").update(key_id="")
    new_key(settings)
    assert command("rotate")[0] == "5 credentials encrypted anew\n"
    settings.NOETL_CREDENTIAL_KEYS = settings.NOETL_CREDENTIAL_KEYS[:1]
    services._cipher.cache_clear()
    assert [resolve_credential(f"c{number}", 1).data["value"] for number in range(5)] == [
        f"{VALUE}-{number}" for number in range(5)
    ]
    assert len(set(Credential.objects.values_list("key_id", flat=True))) == 1
    assert json.loads(command("rotate", "--json")[0]) == {"rotated": 0, "unreadable": []}


def test_a_rotation_goes_on_where_it_was_ended(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROTATED_AT_ONCE", 1)
    for number in range(3):
        save_credential(f"c{number}", "generic", {"value": VALUE})
    new_key(settings)
    cipher = services._cipher()
    encrypt = cipher.encrypt
    done: list[str] = []

    def until_it_is_ended(name: str, data: Mapping[str, Any]) -> str:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(name)
        return encrypt(name, data)

    monkeypatch.setattr(cipher, "encrypt", until_it_is_ended)
    with pytest.raises(KeyboardInterrupt):
        services.rotate_credentials()
    assert Credential.objects.filter(key_id=cipher.key_id).count() == 2
    monkeypatch.setattr(cipher, "encrypt", encrypt)
    assert services.rotate_credentials() == store.Rotation(1, ())


def test_what_no_key_reads_is_told_and_left(settings: LazySettings) -> None:
    save_credential("lost", "generic", {"value": VALUE})
    settings.NOETL_CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    services._cipher.cache_clear()
    save_credential("fine", "generic", {"value": VALUE})
    before = Credential.objects.get(name="lost").data_encrypted
    with pytest.raises(CommandError, match="no key reads: lost"):
        command("rotate")
    assert Credential.objects.get(name="lost").data_encrypted == before
    with pytest.raises(CredentialUnreadable):
        resolve_credential("lost", 1)


# -- files ------------------------------------------------------------------------------------------------


def passphrase(folder: Path, text: str = "a passphrase of words") -> str:
    file = folder / "passphrase"
    file.write_text(f"{text}\n")
    return str(file)


def test_credentials_are_carried_in_an_encrypted_file(tmp_path: Path) -> None:
    save_credential("shop", "bearer", {"token": VALUE}, description="d", tags=["t"], scopes=["a/*"], meta={"m": 1})
    save_credential("other", "generic", {"value": "0ther-s3cret"})
    target = tmp_path / "carried"
    command("export", "--to", str(target), "--passphrase-file", passphrase(tmp_path))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert VALUE not in target.read_text()
    before = list(store.list_credentials())
    Credential.objects.all().delete()
    assert command("import", str(target), "--passphrase-file", passphrase(tmp_path))[0] == "stored 2 credentials\n"
    for old, new in zip(before, store.list_credentials(), strict=True):
        assert (old.name, old.type, old.description, old.tags, old.scopes, old.meta) == (
            *(new.name, new.type, new.description),
            *(new.tags, new.scopes, new.meta),
        )
    assert resolve_credential("other", 1).data == {"value": "0ther-s3cret"}
    with pytest.raises(CredentialsUnreadable, match="the passphrase is another"):
        command("import", str(target), "--replace", "--passphrase-file", passphrase(tmp_path, "not the passphrase"))


def test_in_clear_they_are_carried_only_when_it_is_said(tmp_path: Path) -> None:
    save_credential("shop", "bearer", {"token": VALUE})
    save_credential("other", "generic", {"value": "0ther-s3cret"})
    target = tmp_path / "carried"
    with pytest.raises(CommandError, match="--passphrase-file"):
        command("export", "--to", str(target))
    with pytest.raises(CommandError, match="12 characters"):
        command("export", "--to", str(target), "--passphrase-file", passphrase(tmp_path, "short"))
    assert not target.exists()
    told, warned = command("export", "shop", "--to", str(target), "--clear")
    assert "every secret in clear" in warned
    assert VALUE not in told + warned
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [entry["name"] for entry in json.loads(target.read_text())] == ["shop"]
    with pytest.raises(CommandError, match="cannot be written"):
        command("export", "--to", str(target), "--clear")


def test_of_a_file_all_are_stored_or_none(tmp_path: Path) -> None:
    save_credential("there", "generic", {"value": VALUE})
    file = tmp_path / "file"
    entries = [{"name": "new", "type": "bearer", "data": {"token": "t0ken-t0ken"}}, {"name": "there", "data": {"v": 1}}]
    file.write_text(json.dumps(entries))
    with pytest.raises(CredentialExists, match="there"):
        command("import", str(file))
    file.write_text(json.dumps([entries[0], {"name": "bad", "type": "basic", "data": {"username": "u"}}]))
    with pytest.raises(CredentialInvalid):
        command("import", str(file))
    assert list(Credential.objects.values_list("name", flat=True)) == ["there"]
    file.write_text(json.dumps([{**entries[0], "type": "snowflake"}, entries[1]]))
    told, warned = command("import", str(file), "--replace")
    assert (told, "no type is called 'snowflake'" in warned) == ("stored 2 credentials\n", True)


@pytest.mark.parametrize("text", ["{", "{}", '[{"name": "x"}]', f'[{{"name": "x", "data": "{VALUE}"}}]', "[3]"])
def test_a_file_that_holds_no_credentials_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(CredentialsUnreadable) as caught:
        command("import", str(file))
    assert VALUE not in str(caught.value)


# -- the command ------------------------------------------------------------------------------------------


def test_the_command_stores_and_lists_and_deletes(tmp_path: Path) -> None:
    data = data_file(tmp_path, {"value": VALUE})
    scopes = ("--scope", "a/*", "--scope", "b", "--tag", "t", "--description", "d")
    told, warned = command("set", "shop", "--type", "generic", "--data", data, *scopes)
    assert (told, warned) == ("stored shop\n", "")
    assert "no type is called 'odd'" in command("set", "odd", "--type", "odd", "--data", data)[1]
    listed = command("ls")[0]
    assert "never used" in listed
    assert "a/*, b" in listed
    [odd, shop] = json.loads(command("ls", "--json")[0])
    assert (odd["scopes"], shop["scopes"], shop["tags"], shop["last_used_by"]) == (["*"], ["a/*", "b"], ["t"], None)
    assert VALUE not in listed + json.dumps([odd, shop])
    assert command("rm", "shop")[0] == "deleted shop\n"
    with pytest.raises(CredentialNotFound):
        command("rm", "shop")


# -- trying -----------------------------------------------------------------------------------------------


@pytest.fixture
def shop_database(settings: LazySettings) -> dict[str, str]:
    return embedded.ensure_database(settings.NOETL_DATA_DIR, "trying", "trying_steps")


def test_a_postgres_credential_is_tried_on_its_server(shop_database: dict[str, str]) -> None:
    fields = {f"db_{key}": shop_database[key] for key in ("host", "port", "user", "password")}
    save_credential("pg", "postgres", {**fields, "db_name": shop_database["dbname"]})
    told = json.loads(command("test", "pg", "--json")[0])
    assert (told["name"], told["status"]) == ("pg", "ok")
    assert told["message"].startswith("PostgreSQL")


@pytest.mark.parametrize(
    "change",
    [{"db_password": "wr0ng-p4ssword"}, {"db_name": "there_is_none"}, {"db_host": "127.0.0.1", "db_port": "1"}],
)
def test_a_wrong_one_fails_and_its_password_is_not_told(shop_database: dict[str, str], change: dict[str, str]) -> None:
    fields = {f"db_{key}": shop_database[key] for key in ("host", "port", "user", "password")}
    save_credential("pg", "postgres", {**fields, "db_name": shop_database["dbname"], **change})
    trial = services.try_stored("pg")
    assert trial.status == "failed"
    for password in ("wr0ng-p4ssword", shop_database["password"]):
        assert password not in trial.message
    with pytest.raises(CommandError, match="does not work"):
        command("test", "pg")


@pytest.mark.parametrize(
    ("type_", "data", "status"),
    [
        ("bearer", {"token": "TOKEN"}, "ok"),
        ("bearer", {"token": "wr0ng-t0ken"}, "failed"),
        ("header", {"name": "X-Own-Token", "value": "TOKEN"}, "ok"),
        ("vault", {"token": "TOKEN", "address": "URL/nothing"}, "failed"),
        ("oauth", {"client_id": "c", "client_secret": "SECRET", "token_url": "URL/azure/token"}, "ok"),
        ("oauth", {"client_id": "c", "client_secret": "wr0ng-s3cret", "token_url": "URL/azure/token"}, "failed"),
        ("oauth", {"client_id": "c", "client_secret": "SECRET"}, "untested"),
        ("google_service_account", {"client_email": "e", "private_key": "KEY", "token_uri": "URL/google/token"}, "ok"),
        ("google_service_account", {"client_email": "e", "private_key": "n0-key-at-all"}, "failed"),
        ("generic", {"value": VALUE}, "untested"),
        ("snowflake", {"password": VALUE}, "untested"),
    ],
)
def test_each_type_is_tried_in_its_own_way(
    settings: LazySettings, vaults: Vaults, type_: str, data: dict[str, str], status: str
) -> None:
    settings.NOETL_HTTP_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    words = {"TOKEN": vaults.token, "SECRET": vaults.client_secret, "KEY": vaults.private_key}
    filled = {name: words.get(value, value.replace("URL", vaults.url)) for name, value in data.items()}
    save_credential("c", type_, filled, meta={"test_url": f"{vaults.url}/own?secret_name=db&version=1"})
    trial = services.try_stored("c")
    assert trial.status == status, trial.message
    for secret in (*words.values(), VALUE, "wr0ng-t0ken", "wr0ng-s3cret", "n0-key-at-all"):
        assert secret not in trial.message


def test_a_header_is_tried_only_where_it_is_said() -> None:
    save_credential("c", "bearer", {"token": VALUE})
    assert services.try_stored("c").status == "untested"
    refused = services.try_stored("c", "http://127.0.0.1:1/")
    assert (refused.status, "NOETL_HTTP_ALLOWED_NETWORKS" in refused.message) == ("failed", True)


def test_the_settings_are_those_of_the_test() -> None:
    assert len(settings.NOETL_CREDENTIAL_KEYS) == 1
