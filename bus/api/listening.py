"""Sends event streams and late answers from the ASGI application, after Django has ended, so that they hold no thread.

Django keeps a thread for each request that a synchronous middleware has touched, until the whole answer is sent. A request for
events, or one that waits for something, therefore goes through Django only until its answer begins. The view leaves the rest
here and answers with an empty body. Django finishes, its thread ends, and this module sends the rest: the events, or the
answer once it is there. It has the headers of Django's answer. So every middleware of the project takes part, as for any
other page.

The views also work without ``bus_application`` (check W009). Each open answer may then hold a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from ..node import current
from .endings import begin

Application = Callable[[Any, Any, Any], Awaitable[None]]

#: Sends the rest of an answer: it gets the ``http.response.start`` of Django's answer, and the server's ``send``.
Rest = Callable[[Any, Any], Awaitable[None]]

_KEY = "arqonbus.listening"

#: What the paths of event streams have in them, below any prefix of a project.
_PATHS = ("/api/v1/channels/", "/api/v1/streams/", "/live/")
#: What the paths of REST have in them. A request that waits there has ``wait`` in its query.
_API = "/api/v1/"

#: Seconds after which a request in Django does not count any more, so that stuck ones do not keep others out for ever.
LONGEST = 10.0


def listens(scope: Any) -> bool:
    """Whether the request of ``scope`` may be one whose answer goes on after Django. It may also be a page of the project."""
    path: str = scope["path"]
    if path.endswith("/events"):
        return any(part in path for part in _PATHS)
    return path.endswith(("/mcp", "/mcp/")) or (b"wait=" in scope.get("query_string", b"") and _API in path)


def body_of(scope: Any, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The body of a view's answer with ``events``. It is empty where the ASGI application sends them later."""

    async def send_all(start: Any, send: Any) -> None:
        await send(start)
        del start  # Its headers would stay in memory as long as the answer.
        async with aclosing(events) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return leave(scope, send_all) or events


def leave(scope: Any, rest: Rest) -> AsyncGenerator[bytes] | None:
    """Leave the ``rest`` of an answer to the ASGI application. It is cancelled when the client is gone.

    Returns the empty body for the view's answer. None means that nobody will send the rest, as without ``bus_application``.
    """
    listening = scope.get(_KEY)
    return listening.leave(rest) if isinstance(listening, _Listening) else None


async def serve(http: Application, scope: Any, receive: Any, send: Any) -> None:
    """Answer one request with ``http`` (Django's application), and then send the rest that its view left, if any."""
    ending = begin(scope)
    try:
        if listens(scope):
            await _Listening(receive, send).run(http, scope)
        else:
            await http(scope, receive, send)
    finally:
        ending.come()


class _Listening:
    """One request whose answer may go on after Django, between the server and Django."""

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send
        # Django has a task of its own, and what stays after it has this context. Django's holds the objects of its thread.
        self._context = contextvars.copy_context()
        self._receiving: asyncio.Future[Any] | None = None
        self._rest: Rest | None = None
        self._start: Any = None
        # Many clients come back at once after a restart. Each one that Django works on may take a thread.
        self._opening = current().admission.opening
        self._inside: asyncio.TimerHandle | None = None
        self._begun = False
        self._gone = False

    async def run(self, http: Application, scope: Any) -> None:
        """Let Django begin the answer, and send its rest."""
        scope[_KEY] = self
        try:
            try:
                await asyncio.create_task(self._begin(http, scope))
            finally:
                self._out()
            if self._begun and self._rest is not None and not self._gone:
                await self._finish(self._rest)
        finally:
            if self._receiving is not None:
                self._receiving.cancel()
                await asyncio.gather(self._receiving, return_exceptions=True)

    async def _begin(self, http: Application, scope: Any) -> None:
        await http(scope, self._receive_for_django, self._send_for_django)

    def leave(self, rest: Rest) -> AsyncGenerator[bytes]:
        """Take over the ``rest``. Returns the empty body for the view's answer."""
        self._rest = rest
        return self._placeholder()

    async def _placeholder(self) -> AsyncGenerator[bytes]:
        # Django sends this very answer, and not one that a middleware made instead of it.
        self._begun = True
        empty: tuple[bytes, ...] = ()
        for chunk in empty:
            yield chunk

    async def _next(self) -> Any:
        """The next message of the server. A cancelled caller leaves it to the next one.

        Django cancels its listener when its answer is complete. Some servers take a cancelled ``receive`` for the end of the
        connection, such as gunicorn.
        """
        if self._receiving is None:
            self._receiving = asyncio.get_running_loop().create_task(self._receive(), context=self._context)
        message = await asyncio.shield(self._receiving)
        self._receiving = None
        return message

    async def _receive_for_django(self) -> Any:
        message = await self._next()
        if message["type"] == "http.disconnect":
            self._gone = True
        elif not message.get("more_body", False) and self._inside is None:
            # The body is here, so nobody can hold a place by sending slowly.
            await self._opening.acquire()
            self._inside = asyncio.get_running_loop().call_later(LONGEST, self._out)
        return message

    async def _send_for_django(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._out()
            if self._rest is not None:
                # The next message shows whose body it is.
                self._start = message
                return
        elif self._begun:
            return
        elif self._start is not None:
            start, self._start = self._start, None
            await self._send(start)
        await self._send(message)

    def _out(self) -> None:
        if self._inside is not None:
            self._inside.cancel()
            self._inside = None
            self._opening.release()

    async def _finish(self, rest: Rest) -> None:
        """Send the rest until it ends, or until the client is gone."""
        start, self._start = self._start, None
        tasks = [asyncio.ensure_future(rest(start, self._send)), asyncio.create_task(self._left())]
        del start
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _left(self) -> None:
        while (await self._next())["type"] != "http.disconnect":
            pass
