"""What one attempt of a job prints and logs, on its way from the action to whoever keeps it.

Bounds it and takes secrets out; knows neither leases nor where lines go. Cheap for a job that logs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from threading import Lock
from typing import Final

from executions.api import Level, LogLine, Stream, bytes_of
from executors.sandbox.printing import split_level
from executors.sandbox.results import plain

MOST_BYTES: Final = 256 * 1024
"""Of one attempt of a job, unless a setting says otherwise."""
LOOK_AHEAD_BYTES: Final = 8192
"""How much more of a line is waited for than there is room for: so much of a secret at the end of it is still known."""


class JobLog:
    """The lines that nobody has taken yet. Thread-safe: an action adds, others take.

    `sending` is to be held from taking lines until they are kept, so that they are kept in their order.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, on_news: Callable[[JobLog], None] | None = None) -> None:
        """`on_news` is called when there is a line where there was none; it must not take lines itself."""
        self.sending = Lock()
        self.since = 0.0
        """When the oldest line came that nobody has taken (monotonic)."""
        self._most_bytes = most_bytes
        self._room = most_bytes
        self._on_news = on_news
        self._lock = Lock()
        self._lines: list[LogLine] = []
        self._unfinished = bytearray()
        self._dropped = 0
        self._is_over = False
        self._hide: Callable[[str], str] = str

    def hide_with(self, hide: Callable[[str], str]) -> None:
        """Take secrets out of each line with this, when lines are taken and at the end of the job."""
        self._hide = hide

    def add(self, text: str, level: Level = "info", stream: Stream = "logged") -> None:
        """Add a message, each of its lines as one."""
        with self._lock:
            is_news = [self._add(line, level, stream) for line in text.splitlines() or [""]]
        self._tell(any(is_news))

    def take_printed(self, chunk: bytes) -> None:
        """Add what code printed, as it comes: a line may begin in one chunk and end in another."""
        with self._lock:
            if self._room <= 0 or self._is_over:
                self._dropped += len(chunk)
                return
            *whole, rest = chunk.split(b"\n")
            is_news = False
            for part in whole:
                is_news |= self._add_printed(bytes(self._unfinished + part))
                self._unfinished.clear()
            self._unfinished += rest
            if len(self._unfinished) > self._room + LOOK_AHEAD_BYTES:
                is_news |= self._finish_line()
        self._tell(is_news)

    def take(self) -> list[LogLine]:
        """The whole lines so far, without secrets."""
        with self._lock:
            lines, self._lines = self._lines, []
        return self._hidden(lines)

    def put_back(self, lines: list[LogLine]) -> None:
        """Lines that were taken and could not be kept, for the next who takes."""
        with self._lock:
            self._lines[:0] = lines

    def finish(self) -> None:
        """The job is over: what is left is made ready to be taken, and nothing is added any more.

        To be called while its secrets are known.
        """
        with self._lock:
            is_news = self._finish_line()
            self._is_over = True
            if self._dropped:
                text = f"{self._dropped} more characters were dropped: a job keeps {self._most_bytes} bytes of its log"
                self._lines.append(LogLine(_now(), "platform", "warning", text))
            self._lines, self._hide = self._hidden(self._lines), str
        self._tell(is_news)

    # -- with the lock held ----------------------------------------------------------------------------

    def _finish_line(self) -> bool:
        unfinished, self._unfinished = bytes(self._unfinished), bytearray()
        return bool(unfinished) and self._add_printed(unfinished)

    def _add_printed(self, line: bytes) -> bool:
        level, text = split_level(line.removesuffix(b"\r").decode(errors="replace"))
        return self._add(text, level or "info", "logged" if level else "printed")

    def _add(self, text: str, level: Level, stream: Stream) -> bool:
        """Add one line, or as much of it as there is room for. Returns: whether it is the first of its time."""
        text = plain(text)
        if self._room <= 0 or self._is_over:
            self._dropped += len(text)
            return False
        size = bytes_of(text)
        if size > self._room:
            # Hidden before it is cut: of half a secret nobody would know that it is one.
            kept = self._hide(text)[: self._room]
            self._dropped += max(1, len(text) - len(kept))
            text = kept
        self._room -= size
        self._lines.append(LogLine(_now(), stream, level, text))
        if len(self._lines) > 1:
            return False
        self.since = time.monotonic()
        return True

    # -- without it ------------------------------------------------------------------------------------

    def _tell(self, is_news: bool) -> None:
        if is_news and self._on_news is not None:
            self._on_news(self)

    def _hidden(self, lines: list[LogLine]) -> list[LogLine]:
        hide = self._hide
        return lines if hide is str else [replace(line, text=hide(line.text)) for line in lines]


def _now() -> str:
    return datetime.now(UTC).isoformat()
