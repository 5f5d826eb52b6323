"""A mail server for tests, in a thread of this process: it takes every message, and keeps it.

With `password` it wants a login (PLAIN or LOGIN) with that one first. A recipient at `nowhere.example` is refused, and
one at `silent.example` gets no answer as long as the server runs.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread


@dataclass(slots=True)
class Mail:
    """One message with the addresses of its envelope."""

    sender: str
    recipients: list[str]
    message: Message


@dataclass(slots=True)
class MailServer:
    """Where it is, and what came."""

    port: int
    mails: list[Mail] = field(default_factory=list)
    greetings: list[str] = field(default_factory=list)


class _Server(ThreadingTCPServer):
    daemon_threads = True
    password: str
    over: Event
    kept: MailServer

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what some tests are about."""


class _Handler(StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        sender, recipients, is_known = "", list[str](), not self.server.password
        self._say("220 here")
        while line := self.rfile.readline().decode().strip():
            command, _, rest = line.partition(" ")
            match command.upper():
                case "EHLO" | "HELO":
                    self.server.kept.greetings.append(rest)
                    self._say("250-here\r\n250 AUTH PLAIN LOGIN" if self.server.password else "250 here")
                case "AUTH":
                    is_known = self._login(rest)
                    self._say("235 welcome" if is_known else "535 not you")
                case "MAIL" if not is_known:
                    self._say("530 who are you")
                case "MAIL":
                    sender, recipients = _address(rest), []
                    self._say("250 ok")
                case "RCPT":
                    recipients.append(_address(rest))
                    if recipients[-1].endswith("@silent.example"):
                        self.server.over.wait()
                    self._say("550 nobody" if recipients[-1].endswith("@nowhere.example") else "250 ok")
                case "DATA":
                    self._say("354 go on")
                    self.server.kept.mails.append(Mail(sender, recipients, self._message()))
                    self._say("250 kept")
                case "QUIT":
                    self._say("221 bye")
                    return
                case _:
                    self._say("250 ok")

    def _login(self, rest: str) -> bool:
        way, _, first = rest.partition(" ")
        if way.upper() == "PLAIN":
            return base64.b64decode(first or self._ask("")).split(b"\x00")[-1].decode() == self.server.password
        first = first or self._ask("User Name")
        return base64.b64decode(self._ask("Password")).decode() == self.server.password

    def _ask(self, what: str) -> str:
        self._say("334 " + base64.b64encode(what.encode()).decode())
        return self.rfile.readline().decode().strip()

    def _message(self) -> Message:
        lines = bytearray()
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines += line.removeprefix(b".")
        return message_from_bytes(bytes(lines), policy=default)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


@contextmanager
def serving_mail(password: str = "") -> Iterator[MailServer]:
    """A mail server on this machine, as long as the context lasts."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.password, server.over = password, Event()
    server.kept = MailServer(server.server_address[1])
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.kept
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
