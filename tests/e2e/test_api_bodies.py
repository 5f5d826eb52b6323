"""Bodies on a real connection: a refusal arrives although nobody has read what came with the request."""

from __future__ import annotations

import requests

from tests.support.platform import Platform


def test_a_refusal_arrives_however_large_the_body_is(platform: Platform) -> None:
    url, token = f"{platform.ready['url']}/api", platform.ready["token"]
    session = requests.Session()
    for size in (200, 70_000, 1_000_000):
        for _ in range(10):
            assert session.post(f"{url}/catalog/register", data=b"x" * size).status_code == 401
            assert session.post(f"{url}/no/such", data=b"x" * size).status_code == 404
            headers = {"Authorization": f"Bearer {token}"}
            assert session.post(f"{url}/catalog/register", data=b"x" * size, headers=headers).status_code == 415
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    large = b'{"content": "' + b"x" * (17 * 1024 * 1024) + b'"}'
    for _ in range(3):
        assert session.post(f"{url}/catalog/register", data=large, headers=headers).status_code == 413
    chunked = requests.post(f"{url}/catalog/register", data=iter([b"{", b"}"]), headers=headers)
    assert chunked.status_code == 411
