"""Servers that keep secrets, as small as the protocols of the providers allow: Vault, Google, Azure, and one's own.

Each checks what it is shown as the real one does, and keeps what it was asked. All values are handed in.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


@dataclass
class Vaults:
    """One server for all four. `secrets` are name -> value; `client_secret` and `token` open them."""

    secrets: dict[str, str]
    token: str = "the-providers-own-token"
    client_secret: str = "the-clients-own-secret"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    asked: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def private_key(self) -> str:
        """The service account's key, as its key file has it."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON or text, and headers."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(f"{method} {parts.path}")
        _, *way = parts.path.split("/")
        match way:
            case ["vault", "v1", "auth", "approle", "login"]:
                given = json.loads(body)
                opened = given == {"role_id": "the-role", "secret_id": self.client_secret}
                return (200, {"auth": {"client_token": self.token}}, {}) if opened else (400, {}, {})
            case ["vault", "v1", "kv", "data", *path]:
                return self._vault("/".join(path), headers, query)
            case ["google", "token"]:
                return self._google_token(body)
            case ["google", "v1", "projects", "shop", "secrets", name, "versions", version]:
                return self._google(name, version, headers)
            case ["azure", "secrets", name, *version]:
                return self._azure(name, version, headers)
            case ["azure", "token"]:
                given = {name: values[0] for name, values in parse_qs(body.decode()).items()}
                opened = given.get("client_secret") == self.client_secret
                return (200, {"access_token": self.token}, {}) if opened else (401, {}, {})
            case ["own", *_]:
                return self._own(method, headers, query, body)
        return 404, {"errors": []}, {}

    def _vault(
        self, path: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        if headers.get("X-Vault-Token") != self.token:
            return 403, {"errors": ["permission denied"]}, {}
        if path not in self.secrets:
            return 404, {"errors": []}, {}
        fields = {"value": self.secrets[path]}
        if path == "pair":
            fields = {"user": "ada", "password": self.secrets[path]}
        return 200, {"data": {"data": fields, "metadata": {"version": int(query.get("version", 7))}}}, {}

    def _google_token(self, body: bytes) -> tuple[int, Any, dict[str, str]]:
        text = parse_qs(body.decode())["assertion"][0]
        signed, _, signature = text.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        # Raises when the key is another: the request then has no answer.
        self.key.public_key().verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return 200, {"access_token": self.token}, {}

    def _google(self, name: str, action: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        version, _, verb = action.partition(":")
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 403, {"error": {"status": "PERMISSION_DENIED"}}, {}
        if name not in self.secrets or verb != "access":
            return 404, {"error": {"status": "NOT_FOUND"}}, {}
        number = "12" if version == "latest" else version
        data = base64.b64encode(self.secrets[name].encode()).decode()
        full = f"projects/shop/secrets/{name}/versions/{number}"
        return 200, {"name": full, "payload": {"data": data}}, {}

    def _azure(self, name: str, version: list[str], headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if "Authorization" not in headers:
            said = f'Bearer authorization="{self.url}/azure/token", resource="https://vault.azure.net"'
            return 401, {}, {"WWW-Authenticate": said}
        if headers["Authorization"] != f"Bearer {self.token}":
            return 403, {}, {}
        if name not in self.secrets:
            return 404, {"error": {"code": "SecretNotFound"}}, {}
        id_ = f"https://shop.vault.azure.net/secrets/{name}/{version[0] if version else 'abc123'}"
        return 200, {"value": self.secrets[name], "id": id_}, {}

    def _own(
        self, method: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        if headers.get("X-Own-Token") != self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}, {}
        asked = query if method in ("GET", "DELETE") else json.loads(body)
        value = self.secrets.get(asked["secret_name"])
        if value is None:
            return 404, {}, {}
        match asked.get("as"):
            case "text":
                return 200, value, {}
            case "map":
                return 200, {"secret_value": {"user": "ada", "password": value}}, {}
            case "null":
                return 200, {"secret_value": None}, {}
        return 200, {"secret_value": value, "version": f"v-{asked['version']}"}, {}


@contextmanager
def serving(secrets: Mapping[str, str]) -> Iterator[Vaults]:
    """The server in a thread of its own."""
    vaults = Vaults(dict(secrets))

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, told, headers = vaults.answer(self.command, self.path, self.headers, body)  # type: ignore[arg-type]  # a message is a mapping of its headers
            content = told.encode() if isinstance(told, str) else json.dumps(told).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815  # the names are the base class's

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vaults.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield vaults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
