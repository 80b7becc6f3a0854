"""``connect``: open a :class:`~arqonbus.Bus`."""

from __future__ import annotations

import os
import ssl as ssl_module
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any, NoReturn

from .backoff import Backoff
from .bus import Bus
from .identity import Identity
from .link import Dial
from .proxies import Proxy
from .states import State
from .tokens import Token


class _Connecting:
    """The result of :func:`connect`. Await it for a :class:`Bus`, or use it in ``async with``."""

    def __init__(self, make: Callable[[], Bus]) -> None:
        self._make = make
        self._bus: Bus | None = None

    def __await__(self) -> Generator[Any, None, Bus]:
        return self._make().open().__await__()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"There is no {name!r} before the connection. Use `async with connect(…) as bus` or `bus = await connect(…)`."
        )

    def __enter__(self) -> NoReturn:
        raise TypeError("Use `async with`. Code without an event loop uses `arqonbus.sync.connect`.")

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Bus:
        self._bus = self._make()
        return await self._bus.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._bus is not None
        await self._bus.close()


def connect(
    url: str = "ws://localhost:8765/",
    *,
    client_id: str | None = None,
    client_type: str = "app",
    token: Token = None,
    identity: str | os.PathLike[str] | None = None,
    resume_token: str | None = None,
    room: str | None = None,
    channel: str | None = None,
    screen_name: str | None = None,
    avatar: str | None = None,
    personality: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    reconnect: bool = True,
    give_up_after: float | None = None,
    wait: float = 0.0,
    timeout: float = 30.0,
    buffer: int = 1000,
    max_unacked: int = 1000,
    backoff: Backoff | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    proxy: Proxy = True,
    open_timeout: float = 10.0,
    ping_interval: float | None = 20.0,
    ping_timeout: float | None = 20.0,
    on_state: Callable[[State], None] | None = None,
) -> _Connecting:
    """Connect to a bus: ``async with connect(url, client_id="me") as bus`` or ``bus = await connect(url)``.

    ``client_id`` … ``card`` are the registration; ``room`` may be ``"science:explore"``. ``card`` is what others find in the
    directory: ``{"name": …, "description": …, "skills": ["review"]}``. ``token`` is an access token or
    JWT, sent as a header. It may be a function that returns a new token for each connection. An ``async`` function runs in the
    loop and a plain one in a thread, for ``open_timeout`` at most.

    ``identity`` names a file with the ``client_id``, its proof, and the place in its inbox. The next process with the file is
    the same client, even after ``kill -9``. Two clients may not use it at once. ``resume_token`` is the proof alone, from
    ``Bus.resume_token``.

    ``proxy`` is True for the proxy of the environment (``https_proxy``, ``no_proxy`` …), a URL, or None. The client never uses
    the proxy of the environment for this machine. All times are in seconds. ``wait`` is how long to try the first connection
    (0: one attempt). ``give_up_after`` is how long to try to reconnect (None: for ever). ``timeout`` is the limit of a request,
    including reconnects. ``max_unacked`` publishes may wait for their acks at once; more wait for a place. ``on_state`` is
    called with each new :class:`State`.

    Raises ``ConnectionFailed`` if no server answers, ``ClosedByServer`` or ``ServerError`` if the server refuses,
    ``IdentityInUse`` if another client uses the file, and ``ValueError`` for a wrong file or an impossible combination.
    """
    if resume_token is not None and client_id is None and identity is None:
        raise ValueError("A resume_token proves a client_id. Give both.")
    dial = Dial(url, token, dict(headers or {}), ssl, proxy, open_timeout, ping_interval, ping_timeout)
    description: dict[str, Any] = {
        "client_id": client_id,
        "client_type": client_type,
        "room": room,
        "channel": channel,
        "screen_name": screen_name,
        "avatar": avatar,
        "personality": dict(personality) if personality is not None else None,
        "card": dict(card) if card is not None else None,
    }
    return _Connecting(
        lambda: Bus(
            dial,
            description,
            identity=None if identity is None else Identity(identity),
            resume_token=resume_token,
            reconnect=reconnect,
            give_up_after=give_up_after,
            wait=wait,
            timeout=timeout,
            buffer=buffer,
            max_unacked=max_unacked,
            backoff=backoff,
            on_state=on_state,
        )
    )
