"""What is secret is taken out of texts by value, in every form, and out of logs by name, too."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from html import escape
from urllib.parse import quote, quote_plus, urlencode

import pytest

from executors.redaction import Hider, SecretsFilter, hide_keys, hide_named, names_secret, secrets_in_use

VALUES = ["pl4in-s3cret", "qu'ote\"d\\ p4ss", "ünïcode-пароль", "p%40 100% / +&=s3", "line-one-of-it\nline-two-of-it"]
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: f"before {value} after",
    "json": lambda value: json.dumps({"a": [value]}),
    "json as it is": lambda value: json.dumps([value], ensure_ascii=False),
    "json in json": lambda value: json.dumps(json.dumps([value])),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 for urls": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 of a pair": lambda value: base64.b64encode(f"ada:{value}".encode()).decode(),
    "base64 of a pair with a short name": lambda value: base64.b64encode(f"b:{value}".encode()).decode(),
    "base64 between others": lambda value: base64.b64encode(f"ab{value}xyz".encode()).decode(),
    "base64 of json": lambda value: base64.b64encode(json.dumps({"a": value}).encode()).decode(),
    "hex of json as it is": lambda value: json.dumps([value], ensure_ascii=False).encode().hex(),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "url": lambda value: f"postgres://ada:{quote(value, safe='')}@host/db",
    "path": lambda value: f"/v1/{quote(value)}/x",
    "form": lambda value: urlencode({"p": value}),
    "form, lower case": lambda value: re.sub("%..", lambda found: found.group().lower(), quote_plus(value)),
    "repr": lambda value: repr({"password": value}),
    "html": escape,
    "sql": lambda value: "'" + value.replace("'", "''") + "'",
    "conninfo": lambda value: "'" + value.replace("'", "\\'") + "'",
}


def left_of(value: str, text: str) -> list[str]:
    """The forms of the value that can still be read in the text."""
    whole = base64.b64encode(value.encode()).decode().rstrip("=")
    forms = [value, quote(value, safe=""), value.encode().hex(), json.dumps(value)[1:-1], whole]
    return [form for form in forms if form.lower() in text.lower()]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("form", FORMS)
def test_a_value_is_hidden_in_every_form(form: str, value: str) -> None:
    text = FORMS[form](value)
    hidden = Hider([value]).hide(text)
    assert "***" in hidden
    assert not left_of(value, hidden)


def test_a_pairs_base64_is_hidden_but_for_a_few_characters() -> None:
    text = base64.b64encode(b"ada:pl4in-s3cret").decode()
    hidden = Hider(["pl4in-s3cret"]).hide(text)
    kept = hidden.replace("***", "")
    assert len(kept.rstrip("=")) <= 7, hidden


@pytest.mark.parametrize(
    ("value", "piece"),
    [
        ("postgresql://ada:0nly-this@host/db", "0nly-this"),
        ("host=x user=ada password='0nly this' dbname=y", "0nly this"),
        ("host=x password=0nlythis", "0nlythis"),
        ("postgresql://ada:0nly%40%2Fthis@host/db", "0nly@/this"),
        (r"host=x password='0nly\'th\\is'", r"0nly'th\is"),
        ('{"client_email": "a@b", "private_key": "-----BEGIN-----\\nMIIEvQIBADANBgkq\\n"}', "MIIEvQIBADANBgkq"),
        ("-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----", "MIIEvQIBADANBgkq"),
        ("  padded-value\n", "padded-value"),
    ],
)
def test_what_is_secret_in_a_value_is_hidden_alone(value: str, piece: str) -> None:
    assert Hider([value]).hide(f"<{piece}>") == "<***>"


def test_a_dsn_without_a_password_has_nothing_of_it() -> None:
    assert Hider(["host=there password='' user=ada"]).hide("there is ada") == "there is ada"


def test_values_of_every_type_are_looked_into() -> None:
    told = {"a": ["x s3cret-1 y", 1, None, True], "s3cret-1": {"b": "s3cret-1"}, "n": 123456, "m": 1234567}
    expected = {"a": ["x *** y", 1, None, True], "***": {"b": "***"}, "n": "***", "m": 1234567}
    assert Hider(["s3cret-1", "123456"]).hide(told) == expected


def test_what_holds_no_secret_is_given_back_as_it_is() -> None:
    told = {"rows": [{"n": n} for n in range(10)]}
    assert Hider(["s3cret-1"]).hide(told) is told


@pytest.mark.parametrize("end", ["", "...", "…"])
@pytest.mark.parametrize("form", [str, lambda value: base64.b64encode(value.encode()).decode()])
def test_a_value_that_was_cut_off_at_the_end_of_a_long_text_is_hidden(form: Callable[[str], str], end: str) -> None:
    told = form("pl4in-s3cret")
    for length in range(4, len(told)):
        assert Hider(["pl4in-s3cret"]).hide("x" * 300 + told[:length] + end) == "x" * 300 + "***" + end
    assert Hider(["pl4in-s3cret"]).hide("x" * 300 + told[:3]) == "x" * 300 + told[:3]


def test_a_value_of_three_characters_is_in_too_many_texts() -> None:
    assert Hider(["abc"]).hide("abc") == "abc"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SecretsFilter())
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("tests.redaction")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield logger, stream
    logger.removeHandler(handler)


def test_a_log_shows_no_value_that_is_in_use(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    with secrets_in_use() as secrets:
        secrets.keep(["pl4in-s3cret"])
        logger.info("got %s and %s", "pl4in-s3cret", base64.b64encode(b"pl4in-s3cret").decode())
        try:
            raise ValueError(f"no pl4in-s3cret, {{'x': {b'pl4in-s3cret'!r}}}")
        except ValueError:
            logger.exception("failed")
    logger.info("a thread tells late: pl4in-s3cret")
    told = stream.getvalue()
    assert "pl4in-s3cret" not in told
    assert "got *** and ***" in told
    assert "ValueError: no ***" in told
    assert "tells late: ***" in told


def test_a_log_shows_nothing_under_the_name_of_a_secret(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.info("%s", {"password": "hunter22", "list": [{"api_key": "k3y-k3y"}], "step": "load"})
    logger.info("sent %(token)s to %(host)s", {"token": "t0ken-t0ken", "host": "example"})
    logger.info("connect postgres://ada:hunter22@host/db failed; Authorization: Bearer abcdefghij")
    logger.info("db_password='hunter22' and client_secret=hunter22, user=ada")
    logger.info(*("%d and %d", 1))
    told = stream.getvalue()
    for secret in ("hunter22", "k3y-k3y", "t0ken-t0ken", "abcdefghij"):
        assert secret not in told
    assert "'step': 'load'" in told
    assert "sent *** to example" in told
    assert "user=ada" in told
    assert "arguments that do not fit" in told


@pytest.mark.parametrize(
    "text",
    [
        "there is no secret 'x': no credential is named 'x'",
        "secret_not_found: no such thing",
        'password authentication failed for user "ada"',
        "step load of 17: 3 rows",
    ],
)
def test_a_message_without_a_secret_stays_as_it_is(text: str) -> None:
    assert hide_named(text) == text


@pytest.mark.parametrize("name", ["password", "DB_PASSWORD", "api-key", "token", "private_key", "dsn", "pin", "auth"])
def test_names_that_sound_secret(name: str) -> None:
    assert names_secret(name)
    assert hide_keys({name: 1}) == {name: "***"}


@pytest.mark.parametrize("name", ["username", "db_host", "monkey", "token_url", "author", "spinning", "header"])
def test_names_that_do_not(name: str) -> None:
    assert not names_secret(name)
