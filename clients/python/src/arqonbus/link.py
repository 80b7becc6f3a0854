"""One socket: handshake, welcome, registration, frames in and out, and the reason of its end."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)

from ._version import __version__
from .errors import ClosedByServer, ConnectionFailed, ServerError, comes_back, from_error
from .proxies import Proxy, proxy_for, shown
from .reading import Unreadable, decode
from .tokens import Token, fresh
from .values import encode

logger = logging.getLogger("arqonbus.client")

#: How long to wait for the close after a refusal, in seconds.
GRACE = 1.0


@dataclass(frozen=True)
class Dial:
    """How to reach the server. Times are in seconds."""

    url: str
    token: Token = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl: ssl_module.SSLContext | None = None
    proxy: Proxy = True
    open_timeout: float = 10.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0


class Refused(Exception):
    """An attempt to connect failed. ``final`` means that another attempt cannot help."""

    def __init__(self, error: Exception, *, final: bool, retry_after: float | None = None) -> None:
        self.error = error
        self.final = final
        self.retry_after = retry_after
        super().__init__(str(error))


def meant(url: str) -> str:
    """Return the URL of a bus that the user probably meant with ``url``."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return f"ws://{url or 'localhost:8765/'}"
    return f"{'wss' if scheme.lower() in ('https', 'wss') else 'ws'}://{rest or 'localhost:8765/'}"


async def _connected(dial: Dial, token: str | None) -> ClientConnection:
    """Return a socket after its handshake. Raises :class:`Refused`."""
    headers = dict(dial.headers)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    options: dict[str, Any] = {} if dial.ssl is None else {"ssl": dial.ssl}
    proxy, way = None, ""
    try:
        proxy = proxy_for(dial.url, dial.proxy)
        way = f" through the proxy {shown(proxy)}" if proxy else ""
        return await connect_socket(
            dial.url,
            additional_headers=headers,
            user_agent_header=f"arqonbus-python/{__version__}",
            open_timeout=dial.open_timeout,
            close_timeout=2.0,
            ping_interval=dial.ping_interval,
            ping_timeout=dial.ping_timeout,
            max_size=None,
            compression=None,
            proxy=proxy,
            **options,
        )
    except InvalidURI:
        text, final = f"{dial.url} is not the URL of a bus. Did you mean {meant(dial.url)}?", True
    except InvalidStatus as problem:
        status = problem.response.status_code
        text = f"{dial.url} answered HTTP {status}. This is not an answer of a bus"
        failure = ConnectionFailed(text, answered=True)
        raise Refused(failure, final=status not in (408, 425, 429) and status < 500) from None
    except InvalidProxy as problem:
        text, final = f"{shown(problem.proxy)} is not the URL of a proxy: {problem.msg}", True
    except InvalidProxyStatus as problem:
        text, final = f"{dial.url} cannot be reached{way}: it answered HTTP {problem.response.status_code}", False
    except ProxyError as problem:
        text, final = f"{dial.url} cannot be reached{way}: {problem.__cause__ or problem}", False
    except ImportError:
        text, final = (
            f"{dial.url} cannot be reached{way}: a SOCKS proxy needs a package (pip install python-socks)",
            True,
        )
    except InvalidHandshake as problem:
        text, final = f"{dial.url} does not speak WebSocket: {problem}", False
    except ConnectionClosed as problem:
        text, final = f"{dial.url}: {problem}", False
    except TimeoutError:
        text, final = f"{dial.url} did not answer within {dial.open_timeout:g} s{way}", False
    except OSError as problem:
        text, final = f"{dial.url} cannot be reached{way}: {problem.strerror or problem}", False
    raise Refused(ConnectionFailed(text, proxy=proxy is not None), final=final)


class Link:
    """A connection from its handshake to its end."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        #: The payload of the welcome frame.
        self.welcome: dict[str, Any] = {}
        #: The last error frame that answered no request. It usually is the reason of a close.
        self.last_error: ServerError | None = None
        self.registered = False
        #: The number of unreadable frames.
        self.unreadable = 0

    @classmethod
    async def dial(cls, dial: Dial) -> Link:
        """Connect and read the welcome. Raises :class:`Refused`."""
        try:
            token = await fresh(dial.token, dial.open_timeout)
        except ConnectionFailed as problem:
            raise Refused(problem, final=False) from problem.__cause__
        link = cls(await _connected(dial, token))
        try:
            await link._await_welcome(dial)
        except BaseException:
            await link.close()
            raise
        return link

    async def _await_welcome(self, dial: Dial) -> None:
        frame = await self._next(dial, "say welcome")
        if frame.get("type") == "error":
            raise await self._refusal(dial)
        payload = frame.get("payload")
        if frame.get("type") != "system" or not isinstance(payload, dict) or payload.get("event") != "welcome":
            text = f"{dial.url} is a WebSocket server, but not an ArqonBus"
            raise Refused(ConnectionFailed(text, answered=True), final=True)
        self.welcome = payload

    async def register(self, dial: Dial, registration: dict[str, Any]) -> dict[str, Any]:
        """Send the registration and return the payload of ``registered``. Raises :class:`Refused`."""
        try:
            await self._socket.send(encode(registration))
        except ConnectionClosed:
            raise self._ended(dial) from None
        while True:
            frame = await self._next(dial, "register")
            payload = frame.get("payload")
            if frame.get("type") == "system" and isinstance(payload, dict) and payload.get("event") == "registered":
                self.registered = True
                self.last_error = None
                return payload
            if frame.get("type") == "error":
                raise await self._refusal(dial)

    async def _refusal(self, dial: Dial) -> Refused:
        """Explain an error before the registration. The close that usually follows has more information."""
        try:
            async with asyncio.timeout(GRACE):
                await self._socket.wait_closed()
        except TimeoutError:
            error = self.last_error or ServerError("The server refused the connection.")
            return Refused(error, final=not error.retry, retry_after=error.retry_after)
        return self._ended(dial)

    async def _next(self, dial: Dial, what: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(dial.open_timeout):
                while True:
                    frame = self._decode(await self._socket.recv())
                    if frame is not None:
                        return frame
        except TimeoutError:
            raise Refused(
                ConnectionFailed(f"{dial.url} did not {what} within {dial.open_timeout:g} s"), final=False
            ) from None
        except ConnectionClosed:
            raise self._ended(dial) from None

    def _ended(self, dial: Dial) -> Refused:
        code, error = self.close_code, self.last_error
        if comes_back(code):
            cause: Exception = error or ConnectionFailed(f"{dial.url} closed the connection ({code})")
            return Refused(cause, final=False, retry_after=error.retry_after if error else None)
        return Refused(ClosedByServer(code, error), final=True)

    # --- frames -----------------------------------------------------------------------------------------------------

    def _decode(self, data: str | bytes) -> dict[str, Any] | None:
        try:
            frame = decode(data)
        except Unreadable as problem:
            self.unreadable += 1
            logger.warning("cannot read a frame of the server; it is skipped or shown empty: %s", problem)
            frame = problem.instead
        if not isinstance(frame, dict):
            return None
        refusal = frame.get("type") == "error" and "request_id" in frame
        if refusal and (frame["request_id"] is None or not self.registered):
            error = frame.get("error")
            self.last_error = from_error(error if isinstance(error, dict) else {})
        return frame

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """Yield every frame until the connection ends."""
        try:
            while True:
                frame = self._decode(await self._socket.recv())
                if frame is not None:
                    yield frame
        except ConnectionClosed:
            return

    async def send(self, text: str) -> bool:
        """Send a frame, and wait while the send buffer is full. Returns False if the connection has ended."""
        try:
            await self._socket.send(text)
        except ConnectionClosed:
            return False
        return True

    async def close(self) -> None:
        """Close with the closing handshake, or without it after two seconds."""
        await self._socket.close()

    def abort(self) -> None:
        """Cut the connection like a broken network."""
        self._socket.transport.abort()

    @property
    def close_code(self) -> int:
        """The close code. 1006 means that none was received."""
        return self._socket.close_code or 1006
