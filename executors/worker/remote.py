"""A worker without database and broker: the gateway of a turn over the REST API, with a token.

Knows the worker protocol from the client's side; what a job does is its kind's business.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import requests

from executions.api import LogLine, Report
from executors.contract import Credential
from executors.errors import CredentialNotFound, CredentialOutOfScope, NotAuthenticated
from executors.worker.gateway import GatewayUnavailable
from executors.worker.wire import ActionUnreadable, read_job
from queueing.api import Fence, HeldLease, Judgement, LeasedJob, Take

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 5.0
REPLY_SECONDS: Final = 30.0
CREDENTIAL_REFUSED: Final = (401, 403)
LEASE_LOST: Final = 409
TOO_LARGE: Final = 413
MAY_PASS: Final = (401, 403, 408, 429)
"""What may be answered otherwise when it is asked again."""


class Refused(Exception):
    """The server answered with a problem: its status and document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{status} {problem.get('code', '')}: {problem.get('detail', '')}")


class Server:
    """The API of one server, for one token. Each thread has a session of its own."""

    def __init__(self, url: str, token: str) -> None:
        """`url` with or without `/api` at its end."""
        self._base = f"{url.rstrip('/').removesuffix('/api')}/api"
        self._token = token
        self._local = threading.local()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply of a POST. Raises: `Refused` for a 4xx, `GatewayUnavailable` for anything that may pass."""
        try:
            reply = self._session().post(
                f"{self._base}/{path}", json=dict(body), timeout=(CONNECT_SECONDS, REPLY_SECONDS), allow_redirects=False
            )
            answer = reply.json()
        except (requests.RequestException, ValueError) as error:
            raise GatewayUnavailable(f"{self._base}: {error}") from error
        if not isinstance(answer, dict) or reply.status_code >= 500 or reply.is_redirect:
            raise GatewayUnavailable(f"{self._base}/{path} answered {reply.status_code}")
        if not reply.ok:
            raise Refused(reply.status_code, answer)
        return answer

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # Nothing of this machine's proxies and netrc: the address and the token are all there is.
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {self._token}"
            self._local.session = session
        return session


class RestGateway:
    """What a turn needs of the world, over HTTP."""

    def __init__(self, server: Server, worker_id: str) -> None:
        self._server = server
        self._worker_id = worker_id

    def lease(self, worker_id: str, pools: Sequence[str], count: int, lease_seconds: float) -> list[LeasedJob]:
        """Lease one job, whatever the `count`. Raises: `NotAuthenticated`, `GatewayUnavailable`."""
        asked = {"worker_id": worker_id, "lease_seconds": lease_seconds, "pools": list(pools)}
        try:
            answer = self._server.post("queue/lease", asked)
        except Refused as refused:
            if refused.status in CREDENTIAL_REFUSED:
                raise NotAuthenticated(str(refused)) from None
            raise GatewayUnavailable(str(refused)) from None
        if answer.get("status") != "ok":
            return []
        try:
            return [read_job(answer["job"])]
        except (ActionUnreadable, KeyError, ValueError) as error:
            raise GatewayUnavailable(f"the server gave a job that cannot be read: {error!r}") from None

    def extend(self, fences: Sequence[Fence], lease_seconds: float) -> list[HeldLease]:
        """Extend leases; a lost one is missing from the answer."""
        held = []
        for fence in fences:
            try:
                answer = self._about(fence, "heartbeat", {"extend_seconds": lease_seconds})
            except Refused as refused:
                logger.warning("job %s: %s", fence.job_id, refused)
                continue
            lease_until = datetime.fromisoformat(answer["lease_until"])
            held.append(HeldLease(fence.job_id, lease_until, bool(answer["cancel_requested"])))
        return held

    def release(self, fences: Sequence[Fence]) -> None:
        """Give jobs back uncounted."""
        for fence in fences:
            try:
                self._about(fence, "release", {})
            except Refused as refused:
                logger.warning("job %s could not be given back: %s", fence.job_id, refused)

    def append_log(self, fence: Fence, lines: Sequence[LogLine]) -> None:
        """Keep what a running action has logged; of a lease that is lost nothing is kept."""
        try:
            self._about(fence, "log", {"log": [_told(line) for line in lines]})
        except Refused as refused:
            logger.warning("what job %s has logged is not kept: %s", fence.job_id, refused)

    def report(
        self, execution_id: int, reports: Sequence[Report], take: Take | None, *, evaluate_later: bool = False
    ) -> tuple[list[Judgement], list[LeasedJob]]:
        """Hand in results, one by one; when they are evaluated is the server's business."""
        return [self._report(report) for report in reports], []

    def _report(self, report: Report) -> Judgement:
        body = {"result": report.data, "duration": report.duration_seconds}
        if report.log:
            body["log"] = [_told(line) for line in report.log]
        if report.status == "error":
            body |= {"error": report.error, "traceback": report.traceback, "retry": False}
        try:
            answer = self._about(report.fence, "complete" if report.status == "success" else "fail", body)
        except Refused as refused:
            if refused.status == LEASE_LOST:
                return "lease_lost"
            if refused.status in MAY_PASS or not (report.data or report.traceback):
                raise GatewayUnavailable(str(refused)) from None
            return self._report(_without_data(report, refused))
        return "already_accepted" if answer.get("judgement") == "already_accepted" else "accepted"

    def credential(self, job: LeasedJob, name: str) -> Credential:
        """A credential that the leased job's action names.

        Raises: `CredentialNotFound`, `CredentialOutOfScope`, `GatewayUnavailable`.
        """
        try:
            answer = self._about(job.fence, "secrets", {})
        except Refused as refused:
            if refused.problem.get("code") == CredentialOutOfScope.code:
                raise CredentialOutOfScope(name) from None
            raise CredentialNotFound(name) from None
        found = answer["credentials"].get(name)
        if found is None:
            raise CredentialNotFound(name)
        return Credential(name, found["type"], found["data"])

    def _about(self, fence: Fence, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        claim = {"worker_id": self._worker_id, "lease_token": fence.lease_token}
        return self._server.post(f"queue/{fence.job_id}/{verb}", {**claim, **body})


def _told(line: LogLine) -> dict[str, str]:
    return {"timestamp": line.at, "stream": line.stream, "level": line.level, "text": line.text}


def _without_data(report: Report, refused: Refused) -> Report:
    """What the server takes of a report that it refuses: a failure that says why, so that it is not tried for ever."""
    code = "output_too_large" if refused.status == TOO_LARGE else "output_invalid"
    error = {"code": code, "message": str(refused)}
    return Report(report.fence, "error", error=error, duration_seconds=report.duration_seconds, log=report.log)
