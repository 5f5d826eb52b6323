"""The credential cipher: bound to its row, readable with old keys, silent when it fails."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from executors.credentials.cipher import CredentialCipher
from executors.errors import CredentialUnreadable

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
DATA = {"db_password": "hunter2", "port": 5432}


def test_round_trip_hides_the_data() -> None:
    token = CredentialCipher([NEW]).encrypt("pg", DATA)
    assert "hunter2" not in token and CredentialCipher([NEW]).decrypt("pg", token) == DATA


def test_a_text_moved_to_another_row_cannot_be_read() -> None:
    token = CredentialCipher([NEW]).encrypt("pg", DATA)
    with pytest.raises(CredentialUnreadable):
        CredentialCipher([NEW]).decrypt("other", token)


def test_old_keys_read_and_the_first_key_writes() -> None:
    both = CredentialCipher([NEW, OLD])
    assert both.decrypt("pg", CredentialCipher([OLD]).encrypt("pg", DATA)) == DATA
    written = both.encrypt("pg", DATA)
    assert CredentialCipher([NEW]).decrypt("pg", written) == DATA
    with pytest.raises(CredentialUnreadable):
        CredentialCipher([OLD]).decrypt("pg", written)


@pytest.mark.parametrize("token", ["", "nonsense", "gAAAAA", "\u00e9"])
def test_damaged_texts_are_unreadable(token: str) -> None:
    with pytest.raises(CredentialUnreadable) as caught:
        CredentialCipher([NEW]).decrypt("pg", token)
    assert caught.value.code == "credential_unreadable" and caught.value.__cause__ is None


def test_a_key_is_needed() -> None:
    with pytest.raises(ValueError, match="key"):
        CredentialCipher([])
    with pytest.raises(ValueError, match="Fernet"):
        CredentialCipher(["short"])
