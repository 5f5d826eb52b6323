"""The kind alone: no server, no database. Run from the plugin's folder with NoETL's folder on PYTHONPATH."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from noetl_checksum import MOST_BYTES, ChecksumAction

from executors.contract import ActionFailed, ActionRequest


def run(**arguments: Any) -> Any:
    request = ActionRequest("checksum", arguments, {}, "1", "1:step", "step", 1, "1:step", 5)
    return ChecksumAction().run(request, SimpleNamespace(data_dir=Path(), cancelled=Event()))  # type: ignore[arg-type]  # it asks for no credential


def test_the_digest_is_of_the_text() -> None:
    assert run(text="hällo") == {
        "algorithm": "sha256",
        "digest": hashlib.sha256("hällo".encode()).hexdigest(),
        "bytes": 6,
    }
    assert run(text="", algorithm="md5")["digest"] == "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "arguments_invalid"),
        ({"text": "x", "algorithm": "crc"}, "arguments_invalid"),
        ({"text": "x" * (MOST_BYTES + 1)}, "text_too_large"),
    ],
)
def test_what_is_wrong_has_a_code(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(ActionFailed) as failed:
        run(**arguments)
    assert failed.value.code == code
