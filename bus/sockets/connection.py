"""The life of one connection: opened, registered, closed. Its frames go through ``bus.sockets.dispatch``."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from ..auth import identity
from ..auth.permissions import Actor
from ..conf.settings import anonymous_allowed
from ..directory.channels import ChannelRef
from ..monitoring import metrics
from ..node import ClientState, Node
from ..protocol import frames
from ..protocol.errors import RESTART, SLOW, TOO_MANY, UNIDENTIFIED, BusError, Closing, ErrorCode
from ..protocol.inbound import Inbound
from ..protocol.registration import Registration, registration_from
from ..protocol.session import Session
from ..protocol.state import State
from ..protocol.usual import read
from .answers import Answers
from .handshake import Refused, check_admitted, identify

logger = logging.getLogger("arqonbus.connection")

#: The parameters of a URL's query that ask for a registration.
_REGISTERING = {"client_id", "client_type", "room", "screen_name"}


class Connection(Answers):
    """One socket. :meth:`opened` and :meth:`closed` are called by its consumer; :meth:`close` ends it from this side."""

    __slots__ = ("beside", "lane", "query", "session")

    #: Reads a frame of this socket.
    grammar: Callable[[bytes], Inbound] = staticmethod(read)

    def __init__(
        self,
        node: Node,
        actor: Actor | None,
        *,
        kind: str = "bus",
        peer_address: str = "",
        origin: str = "",
        query: dict[str, str] | None = None,
    ) -> None:
        actor = msgspec.structs.replace(actor or identity.ANONYMOUS, address=peer_address)
        client = ClientState(secrets.token_hex(8), actor, kind=kind, peer_address=peer_address)
        client.client_id = f"client-{client.connection_id}"
        client.drop = self.close
        super().__init__(node, client, origin)
        self.session = Session(node.limits, time.monotonic(), self.grammar)
        self.query = query
        #: Commands that run beside its next frames.
        self.beside = 0
        #: The compiled path of its usual messages (``bus.sockets.lane``).
        self.lane: Any = None

    # --- the beginning ----------------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Begin, once the server has accepted the socket. Raises ``Closing`` where the connection is not admitted."""
        node, client = self.node, self.client
        if node.traffic.draining:
            raise Closing(RESTART, BusError(ErrorCode.RESTARTING, retry_after=1.0))
        node.admission.enter(client)
        client.step(State.CONNECTED)
        self._identified()
        metrics.opened(client.kind)
        self.welcome()
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s connected", self.label, extra={**self.full_fields("connected"), "socket": client.kind})
        if client.actor.anonymous and not self.anonymous_allowed() and not node.runtime.settings.registration_deadline:
            raise Closing(UNIDENTIFIED, BusError(ErrorCode.UNAUTHENTICATED))
        try:
            wanted = self.registration_of_query()
            if wanted is not None:
                await self.register(wanted)
        except BusError as problem:
            # The connection stays: a registration frame can still put it right.
            self.error(problem, None)

    def anonymous_allowed(self) -> bool:
        """Whether this socket admits clients without credentials."""
        return anonymous_allowed()

    def welcome(self) -> None:
        """Send the first frame."""
        self.send(frames.welcome(self.client.client_id, self.session.limits))

    # --- registration -----------------------------------------------------------------------------------------------

    def registered(self) -> bool:
        """Whether the client was ever registered, also once the connection is closing."""
        return self.client.known

    def registration_of_query(self) -> Registration | None:
        """The registration in the query string, if there is one. Raises ``FrameError``."""
        if not self.query or not _REGISTERING & self.query.keys():
            return None
        return registration_from(dict(self.query))

    async def register(self, wanted: Registration) -> None:
        """Check the credentials of a registration, and make the connection a client.

        Raises ``BusError`` for a registration that may be repeated, ``Closing`` where the connection has to end.
        """
        client = self.client
        if wanted.token:
            try:
                actor = await identify(wanted.token, self.node, client.peer_address)
            except BusError as problem:
                raise Refused.closing(problem) from None
            client.actor = msgspec.structs.replace(actor, address=client.peer_address)
            self.node.admission.identified(client)
            self._identified()
        check_admitted(client.actor, anonymous=self.anonymous_allowed())
        await self.enter(wanted)

    async def register_implicitly(self, token: str | None) -> None:
        """Register a client whose first frame was no registration, with the ``token`` of that frame if it has one.

        Raises as :meth:`register`.
        """
        await self.register(Registration(token=token))

    async def enter(self, wanted: Registration) -> None:
        """Make an admitted connection a client, and answer ``registered``. Raises as :meth:`register`."""
        client = self.client
        await self.node.registrations.register(client, wanted, client.actor)
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s registered in %s",
                self.label,
                client.initial,
                extra={**self.full_fields("registered"), "client_type": client.client_type},
            )

    def _identified(self) -> None:
        """Watch the identity's permissions, and let its connections share one rate limit."""
        self.node.rights.identified(self.client)
        self.session.share(self.node.admission.rate_of(self.client))

    def publish(self, inbound: Inbound, ref: ChannelRef) -> None:
        """Publish to one log, and answer after the commit. Nothing waits here. The caller has checked the client's right.

        Raises ``BusError`` as ``Publisher.publish``.
        """
        client = self.client
        self.node.publisher.publish(
            inbound,
            (ref,),
            client.client_id,
            self.acknowledge if inbound.ack else self.refuse,
            exclude=client,
            owner=client.owner,
            actor=client.actor,
        )
        if self.node.traces:
            self.trace(inbound.kind, ref.address)

    # --- the end ----------------------------------------------------------------------------------------------------

    def overflow(self) -> None:
        """Close a client that reads too slowly: at the end of this loop turn, not in the middle of a fan-out."""
        if not self.client.ending:
            self.node.runtime.loop.call_soon(self.close, SLOW, BusError(ErrorCode.TOO_SLOW, retry_after=1.0))

    def flooded(self, reason: str) -> None:
        """Close a client that sends too many frames that are no messages; ``reason`` says which."""
        metrics.limits.labels("frames").inc()
        self.close(TOO_MANY, BusError(ErrorCode.RATE_LIMITED, reason, retry_after=1.0))

    def close(self, code: int, error: BusError | None) -> None:
        """Send ``error``, then close with ``code``. Does nothing where the connection is ending already."""
        if self.writer.closed or self.client.ending:
            return
        self.client.step(State.CLOSING)
        self.client.close_code = code
        if error is not None:
            metrics.errors.labels(error.code).inc()
            # Also for a slow reader: the error waits behind the other frames, as the close frame does.
            self.writer.send(frames.error(error))
        reason = {"error": error.code, "reason": error.reason} if error else {}
        logger.log(
            logging.WARNING if reason.get("error") == ErrorCode.ORIGIN_REFUSED else logging.INFO,
            "closed %s with %d%s",
            self.label,
            code,
            f" ({error.code})" if error else "",
            extra={**self.full_fields("closed"), "code": code, **reason},
        )
        self.writer.close(code)

    async def closed(self, code: int) -> None:
        """Clean up after the end of the socket, whichever side closed it; ``code`` is the client's close code."""
        client = self.client
        self.writer.closed = True
        client.step(State.CLOSED)
        if client.connection_id in self.node.clients.by_connection:
            metrics.connections.labels(client.kind).dec()
            metrics.disconnects.labels(metrics.close_label(client.close_code or code)).inc()
            logger.info(
                "%s disconnected (%d)", self.label, code, extra={**self.full_fields("disconnected"), "code": code}
            )
            self.node.work.left(client)
            await self.node.departures.closed(client, client.close_code or code)
        # Without these cycles the connection is freed at once, without the garbage collector.
        client.drop = self.writer.on_overflow = _nothing
        self.lane = None


def _nothing(*_: Any) -> None:
    """Stands for the callbacks of a connection that is over."""
