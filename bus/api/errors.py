"""Every failure of the REST API in the socket's form (docs/rest.md, Errors): ``{"error": {code, number, message, details}}``."""

from __future__ import annotations

import logging
import math
from typing import Any, TypeVar

import msgspec
from django.apps import apps
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response

from ..db import faults as database
from ..monitoring import metrics
from ..monitoring.failures import reported
from ..monitoring.log_lines import Damper, tame
from ..node.threads import store_error
from ..protocol.errors import BusError, ErrorCode
from ..sockets.origin import request_address

logger = logging.getLogger("arqonbus.rest")

#: The exceptions of DRF and Django, each with the error code of the bus.
_CODES: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (exceptions.ParseError, ErrorCode.INVALID_JSON),
    (exceptions.NotAuthenticated, ErrorCode.UNAUTHENTICATED),
    (exceptions.AuthenticationFailed, ErrorCode.UNAUTHENTICATED),
    (exceptions.PermissionDenied, ErrorCode.FORBIDDEN),
    (PermissionDenied, ErrorCode.FORBIDDEN),
    (exceptions.NotFound, ErrorCode.NOT_FOUND),
    (Http404, ErrorCode.NOT_FOUND),
    (exceptions.MethodNotAllowed, ErrorCode.METHOD_NOT_ALLOWED),
    (exceptions.NotAcceptable, ErrorCode.NOT_ACCEPTABLE),
    (exceptions.UnsupportedMediaType, ErrorCode.UNSUPPORTED_MEDIA_TYPE),
    (RequestDataTooBig, ErrorCode.FRAME_TOO_LARGE),
    # Django raises this for requests that no honest client sends, such as one with a thousand parameters.
    (SuspiciousOperation, ErrorCode.VALIDATION_ERROR),
)


def bus_error(problem: Exception) -> BusError:
    """The error for the client. An unexpected exception is logged with a reference, which the client gets too."""
    if isinstance(problem, BusError):
        return problem
    if isinstance(problem, exceptions.ValidationError):
        details = flattened(problem.detail)
        return BusError(ErrorCode.VALIDATION_ERROR, details[0]["message"] if len(details) == 1 else None, details)
    if isinstance(problem, exceptions.Throttled):
        return BusError(ErrorCode.RATE_LIMITED, retry_after=getattr(problem, "wait", None))
    for kind, code in _CODES:
        if isinstance(problem, kind):
            # DRF's sentence says more than the table's: it names the method, or why CSRF failed.
            told = code in (ErrorCode.METHOD_NOT_ALLOWED, ErrorCode.FORBIDDEN) and isinstance(
                problem, exceptions.APIException
            )
            return BusError(code, str(problem) if told else None)
    if isinstance(problem, DatabaseError):
        if database.of_no_use(problem):
            database.give_back(problem)
        refusal = store_error(problem)
        if refusal.code == ErrorCode.UNAVAILABLE:
            logger.error("%s", database.in_words(problem), extra={"event": "store_lost"})
        return refusal
    return reported(logger, "request failed", problem=problem, event="internal_error")


def flattened(detail: Any, path: str = "") -> list[dict[str, str]]:
    """DRF's nested faults as a list of ``{field, message}``."""
    if isinstance(detail, dict):
        return [
            fault
            for key, value in detail.items()
            for fault in flattened(value, path if key == "non_field_errors" else f"{path}.{key}" if path else str(key))
        ]
    if isinstance(detail, list):
        faults = []
        for index, value in enumerate(detail):
            nested = isinstance(value, (dict, list))
            faults += flattened(value, f"{path}[{index}]" if nested else path)
        return faults
    return [{"field": path, "message": str(detail)}]


def headers_of(error: BusError) -> dict[str, str]:
    """The HTTP headers of an error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.number == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="arqonbus"'
    return headers


def exception_handler(problem: Exception, context: dict[str, Any]) -> Response:
    """The answer to an exception of a view. DRF calls this."""
    error = bus_error(problem)
    headers = headers_of(error)
    view = context.get("view")
    if error.code == ErrorCode.METHOD_NOT_ALLOWED and view is not None:
        headers["Allow"] = ", ".join(view.allowed_methods)
    request = context.get("request")
    answer = Response({"error": error.as_dict()}, status=error.number, headers=headers)
    return noted(answer, error, request._request if request is not None else None)


def plain_answer(error: BusError, request: HttpRequest, **headers: str) -> HttpResponse:
    """The answer with ``error``, from a view outside of DRF. ``headers`` are added to it."""
    answer = HttpResponse(
        msgspec.json.encode({"error": error.as_dict()}),
        status=error.number,
        content_type="application/json",
        headers={**headers_of(error), **headers},
    )
    return noted(answer, error, request)


Answer = TypeVar("Answer", bound=HttpResponse)


def noted(answer: Answer, error: BusError, request: HttpRequest | None) -> Answer:
    """Count and log a refusal. This replaces Django's warning for every 404."""
    metrics.errors.labels(error.code).inc()
    damper: Damper = apps.get_app_config("bus").http_refusals  # type: ignore[attr-defined]
    left_out = damper.admit()
    if left_out is not None:
        extra = {"event": "refused", "error": error.code, "reason": error.reason, "left_out": left_out}
        asked = "a request"
        if request is not None:
            asked = f"{request.method} {request.path[:200]} of {request_address(request)}"
            extra |= {"method": request.method, "path": request.path[:200]}
            extra |= {"peer": request_address(request), "origin": request.headers.get("Origin", "")[:200] or None}
        logger.info("refused %s: %s", tame(asked), error.code, extra=extra)
    answer._has_been_logged = True  # type: ignore[attr-defined] # what Django's own handler looks at
    return answer


def nothing_here(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """The answer for an unknown address below /api/."""
    return plain_answer(
        BusError(ErrorCode.NOT_FOUND, "There is nothing at this address. /api/docs/ lists all addresses."), request
    )


nothing_here.csrf_exempt = True  # type: ignore[attr-defined] # it does nothing
