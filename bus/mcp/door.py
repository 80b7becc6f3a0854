"""`POST /mcp`: a plain Django view without sessions, so any process may answer any request (docs/mcp.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..api.authentication import bearer_actor
from ..api.errors import bus_error, headers_of, noted
from ..api.permissions import check_caller
from ..api.throttling import spend, take
from ..api.waiting import Answer, response, wait_for
from ..auth.permissions import Actor
from ..conf.settings import config
from ..db.faults import without_transaction
from ..protocol.errors import BusError, ErrorCode
from ..protocol.limits import nesting_within
from ..protocol.numbers import as_text, out_of_range, unusual
from ..protocol.values import holds_text
from ..sockets.origin import origin_allowed
from ..version import VERSION
from . import deciding, metadata, people, protocol, questioning, reading, tools, working, writing
from .caller import Caller, Later, Result, caller_of
from .protocol import INITIALIZE, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, PARSE_ERROR, Refused, Request

logger = logging.getLogger("arqonbus.mcp")

JSON = "application/json"
SERVER = {"name": "arqonbus", "title": "ArqonBus", "version": VERSION}
#: Levels of JSON around the arguments of a tool.
ENVELOPE = 3

#: What each tool does.
RUN: dict[str, Callable[[Caller, Any], Result | Later]] = {
    "publish": writing.publish,
    "append": writing.append,
    "history": reading.read_history,
    "wait_for_message": reading.wait_for_message,
    "mark": reading.mark,
    "who_is_there": people.who_is_there,
    "set_status": people.set_status,
    "claim": working.claim,
    "renew": working.renew,
    "done": working.done,
    "release": working.release,
    "reject": working.reject,
    "ask": questioning.ask,
    "reply": questioning.reply,
    "request_decision": deciding.request_decision,
    "await_decision": deciding.await_decision,
    "consume_decision": deciding.consume_decision,
    "cancel_decision": deciding.cancel_decision,
    "list_decisions": deciding.list_decisions,
    "decide": deciding.decide,
}


@without_transaction
def door(request: HttpRequest) -> HttpResponseBase:
    """The view."""
    try:
        return _answered(request)
    except Refused as refused:
        return response(Answer(refused.status, refused.body()))
    except Exception as problem:  # noqa: BLE001 - every failure has its answer
        error = bus_error(problem)
        return noted(response(_refusal(request, error)), error, request)


door.csrf_exempt = True  # type: ignore[attr-defined] # it takes no cookies


def _answered(request: HttpRequest) -> HttpResponseBase:
    origin = request.headers.get("Origin")
    if origin is not None and not origin_allowed(origin, request.META.get("HTTP_HOST", "")):
        raise BusError(ErrorCode.ORIGIN_REFUSED)
    if request.method != "POST":
        raise BusError(ErrorCode.METHOD_NOT_ALLOWED, "The server has no stream of its own here. Send a POST.")
    if request.content_type != JSON:
        raise BusError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
    if not any(request.accepts(kind) for kind in (JSON, "text/event-stream")):
        raise BusError(ErrorCode.NOT_ACCEPTABLE)
    actor = bearer_actor(request)
    check_caller(request, actor)
    wait = take(actor)
    if wait:
        raise BusError(ErrorCode.RATE_LIMITED, retry_after=wait)
    body, number = _body(request, actor)
    if number is not None and not _in_arguments(body, number):
        raise Refused(400, PARSE_ERROR, f"{number[:40]} is out of range.")
    asked = protocol.read(body, request.headers)
    if asked is None:
        return HttpResponse(status=202)
    if asked.method == "tools/call":
        return _call(request, asked, actor, number)
    return response(Answer(200, _about(asked)))


def _body(request: HttpRequest, actor: Actor) -> tuple[Any, str | None]:
    """The JSON value of the body, and the first number in it that is out of range, which the value has as a text.

    Raises ``BusError`` FRAME_TOO_LARGE or RATE_LIMITED, and :class:`Refused`.
    """
    limit = config().batch_bytes
    data = request.read(limit + 1)
    if len(data) > limit:
        raise BusError(ErrorCode.FRAME_TOO_LARGE, f"The body is larger than the limit of {limit} bytes.")
    spend(actor, 0, len(data))
    if not nesting_within(data, config().frame_depth + ENVELOPE):
        raise Refused(400, PARSE_ERROR, "The body nests too deeply.")
    try:
        number = out_of_range(data) if unusual(data) else None
        if number is None:
            return msgspec.json.decode(data), None
        return msgspec.json.decode(as_text(data)), number.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise Refused(400, PARSE_ERROR, f"The body is not JSON: {str(problem)[:200]}") from None


def _in_arguments(body: Any, number: str) -> bool:
    """Whether a number is among the arguments of a tool. Then the call fails, and its error names the argument."""
    match body:
        case {"method": "tools/call", "params": {"arguments": dict(given)}}:
            return holds_text(given, number)
    return False


def _about(asked: Request) -> bytes:
    """The answer to a question about the server. Raises :class:`Refused`."""
    capabilities: dict[str, Any] = {"tools": {}}
    match (asked.method, asked.stateless):
        case ("server/discover", True):
            about = {
                "supportedVersions": list(protocol.VERSIONS),
                "capabilities": capabilities,
                "instructions": tools.INSTRUCTIONS,
            }
            return asked.result(about, SERVER, kept=True)
        case (str(method), False) if method == INITIALIZE:
            # The client sends the version that it likes best. This is the only one of the handshake that is served.
            about = {
                "protocolVersion": protocol.HANDSHAKE,
                "capabilities": capabilities,
                "serverInfo": SERVER,
                "instructions": tools.INSTRUCTIONS,
            }
            return asked.result(about, SERVER)
        case ("ping", False):
            return asked.result({}, SERVER)
        case ("tools/list", _):
            if asked.params.get("cursor") is not None:
                raise asked.refused(INVALID_PARAMS, "There is only one page of tools, so there is no cursor.")
            return asked.result({"tools": tools.listed()}, SERVER, kept=True)
    raise asked.refused(METHOD_NOT_FOUND, "Method not found", status=404)


def _call(request: HttpRequest, asked: Request, actor: Actor, number: str | None) -> HttpResponseBase:
    """Call a tool. Its errors are results, so that a model can read them. ``number`` in the arguments is out of range.

    Raises :class:`Refused` for an unknown tool.
    """
    name = asked.params.get("name")
    tool = tools.TOOLS.get(name) if isinstance(name, str) else None
    if tool is None or not tool.stateless:
        raise asked.refused(INVALID_PARAMS, f"Unknown tool: {str(name)[:64]}")

    def told(result: Result) -> Answer:
        return Answer(200, asked.result(_content(result), SERVER))

    def failed(error: BusError) -> Answer:
        return _failed(request, asked, error)

    try:
        given = tool.read(asked.params.get("arguments"), number)
        spend(actor, tool.cost - 1)
        caller = caller_of(request, actor, _trace(asked), acts=not tool.reads)
        result = RUN[tool.name](caller, given)
        if not isinstance(result, Later):
            return response(told(result))
        later = result
        return wait_for(
            request,
            caller.actor,
            later.seconds,
            look=lambda: None if (found := later.look()) is None else told(found),
            wait=later.wait_with(told),
            nothing=lambda: told(later.nothing()),
            # A process that stops has found nothing. The next call reaches another one.
            refuse=lambda error: told(later.nothing()) if error.code == ErrorCode.RESTARTING else failed(error),
        )
    except Exception as problem:  # noqa: BLE001 - every failure has its answer
        error = bus_error(problem)
        return noted(response(failed(error)), error, request)


def _content(result: Result, **more: Any) -> dict[str, Any]:
    """The content of a tool's result: the JSON, and the same as a text for older clients."""
    text = msgspec.json.encode(result, enc_hook=str).decode()
    return {"content": [{"type": "text", "text": text}], "structuredContent": result, "isError": False, **more}


def _failed(request: HttpRequest, asked: Request, error: BusError) -> Answer:
    """The answer to a call that failed."""
    if error.number in (401, 429, 503) and error.code not in (ErrorCode.LIMIT_REACHED, ErrorCode.OUTCOME_UNKNOWN):
        # Clients and balancers know these, and wait or try another process.
        return _refusal(request, error, asked)
    told = error.as_dict()
    text = f"{error.code}: {error.message}"
    if error.details:
        text += f" {msgspec.json.encode(error.details, enc_hook=str).decode()}"
    failed = _content({"error": told}, isError=True)
    failed["content"] = [{"type": "text", "text": text}]
    return Answer(200, asked.result(failed, SERVER))


def _refusal(request: HttpRequest, error: BusError, asked: Request | None = None) -> Answer:
    """The answer to a request that gets no result. The error of the bus is in its data."""
    headers = headers_of(error)
    if error.number == 401:
        headers |= metadata.challenge(request)
    if error.code == ErrorCode.METHOD_NOT_ALLOWED:
        headers["Allow"] = "POST"
    # The numbers of the bus lie outside of those that JSON-RPC and MCP reserve.
    code = INTERNAL_ERROR if error.code == ErrorCode.INTERNAL_ERROR else error.number
    refused = Refused(
        error.number,
        code,
        f"{error.code}: {error.message}",
        data=error.as_dict(),
        id=asked.id if asked is not None else None,
    )
    return Answer(error.number, refused.body(), headers)


def _trace(asked: Request) -> dict[str, str]:
    """The trace context that a request names."""
    keys = ("traceparent", "tracestate")
    return {key: value for key in keys if isinstance(value := asked.meta.get(key), str)}
