"""Sends what long jobs log while they run; what short ones log goes with their report.

Best effort: what cannot be sent now is sent later, or with the report. A job that logs nothing costs nothing here.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Final

from django.db import connection

from executions.api import LogLine
from executors.logs import MOST_BYTES, JobLog
from executors.worker.gateway import Gateway, GatewayUnavailable
from queueing.api import Fence

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.5
WAIT_SECONDS: Final = 0.75
"""How long a line waits for the report of its job before it is sent by itself."""


class LogSender:
    """The logs of the jobs of one worker process. Its thread starts with the first job that logs something."""

    def __init__(self, gateway: Gateway, most_bytes: int = MOST_BYTES) -> None:
        self._gateway = gateway
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._logs: dict[JobLog, Fence] = {}
        self._thread: threading.Thread | None = None

    def open(self, fence: Fence) -> JobLog:
        """The log of a job that begins under this lease."""
        return JobLog(self._most_bytes, partial(self._look_after, fence))

    def close(self, log: JobLog) -> list[LogLine]:
        """The lines that are left of a job that is over, for its report. What is being sent is waited for."""
        with self._changed:
            self._logs.pop(log, None)
        with log.sending:
            return log.take()

    def _look_after(self, fence: Fence, log: JobLog) -> None:
        with self._changed:
            was_idle = not self._logs
            self._logs[log] = fence
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._send_for_ever, name="log-sender", daemon=True)
                self._thread.start()
            if was_idle:
                self._changed.notify()

    def _send_for_ever(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                while not self._logs:
                    self._changed.wait()
            pause.wait(TICK_SECONDS)
            with self._changed:
                logs = [
                    (log, fence) for log, fence in self._logs.items() if time.monotonic() - log.since >= WAIT_SECONDS
                ]
            for log, fence in logs:
                self._send(log, fence)
            if logs:
                # A connection of this thread's own; it may not be needed again for long.
                connection.close()

    def _send(self, log: JobLog, fence: Fence) -> None:
        with log.sending:
            lines = log.take()
            if not lines:
                return
            try:
                self._gateway.append_log(fence, lines)
            except GatewayUnavailable as error:
                logger.warning("%s lines of job %s wait: %s", len(lines), fence.job_id, error)
                log.put_back(lines)
