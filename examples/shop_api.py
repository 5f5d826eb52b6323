"""A small shop's API on this machine, for the examples that ask one: `python examples/shop_api.py [PORT]`.

| address | gives |
|---|---|
| `/orders?page=N&per_page=M` | a page of 25 orders, `{orders: [...]}`; an empty one behind the last |
| `/stores` | a list of stores |
| `/stores/ID` | how many units a store has; 404 for the one that has closed |
| `/prices` | what a unit costs |
| `/account` | whose account it is, for whoever shows the token and the key of below; else 401 |

Made up, like all that it gives. It listens on this machine only.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
PORT = 8099
ACCOUNT = {"token": "Bearer tutorial-token", "key": "tutorial-key"}
"""What the account wants to be shown."""
ORDERS = [{"id": n, "customer": ("Ada", "Bob", "Cleo")[n % 3], "total": round(4.5 * n, 2)} for n in range(1, 26)]
UNITS = {"north": 12, "south": 3, "east": 7}
STORES = [*UNITS, "west"]


class Handler(BaseHTTPRequestHandler):
    """Answers with JSON."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        status, body = self._answer(address.path.strip("/").split("/"), query)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, path: list[str], query: dict[str, str]) -> tuple[int, Any]:
        match path:
            case ["orders"]:
                page, size = int(query.get("page", 1)), int(query.get("per_page", 10))
                return 200, {"orders": ORDERS[(page - 1) * size : page * size]}
            case ["stores"]:
                return 200, [{"id": name} for name in STORES]
            case ["stores", name] if name in UNITS:
                return 200, {"id": name, "units": UNITS[name]}
            case ["prices"]:
                return 200, {"unit": 2.5}
            case ["account"]:
                shown = {"token": self.headers["Authorization"], "key": self.headers["X-Shop-Key"]}
                if shown != ACCOUNT:
                    return 401, {"detail": "show the token and the key"}
                return 200, {"owner": "Ada", "shown": shown}
        return 404, {"detail": "nothing is known of it"}


class ShopServer(ThreadingHTTPServer):
    """The API on a port of this machine; 0 takes a free one."""

    daemon_threads = True

    def __init__(self, port: int = PORT) -> None:
        super().__init__((HOST, port), Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.server_port}"


if __name__ == "__main__":
    with ShopServer(int(sys.argv[1]) if sys.argv[1:] else PORT) as server:
        sys.stderr.write(f"the shop answers at {server.url}; Ctrl-C ends it\n")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
