"""Which addresses hold a password or a token by themselves."""

from __future__ import annotations

import pytest

from catalog.domain.clear_secrets import holds_secret


@pytest.mark.parametrize(
    "text",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7vQ",
        "tgram://123:abc/456",
        "json://ada:s3cret@shop.example/hook",
        "jsons://shop.example/hook?token=s3cret",
        "jsons://shop.example/hook?+X-Api-Key=s3cret",
        "mailtos://ada:s3cret@mail.example",
        "{{ secret.one }} slack://T1/A1/x",
        "json://{{ who }}:s3cret@shop.example",
    ],
)
def test_a_secret_in_the_clear(text: str) -> None:
    assert holds_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{{ secret.url }}",
        "slack://{{ secret.slack }}",
        "slack://{{ secret.a }}/{{ secret.b }}/{{ secret.c }}",
        "json://shop.example/hook",
        "jsons://ada@shop.example/hook?method=put",
        "json://ada:{{ secret.password }}@shop.example",
        "jsons://shop.example/hook?token={{ secret.token }}",
        "mailto://mail.example?from=a@shop.example&to=b@shop.example",
        "{{ workload.api | replace('http', 'json') }}/echo",
        "slack://",
        "json://[broken",
    ],
)
def test_none(text: str) -> None:
    assert not holds_secret(text)
