"""Sends event streams from the ASGI application, after Django has answered, so that an open stream holds no thread.

Django keeps a thread for each request that a synchronous middleware has touched, until the whole answer is sent. A request for
events therefore goes through Django only until its answer begins. The view leaves its stream here and answers with an empty
body. Django finishes, its thread ends, and this module sends the same status and headers with the real events. So every
middleware of the project takes part, as for any other page.

The view also works without ``bus_application`` (check W009). It then answers with the events, and each one may hold a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from ..node import current
from .endings import begin

Application = Callable[[Any, Any, Any], Awaitable[None]]

_KEY = "arqonbus.listening"

#: What the paths of event streams have in them, below any prefix of a project.
_PATHS = ("/api/v1/channels/", "/api/v1/streams/")

#: Seconds after which a request in Django does not count any more, so that stuck ones do not keep others out for ever.
LONGEST = 10.0


def listens(scope: Any) -> bool:
    """Whether the request of ``scope`` may be one for an event stream of the bus. It may also be a page of the project."""
    path: str = scope["path"]
    return path.endswith("/events") and any(part in path for part in _PATHS)


def body_of(scope: Any, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The body of a view's answer with ``events``. It is empty where the ASGI application sends them later."""
    listening = scope.get(_KEY)
    return listening.leave(events) if isinstance(listening, _Listening) else events


async def serve(http: Application, scope: Any, receive: Any, send: Any) -> None:
    """Answer one request with ``http`` (Django's application), and then send the event stream that its view left, if any."""
    ending = begin(scope)
    try:
        if listens(scope):
            await _Listening(receive, send).run(http, scope)
        else:
            await http(scope, receive, send)
    finally:
        ending.come()


class _Listening:
    """One request for events, between the server and Django."""

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send
        self._events: AsyncGenerator[bytes] | None = None
        self._start: Any = None
        # Many listeners come back at once after a restart. Each one that Django works on may take a thread.
        self._opening = current().admission.opening
        self._inside: asyncio.TimerHandle | None = None
        self._begun = False
        self._gone = False

    async def run(self, http: Application, scope: Any) -> None:
        """Open the stream in Django, and send it."""
        scope[_KEY] = self
        try:
            await http(scope, self._receive_for_django, self._send_for_django)
        finally:
            self._out()
        if self._begun and self._events is not None and not self._gone:
            await self._stream(self._events)

    def leave(self, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Take over ``events``. Returns the empty body for the view's answer."""
        self._events = events
        return self._placeholder()

    async def _placeholder(self) -> AsyncGenerator[bytes]:
        # Django sends this very answer, and not one that a middleware made instead of it.
        self._begun = True
        empty: tuple[bytes, ...] = ()
        for chunk in empty:
            yield chunk

    async def _receive_for_django(self) -> Any:
        message = await self._receive()
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
            if self._events is not None:
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

    async def _stream(self, events: AsyncGenerator[bytes]) -> None:
        """Send the events until they end, or until the client is gone."""
        tasks = [asyncio.create_task(self._send_all(events)), asyncio.create_task(self._left())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _send_all(self, events: AsyncGenerator[bytes]) -> None:
        await self._send(self._start)
        async with aclosing(events) as chunks:
            async for chunk in chunks:
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
