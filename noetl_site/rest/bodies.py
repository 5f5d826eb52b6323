"""What is done about a request's body that no view has read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse

from noetl_site.errors import API, problem

CHUNK_BYTES: Final = 65_536
MOST_BYTES: Final = 32 * 1024 * 1024


class ReadTheRest:
    """Reads what a view has left of a body before the answer goes out.

    A server closes a connection with unread bytes in it, and the client then sees a reset in the place of the answer:
    of a refusal, mostly. A body without a length cannot be bounded before it is read, so the API refuses it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, with the body out of its way."""
        if "HTTP_TRANSFER_ENCODING" in request.META and request.path.startswith(API):
            answer = problem(411, "length_required", "send the body with its Content-Length")
            answer["Connection"] = "close"
            return answer
        answer = self._get_response(request)
        if request.META.get("CONTENT_LENGTH"):
            self._drain(request)
        return answer

    def _drain(self, request: HttpRequest) -> None:
        left = MOST_BYTES
        try:
            while left > 0 and (chunk := request.read(CHUNK_BYTES)):
                left -= len(chunk)
        except OSError:
            # The client has gone; nobody waits for the answer.
            return
