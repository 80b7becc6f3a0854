"""The interface of a server's adapter: the modules of its folder, and what each of them offers.

``reader`` and ``writer`` use internals of the server. Each has a self-test (``fault``), and refuses a connection that is not as
expected; the connection then works through ASGI alone. ``handshakes`` bounds HTTP before a connection becomes a WebSocket, and
``serve`` installs it. ``bus.servers.registry`` lists the adapters.
"""

from __future__ import annotations

import abc
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..realtime.frame_limits import FragmentBudget
from ..realtime.reader import Reader
from ..realtime.writer import Bounds, Send, Writer

Application = Callable[[Any, Any, Any], Awaitable[None]]
#: Starts the node, once the server accepts connections. The argument makes the server accept no more of them.
Start = Callable[[Callable[[], None]], Awaitable[None]]


class Pings(NamedTuple):
    """Seconds between two pings of the server (0: no pings), and seconds that a client has to answer one."""

    interval: float
    timeout: float


#: Whether a module may use the server's internals: runs its self-test once. Asked only for a connection of that server.
Allowed = Callable[[], bool]


class ServedSocket(Protocol):
    """One socket of a consumer of the bus, behind its handshake."""

    async def open(self) -> None:
        """Begin. Called once."""

    async def handle(self, event: dict[str, Any]) -> None:
        """Serve one event to its end: ``websocket.receive``, or ``arqonbus.frame`` of the socket's reader."""

    async def end(self, code: int) -> None:
        """Clean up after the end; ``code`` is the client's close code. Called once."""


class PlainConsumer(Protocol):
    """A consumer whose sockets an adapter may serve without ASGI: nothing of the project is around it."""

    def subprotocol(self, scope: Any) -> str | None:
        """The sub-protocol that the answer to a handshake names."""

    async def arrive(self, scope: Any, send: DirectSocket) -> ServedSocket:
        """Check an accepted handshake, and make what serves its socket."""


#: Finds the consumer for the ASGI scope of a handshake that may be served without ASGI; None where ASGI has to serve it.
#: The application of :func:`bus.asgi.bus_application` has it as its method ``plain``.
Plain = Callable[[Any], PlainConsumer | None]


def plain_of(application: Any) -> Plain | None:
    """The method ``plain`` of an application; None for one without it, and for what only has another one's.

    A wrapper of the project may show the attributes of what it wraps (``functools.wraps``, a proxy). It has to be asked first.
    """
    plain: Plain | None = getattr(application, "plain", None)
    return plain if getattr(plain, "__self__", None) is application else None


class DirectSocket(abc.ABC):
    """A socket that an adapter serves without ASGI. It stands where ASGI has ``send``, and brings reader and writer."""

    __slots__ = ()

    @abc.abstractmethod
    def attach(self, budget: FragmentBudget | None, pings: Pings | None) -> Reader:
        """Return the reader of this socket (as ``ReaderModule.attach``)."""

    @abc.abstractmethod
    def write_by(self, bounds: Bounds, on_overflow: Callable[[], None]) -> Writer:
        """Make the writer of this socket (as ``WriterModule.create``)."""


class ReaderModule(Protocol):
    """The module ``reader`` of a server's folder."""

    def attach(
        self, send: Send, allowed: Allowed, *, budget: FragmentBudget | None, pings: Pings | None
    ) -> Reader | None:
        """Put a reader in front of the server's parser; None for another server's ``send``.

        Where the direct way does not work or is not ``allowed``, the server reads all frames, and the reader only counts them.
        ``pings`` are set where the server was started by its own command without options for them.
        """

    def fault(self) -> str | None:
        """The self-test: what is not as this module expects it, or None."""


class WriterModule(Protocol):
    """The module ``writer`` of a server's folder."""

    def create(self, send: Send, allowed: Allowed, bounds: Bounds, on_overflow: Callable[[], None]) -> Writer | None:
        """A writer past the server's own machinery; None for a connection that has to use ASGI ``send``."""

    def why_not(self, send: Send) -> str:
        """Why ``create`` gives no writer for this server's ``send``; empty when only the self-test failed."""

    def backlog_of(self, send: Send) -> Callable[[], int] | None:
        """Tells the bytes of an HTTP response that the server holds back for the client.

        None where the server's ``send`` waits for the client, and for another server's ``send``.
        """

    def fault(self) -> str | None:
        """The self-test: what is not as this module expects it, or None."""


class ServeModule(Protocol):
    """The module ``serve`` of a server's folder: how a process of this server starts and stops."""

    def prepare(self) -> None:
        """Called when the application is made, under any server: do what this server needs, if it is the one that runs."""

    def run(
        self, application: Application, sockets: Sequence[socket.socket], opened: Callable[[], None], start: Start
    ) -> None:
        """Serve on ready-made sockets until the process has to stop.

        ``opened`` is called once connections are accepted; ``start`` is awaited before the first client is served.
        """


class Adapter(NamedTuple):
    """One ASGI server as the bus knows it."""

    #: The server's name in ``runbus --server``; the package that its objects come from.
    name: str
    #: The packages whose versions the log names when a self-test fails.
    packages: tuple[str, ...]
    reader: ReaderModule
    writer: WriterModule
    serve: ServeModule

    def made(self, send: Send) -> bool:
        """Whether an object of this server is behind ``send``: a bound method's, or the first argument of a partial."""
        arguments = getattr(send, "args", None)
        behind = arguments[0] if arguments else getattr(send, "__self__", None)
        return type(behind).__module__.startswith(f"{self.name}.")
