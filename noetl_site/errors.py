"""Errors as HTTP replies: RFC 9457 problem documents. The only place where an error meets a status number."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler, set_rollback

from catalog.errors import CatalogError, PlaybookInvalid
from executions.errors import ExecutionError, TooBusy
from executors.errors import ExecutorError
from queueing.errors import QueueError

PROBLEM: Final = "application/problem+json"
STATUS: Final = {
    "playbook_not_found": 404,
    "execution_not_found": 404,
    "event_not_found": 404,
    "job_not_found": 404,
    "credential_not_found": 404,
    "credential_invalid": 422,
    "credential_out_of_scope": 403,
    "credential_data_is_write_only": 403,
    "playbook_invalid": 422,
    "workload_invalid": 422,
    "template_error": 422,
    "node_reserved": 422,
    "start_conflict": 409,
    "execution_ended": 409,
    "event_id_taken": 409,
    "outcome_recorded": 409,
    "not_pausable": 409,
    "approval_closed": 409,
    "not_approver": 403,
    "lease_lost": 409,
    "too_busy": 429,
    "events_too_new": 503,
    "component_taken": 409,
}
"""By the stable code of an app's error; every other one is 500."""
API: Final = "/api/"


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """The problem document for an error in a view; None for a surprise, which Django reports."""
    if isinstance(error, CatalogError | ExecutionError | ExecutorError | QueueError):
        set_rollback()
        answer = _problem(STATUS.get(error.code, 500), error.code, str(error), _problems_of(error))
        if isinstance(error, TooBusy):
            answer["Retry-After"] = str(error.retry_after_seconds)
        return answer
    if isinstance(error, OperationalError | InterfaceError):
        set_rollback()
        answer = _problem(503, "database_unreachable", "the database cannot be reached now; try again", [])
        answer["Retry-After"] = "1"
        return answer
    if isinstance(error, DataError):
        # The last net: what no field has refused, and no column can hold.
        set_rollback()
        return _problem(400, "invalid", "the request holds a value that cannot be stored", [])
    response = exception_handler(error, context)
    if response is None:
        return None
    code = error.default_code if isinstance(error, APIException) else "http_error"
    errors = _invalid_fields(error.detail) if isinstance(error, ValidationError) else []
    detail = "the request is not valid" if errors else _text(response.data)
    answer = _problem(response.status_code, str(code), detail, errors)
    for name, value in response.items():
        if name.lower() not in {"content-type", "content-length"}:
            answer[name] = value
    return answer


def _document(status: int, code: str, detail: str, errors: list[dict[str, Any]]) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    document: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "code": code}
    document["detail"] = _sendable(detail)
    return {**document, "errors": errors} if errors else document


def _sendable(text: str) -> str:
    """The text without half surrogates, which a message may quote from the request."""
    return text.encode("utf-8", "replace").decode()


def _problem(status: int, code: str, detail: str, errors: list[dict[str, Any]]) -> Response:
    return Response(_document(status, code, detail, errors), status=status, content_type=PROBLEM)


def _problems_of(error: Exception) -> list[dict[str, Any]]:
    if not isinstance(error, PlaybookInvalid):
        return []
    return [
        {"pointer": p.pointer, "code": p.code, "detail": p.message, "line": p.line, "column": p.column}
        for p in error.problems
    ]


def _invalid_fields(detail: Any, pointer: str = "") -> list[dict[str, Any]]:
    if isinstance(detail, dict):
        return [error for key, value in detail.items() for error in _invalid_fields(value, f"{pointer}/{key}")]
    if isinstance(detail, list):
        return [error for value in detail for error in _invalid_fields(value, pointer)]
    code = detail.code if isinstance(detail, ErrorDetail) else "invalid"
    return [{"pointer": pointer.removesuffix("/non_field_errors"), "code": code, "detail": _sendable(str(detail))}]


def _text(data: Any) -> str:
    return str(data["detail"]) if isinstance(data, dict) and "detail" in data else str(data)


# What goes wrong before or beside a view: below /api/ it is a problem document as well, elsewhere Django's page.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400."""
    return _answer(request, 400, "bad_request") or defaults.bad_request(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403."""
    return _answer(request, 403, "permission_denied") or defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404."""
    return _answer(request, 404, "not_found") or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500."""
    return _answer(request, 500, "server_error") or defaults.server_error(request)


def _answer(request: HttpRequest, status: int, code: str) -> HttpResponse | None:
    if not request.path.startswith(API):
        return None
    return problem(status, code, HTTPStatus(status).description or HTTPStatus(status).phrase)


def problem(status: int, code: str, detail: str) -> HttpResponse:
    """A problem document outside of a view."""
    return JsonResponse(_document(status, code, detail, []), status=status, content_type=PROBLEM)
