"""Answers to requests that wait: `?wait=` of REST, and the waiting tools of MCP. A wait holds no thread and no database row.

The view looks once. If there is nothing yet, the ASGI application waits after Django has ended, and sends the answer when it
is there (:mod:`bus.api.listening`). A request that waits is a guest of the process: it counts as a connection, ends when the
right of its caller ends, and ends with RESTARTING when the process drains. A wait is cancelled when its client is gone.

On other servers, and without ``bus_application``, the view's own thread looks again and again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from ..auth.permissions import Actor
from ..node import Node, current
from ..protocol.errors import BusError, ErrorCode
from .errors import bus_error, headers_of, noted
from .guests import Guest
from .listening import leave

KIND = "waits"
JSON = "application/json"

#: The longest wait, in seconds. Clients and proxies give up on much longer ones.
LONGEST = 25.0
#: Seconds after which the server ends a wait that did not end by itself.
OVERDUE = 10.0
#: Seconds between two looks where a thread waits.
PAUSE = 0.5

_PLAIN = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")

Found = TypeVar("Found")


class Answer(msgspec.Struct, frozen=True):
    """An answer: its status, its body, and headers beyond those that every answer has."""

    status: int
    body: bytes
    headers: dict[str, str] = {}


def answer(data: Any, status: int = 200) -> Answer:
    """The answer with the JSON of ``data``, which may have frames as ``msgspec.Raw``."""
    return Answer(status, msgspec.json.encode(data, enc_hook=str))


def refusal(error: BusError) -> Answer:
    """The answer with an error, in the form of REST."""
    return Answer(error.number, msgspec.json.encode({"error": error.as_dict()}), headers_of(error))


#: Looks for the answer once, in a thread with a database connection. None means that there is nothing yet.
Look = Callable[[], Answer | None]
#: Waits in the event loop for at most some seconds. It ends with None when nothing came. It may be cancelled at each ``await``.
Wait = Callable[["Waiter", float], Awaitable[Answer | None]]
#: Turns an error into the answer. The default is the form of REST.
Refuse = Callable[[BusError], Answer]


class Waiter(Guest):
    """A request that waits. A wait may use its ``node``, its ``client`` and its ``writer``."""

    def __init__(self, node: Node, actor: Actor, scope: dict[str, Any]) -> None:
        super().__init__(node, actor, scope, KIND)
        self._ended: asyncio.Future[BusError] = asyncio.get_running_loop().create_future()

    def close(self, code: int, error: BusError | None) -> None:
        """End the wait with ``error``, as when the caller's right ends or when the process drains."""
        if not self._ended.done():
            self.client.close_code = code
            self._ended.set_result(error or BusError(ErrorCode.RESTARTING, retry_after=1.0))

    def left(self) -> None:
        """End all memberships."""
        for channel_id in list(self.client.memberships):
            self.no_member(channel_id)

    async def run(self, wait: Wait, seconds: float) -> Answer | None:
        """The answer that ``wait`` finds, or None. Raises ``BusError``: its own, or the reason why the wait ends early."""
        if self.node.traffic.draining:
            raise BusError(ErrorCode.RESTARTING, retry_after=1.0)
        self.enter()
        task = asyncio.ensure_future(wait(self, seconds))
        ends: set[asyncio.Future[Any]] = {task, self._ended}
        try:
            await asyncio.wait(ends, timeout=seconds + OVERDUE, return_when=asyncio.FIRST_COMPLETED)
            # What was found counts, also where the wait was to end in the same moment.
            if task.done():
                self.client.close_code = 1000
                return task.result()
            if self._ended.done():
                raise self._ended.result()
            return None
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.leave()


def seconds_of(text: str | None) -> float:
    """The seconds of a ``wait`` in a query; 0 without one. Raises ``BusError`` VALIDATION_ERROR."""
    if not text:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST or not _PLAIN.fullmatch(text):
        problem = f"`wait` must be a number of seconds from 0 to {LONGEST:g}."
        raise BusError(ErrorCode.VALIDATION_ERROR, problem, [{"field": "wait", "message": problem}])
    return seconds


def wait_for(
    request: HttpRequest,
    actor: Actor,
    seconds: float,
    *,
    look: Look,
    wait: Wait,
    nothing: Callable[[], Answer],
    refuse: Refuse = refusal,
) -> HttpResponseBase:
    """The response of a view that may wait for ``seconds``. The view may be synchronous.

    ``look`` is called at once. If it finds nothing and there are seconds to wait, ``wait`` goes on in the event loop. The
    answer is ``nothing()`` when neither finds one. Errors of ``look`` are raised here, and those of ``wait`` go to ``refuse``.
    """
    found = look()
    if found is not None:
        return response(found)
    if seconds <= 0:
        return response(nothing())
    scope = getattr(request, "scope", None)

    async def rest(start: Any, send: Any) -> None:
        try:
            made = await _waited(scope, actor, seconds, wait)
            late = nothing() if made is None else made
        except Exception as problem:  # noqa: BLE001 - every failure has its answer
            error = bus_error(problem)
            late = refuse(error)
            noted(HttpResponse(), error, request)
        await _send(late, start, send)

    body = leave(scope, rest) if scope is not None else None
    if body is not None:
        return _placeholder(body)
    return response(poll(look, seconds) or nothing())


async def _waited(scope: Any, actor: Actor, seconds: float, wait: Wait) -> Answer | None:
    node = current()
    await node.start()
    return await Waiter(node, actor, scope).run(wait, seconds)


def _placeholder(body: AsyncGenerator[bytes]) -> StreamingHttpResponse:
    # GZipMiddleware leaves an answer with a Content-Encoding alone. The body is not known yet.
    headers = {"Cache-Control": "no-store, no-transform", "Content-Encoding": "identity"}
    return StreamingHttpResponse(body, content_type=JSON, headers=headers)


async def _send(late: Answer, start: Any, send: Any) -> None:
    """Send the answer under the head of Django's."""
    own = {name.lower().encode(): value.encode("latin-1") for name, value in late.headers.items()}
    own[b"content-length"] = str(len(late.body)).encode()
    headers = [(name, value) for name, value in start["headers"] if name.lower() not in own]
    await send({**start, "status": late.status, "headers": [*headers, *own.items()]})
    await send({"type": "http.response.body", "body": late.body})


def response(found: Answer) -> HttpResponse:
    """Django's response with an answer."""
    headers = {"Cache-Control": "no-store", **found.headers}
    return HttpResponse(found.body, status=found.status, content_type=JSON, headers=headers)


def poll(look: Callable[[], Found | None], seconds: float) -> Found | None:
    """Look again and again in this thread, until something is found or the ``seconds`` are over."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(PAUSE, left))
        found = look()
        if found is not None:
            return found
    return None
