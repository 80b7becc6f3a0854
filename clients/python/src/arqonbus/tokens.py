"""The token of a connection: a text, or the result of a function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from .daemon import in_daemon
from .errors import ConnectionFailed

#: An access token or JWT, or a function that returns one for each connection.
Token = str | Callable[[], str | Awaitable[str | None] | None] | None

#: The maximum number of hanging threads with blocking functions in this process.
MOST_HANGING = 10
_hanging = 0


async def fresh(token: Token, seconds: float) -> str | None:
    """Return the token for one connection, in at most so many seconds.

    Raises ``ConnectionFailed`` if the function fails or does not return. The next attempt calls it again.
    """
    if not callable(token):
        return token
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            # A plain function may block, so it runs in a thread beside the loop.
            given = token() if inspect.iscoroutinefunction(token) else await _in_thread(token)
            text = await given if isinstance(given, Awaitable) else given
    except Exception as problem:
        if isinstance(problem, TimeoutError) and limit.expired():
            raise ConnectionFailed(f"The function for the token did not return within {seconds:g} s.") from None
        raise ConnectionFailed(f"The function for the token failed: {problem}") from problem
    return text


async def _in_thread(token: Callable[[], str | Awaitable[str | None] | None]) -> str | Awaitable[str | None] | None:
    if _hanging >= MOST_HANGING:
        raise RuntimeError(f"{_hanging} earlier calls have not returned.")

    def call() -> str | Awaitable[str | None] | None:
        global _hanging
        _hanging += 1
        try:
            return token()
        finally:
            _hanging -= 1

    return await in_daemon(call, "arqonbus-token")
