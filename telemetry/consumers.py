"""The telemetry socket: the bus's consumer with a grammar and a first frame of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import Error as DatabaseError

from bus.auth.permissions import JOIN, SYSTEM
from bus.conf.settings import telemetry_anonymous_allowed
from bus.consumers import BusConsumer
from bus.directory.channels import ChannelRef
from bus.models import wire_time
from bus.protocol import frames
from bus.protocol.errors import BusError, Closing, ErrorCode
from bus.protocol.registration import Registration
from bus.protocol.state import State
from bus.realtime.hub import Stream
from bus.sockets.connection import Connection
from bus.sockets.handshake import Refused, check_admitted

from . import protocol


class TelemetryConnection(Connection):
    """A connection that sends telemetry, and receives the stream with the right to join the stream's channel.

    The connection is no client in the bus's lists, and no member that a channel counts. Its id is generated.
    """

    __slots__ = ("_quiet", "_ref", "_stream")

    grammar = staticmethod(protocol.grammar)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.client.client_id = f"telemetry-{self.client.connection_id}"
        self.client.client_type = "telemetry"
        self._ref: ChannelRef | None = None
        self._stream: Stream | None = None
        self._quiet = False

    def anonymous_allowed(self) -> bool:
        """Whether this socket admits clients without credentials."""
        return telemetry_anonymous_allowed()

    async def opened(self) -> None:
        """Begin with ``telemetry_connected``. Raises ``Closing`` where the connection is not admitted."""
        node = self.node
        try:
            ref = await node.channels.resolve(protocol.stream(), SYSTEM)
            # Presence does not show who listens here.
            self._ref = msgspec.structs.replace(ref, presence=False)
            (self._stream,) = await node.streams.open([ref])
        except BusError as problem:
            raise Refused.closing(problem) from None
        except DatabaseError:
            raise Refused.closing(BusError(ErrorCode.UNAVAILABLE, retry_after=1.0)) from None
        await super().opened()

    def welcome(self) -> None:
        """Send the first frame, then the stream to a client with the right to it."""
        receiving = self._may_receive()
        limits = self.session.limits
        self.send(
            protocol.connected(
                self.client.client_id,
                timestamp=wire_time(datetime.now(UTC)) or "",
                receiving=receiving,
                limits={"frame_bytes": limits.frame_bytes, "frames_per_second": limits.frames_per_second},
            )
        )
        if self._admitted():
            # A client that only listens never has to register.
            self.node.admission.registered(self.client)
        if receiving and self._stream is not None:
            self._receive(self._stream)

    async def register_implicitly(self, token: str | None) -> None:
        """Register without an answer: the first frame was telemetry, and ``telemetry_ack`` answers it."""
        self._quiet = True
        await super().register_implicitly(token)

    async def enter(self, wanted: Registration) -> None:
        """Take the role and names of a registration; the client id stays the generated one."""
        client = self.client
        client.actor = msgspec.structs.replace(client.actor, client_id=client.client_id, client_type=wanted.client_type)
        client.allowed.clear()
        client.screen_name, client.avatar = wanted.screen_name, wanted.avatar
        client.step(State.SERVED)
        self.node.admission.registered(client)
        receiving = self._may_receive()
        if receiving and self._ref is not None:
            # Opened again, since a stream without members is forgotten after a while.
            (self._stream,) = await self.node.streams.open([self._ref])
            self._receive(self._stream)
        if self._quiet:
            return
        client.client_type = wanted.client_type
        self.send(
            frames.system(
                "registered",
                client_id=client.client_id,
                client_type=client.client_type,
                role=client.actor.role,
                receiving=receiving,
            )
        )

    async def closed(self, code: int) -> None:
        """Clean up after the end of the socket."""
        client = self.client
        for ref in list(client.memberships.values()):
            self.node.memberships.remove(client, ref)
        await super().closed(code)

    def _admitted(self) -> bool:
        try:
            check_admitted(self.client.actor, anonymous=self.anonymous_allowed())
        except Closing:
            return False
        return True

    def _may_receive(self) -> bool:
        return self._ref is not None and self._admitted() and self.node.permissions.may(self.client, JOIN, self._ref)

    def _receive(self, stream: Stream) -> None:
        """Receive the stream from here on. This is a membership, so it ends when the right to it is withdrawn."""
        ref, client = self._ref, self.client
        if ref is not None and ref.id not in client.memberships:
            client.memberships[ref.id] = ref
            client.rooms[ref.address.room] = 1
            self.node.hub.add(stream, client)


class TelemetryConsumer(BusConsumer):
    """``/telemetry/`` on every port, and ``/`` on the telemetry port."""

    kind = "telemetry"
    connection_class = TelemetryConnection
