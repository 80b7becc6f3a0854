"""One connection at work: frames come from the protocol's session, and go to the node, the commands, and back.

The path of a published message does not wait here: it is handed to the log with a callback, so a connection's next frame is
looked at while the commit of this one runs, and its order is that of the frames.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from django.apps import apps
from django.db import Error as DatabaseError

from .. import signals
from ..auth import identity
from ..auth.permissions import Actor
from ..commands import Context
from ..commands.base import find, registry
from ..conf.settings import anonymous_allowed
from ..log import Entry
from ..monitoring import metrics
from ..node import ClientState, Node
from ..node.threads import store_error
from ..protocol import frames
from ..protocol.dialects import token_of
from ..protocol.errors import RESTART, SLOW, TOO_MANY, UNIDENTIFIED, BusError, Closing, ErrorCode
from ..protocol.inbound import KIND_COMMAND, KIND_REGISTER, Inbound
from ..protocol.names import Address
from ..protocol.registration import Registration, registration_from
from ..protocol.session import Session
from ..protocol.state import Ended, State
from ..protocol.usual import read
from ..publishing.plan import ROUTES, limits_of
from ..realtime.writer import Writer
from ..version import PROTOCOL, VERSION
from . import messages
from .handshake import Refused, check_admitted, identify
from .process_view import NodePort

logger = logging.getLogger("arqonbus.connection")

#: Carries out a frame of a kind that another app serves (``BusConfig.kinds``).
Handler = Callable[["Connection", Inbound], Awaitable[None]]

REGISTERED = State.REGISTERED
#: The type of clients that show the bus to people, such as the console.
DASHBOARD = "dashboard"
#: A client's activity of one kind is announced at most once in this many seconds (contract §7).
ACTIVITY_INTERVAL = 1.0


class Connection:
    """The runtime of one socket. ``handle`` takes a frame; ``close`` ends it; ``closed`` is called when it is over."""

    __slots__ = ("_limited", "client", "node", "origin", "query", "session", "writer")

    #: What frames of this socket may be.
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
        self.node = node
        actor = msgspec.structs.replace(actor or identity.ANONYMOUS, address=peer_address)
        self.client = ClientState(secrets.token_hex(8), actor, kind=kind, peer_address=peer_address)
        self.client.client_id = f"client-{self.client.connection_id}"
        self.client.drop = self.drop
        self.session = Session(limits_of(node.runtime.settings), time.monotonic(), self.grammar)
        self.query = query
        self.origin = origin
        self.writer: Writer
        # Whether the log has a line about its first frame above the rate.
        self._limited = False

    # --- life -----------------------------------------------------------------------------------------------------

    async def opened(self, writer: Writer) -> None:
        """The socket is accepted. Says welcome; raises ``Closing`` when nobody else is let in."""
        self.writer = self.client.writer = writer
        node, client = self.node, self.client
        if node.traffic.draining:
            raise Closing(RESTART, BusError(ErrorCode.RESTARTING, retry_after=1.0))
        node.admission.enter(client)
        client.step(State.CONNECTED)
        self._identified()
        metrics.connections.labels(client.kind).inc()
        metrics.connections_total.labels(client.kind).inc()
        self.welcome()
        logger.debug("%s connected", self._named(), extra={**self._who("connected"), "socket": client.kind})
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
        """Whether this socket is for unidentified clients too."""
        return anonymous_allowed()

    def welcome(self) -> None:
        """Send the first frame (contract §3)."""
        limits = self.session.limits
        self.send(
            frames.system(
                "welcome",
                client_id=self.client.client_id,
                protocol=PROTOCOL,
                server_version=VERSION,
                limits={
                    "frame_bytes": limits.frame_bytes,
                    "depth": limits.depth,
                    "targets": limits.targets,
                    "frames_per_second": limits.frames_per_second,
                },
                registered=False,
            )
        )

    async def closed(self, code: int) -> None:
        """The socket is gone, whoever ended it."""
        self.writer.closed = True
        self.client.step(State.CLOSED)
        if self.client.connection_id in self.node.clients.by_connection:
            metrics.connections.labels(self.client.kind).dec()
            metrics.disconnects.labels(metrics.close_label(self.client.close_code or code)).inc()
            logger.info("%s disconnected (%d)", self._named(), code, extra={**self._who("disconnected"), "code": code})
            await self.node.departures.closed(self.client, self.client.close_code or code)
        # No cycle stays, so that nothing of it waits for the garbage collector.
        self.client.drop = self.writer.on_overflow = _nothing

    def registered(self) -> bool:
        """Whether the client said who it is."""
        return self.client.known

    def overflow(self) -> None:
        """More waits for this connection than may: end it at the end of this turn, not in the middle of a fan-out."""
        if not self.client.ending:
            self.node.runtime.loop.call_soon(self.close, SLOW, BusError(ErrorCode.TOO_SLOW, retry_after=1.0))

    def flooded(self, why: str) -> None:
        """More came that is no message than may: ``why`` says of what."""
        metrics.limits.labels("frames").inc()
        self.close(TOO_MANY, BusError(ErrorCode.RATE_LIMITED, why, retry_after=1.0))

    def drop(self, code: int, error: BusError | None) -> None:
        """Somebody else (an admin, a newer connection, a drain, a withdrawn right) ends it."""
        self.close(code, error)

    def close(self, code: int, error: BusError | None) -> None:
        """Tell why, and close."""
        if self.writer.closed or self.client.ending:
            return
        self.client.step(State.CLOSING)
        self.client.close_code = code
        if error is not None:
            metrics.errors.labels(error.code).inc()
            # Also to a slow reader: it takes its place behind what waits, as the close frame does.
            self.writer.send(frames.error(error))
        why = {"error": error.code, "reason": error.reason} if error else {}
        logger.log(
            logging.WARNING if why.get("error") == ErrorCode.ORIGIN_REFUSED else logging.INFO,
            "closed %s with %d%s",
            self._named(),
            code,
            f" ({error.code})" if error else "",
            extra={**self._who("closed"), "code": code, **why},
        )
        self.writer.close(code)

    # --- frames in --------------------------------------------------------------------------------------------------

    def take(self, data: bytes) -> Inbound | None:
        """One frame, as far as that goes without waiting: most messages are published at once.

        Returns the frame when more is to be done, for :meth:`carry_out`. What is wrong is told to the client; nothing is raised.
        """
        client, node = self.client, self.node
        client.touched = True
        node.traffic.received += 1
        node.traffic.received_bytes += len(data)
        inbound: Inbound | None = None
        try:
            inbound = self.session.receive(data, time.monotonic())
            if node.traffic.draining:
                # Neither taken nor lost: whoever sent it knows that it has to send it again.
                raise BusError(ErrorCode.RESTARTING, retry_after=1.0)
            if client.state is REGISTERED and inbound.kind in ROUTES and messages.publish_at_once(self, inbound):
                return None
            if not client.registered and inbound.kind != KIND_REGISTER:
                inbound.registration = Registration(token=token_of(data))
        except Exception as problem:  # noqa: BLE001 - told to the client, or logged
            self._failed(problem, inbound.id if inbound is not None else None)
            return None
        return inbound

    async def handle(self, data: bytes) -> None:
        """One frame, to its end. What is wrong with it is told to the client; nothing is raised."""
        inbound = self.take(data)
        if inbound is not None:
            await self.carry_out(inbound)

    async def carry_out(self, inbound: Inbound) -> None:
        """What :meth:`take` has left to be done."""
        client, node = self.client, self.node
        node.traffic.in_progress += 1
        try:
            if not client.registered and inbound.kind != KIND_REGISTER:
                await self.register_implicitly(inbound.registration.token if inbound.registration else None)
            if inbound.kind in ROUTES:
                await messages.publish(self, inbound)
            elif inbound.kind == KIND_COMMAND:
                await self._command(inbound)
            elif inbound.kind == KIND_REGISTER:
                if client.registered:
                    raise BusError(ErrorCode.ALREADY_REGISTERED)
                await self.register(inbound.registration or Registration())
            else:
                await self._other(inbound)
        except Exception as problem:  # noqa: BLE001 - told to the client, or logged
            self._failed(problem, inbound.id)
        finally:
            node.traffic.in_progress -= 1

    def _failed(self, problem: Exception, request_id: str | None) -> None:
        """Tell the client what came of its frame."""
        if isinstance(problem, BusError):
            self.error(problem, getattr(problem, "request_id", None) or request_id)
        elif isinstance(problem, Closing):
            self.close(problem.close_code, problem.error)
        elif isinstance(problem, DatabaseError):
            self.error(store_error(problem), request_id)
        elif isinstance(problem, Ended):
            logger.debug("%s ended while a frame of it was worked on", self._named(), extra=self._ids("ended"))
        else:
            reference = secrets.token_hex(6)
            logger.error(
                "frame failed",
                exc_info=problem,
                extra={**self._ids("internal_error"), "reference": reference},
            )
            error = BusError(ErrorCode.INTERNAL_ERROR, details=[{"reference": reference}])
            if self.client.state is State.JOINING:
                # A client that is half registered cannot go on; it can come back.
                self.close(SLOW, error)
            else:
                self.error(error, request_id)

    async def register(self, wanted: Registration) -> None:
        """Take an identity (contract §3). Raises ``BusError`` or ``Closing``."""
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
        """The first frame was none of registration; a ``token`` it may have brought. Raises as :meth:`register`."""
        await self.register(Registration(token=token))

    async def enter(self, wanted: Registration) -> None:
        """Take the identity asked for, for whom this socket lets in, and answer ``registered``. Raises as :meth:`register`."""
        client = self.client
        await self.node.registrations.register(client, wanted, client.actor)
        logger.info(
            "%s registered in %s",
            self._named(),
            client.initial,
            extra={**self._who("registered"), "client_type": client.client_type},
        )

    def _identified(self) -> None:
        """Watch over the identity, and count its frames with those of its other connections."""
        self.node.rights.identified(self.client)
        self.session.share(self.node.admission.rate_of(self.client))

    def registration_of_query(self) -> Registration | None:
        """The registration in the query string, if there is one. Raises ``FrameError``."""
        if not self.query or not {"client_id", "client_type", "room", "screen_name"} & self.query.keys():
            return None
        return registration_from(dict(self.query))

    async def _other(self, inbound: Inbound) -> None:
        """A kind of frame that another app serves."""
        handler: Handler | None = apps.get_app_config("bus").kinds.get(inbound.kind)  # type: ignore[attr-defined]
        if handler is None:
            raise BusError(ErrorCode.UNKNOWN_TYPE, f"Frames of type {inbound.type} are not served here.")
        await handler(self, inbound)

    def active(self, activity: str, address: Address | None = None) -> None:
        """Announce what the client does (not what it says), at most once in :data:`ACTIVITY_INTERVAL` for each activity.

        The path of a message looks into ``client.noted`` first, so that this costs it one look-up.
        """
        client = self.client
        if activity in client.noted:
            return
        if not isinstance(client.noted, set):
            client.noted = set()
        client.noted.add(activity)
        self.node.runtime.loop.call_later(ACTIVITY_INTERVAL, client.noted.discard, activity)
        place = address or client.initial
        ref = self.node.channels.known(place)
        if ref is not None or place.is_inbox:
            # An inbox is in no private room: whose it is is not told.
            self._tell_active(activity, place, private=ref is not None and ref.private)
        else:
            self.node.runtime.spawn(self._look_and_tell_active(activity, place))

    async def _look_and_tell_active(self, activity: str, place: Address) -> None:
        self._tell_active(activity, place, private=await self.node.channels.is_private(place))

    def _tell_active(self, activity: str, place: Address, *, private: bool) -> None:
        signals.client_active.send_robust(
            Connection, client=self.client, activity=activity, room=place.room, channel=place.channel, private=private
        )

    def trace(self, kind: str, address: Address) -> None:
        """Log the way of one message (level DEBUG)."""
        extra = {**self._ids("routed"), "kind": kind, "room": address.room, "channel": address.channel}
        logger.debug("routed %s to %s", kind, address, extra=extra)

    # --- commands ---------------------------------------------------------------------------------------------------

    async def _command(self, inbound: Inbound) -> None:
        node, client = self.node, self.client
        uid = node.publisher.new_uid()
        try:
            command = find(inbound.command)
            self.session.ask(command.cost)
            parameters = command.read(inbound.parameters, inbound.hints)
            context = Context(
                client.actor,
                client.initial,
                inbound.room,
                inbound.channel,
                NodePort(node, client),
                inbox_floor=client.inbox_floor,
            )
            answer = await command.run(context, parameters)
        except (BusError, DatabaseError) as met:
            problem = met if isinstance(met, BusError) else store_error(met)
            self._refused(problem, inbound.command if inbound.command in registry else None)
            self.send(frames.command_error(uid, inbound.id, inbound.command, problem))
            return
        metrics.commands.labels(command.name).inc()
        # A page that watches the bus asks again and again: were that written down, it would soon see nothing but itself.
        watching = command.looks and client.client_type == DASHBOARD
        # A ping says nothing of anybody but that it lives.
        logger.log(
            logging.DEBUG if watching or command.name == "ping" else logging.INFO,
            "%s ran %s",
            self._named(),
            command.name,
            extra={**self._ids("command"), "command": command.name},
        )
        self.send(frames.command_response(uid, inbound.id, command.name, answer.message, answer.result))
        if answer.follow is not None:
            await node.members.follow(client, answer.follow)
        if not watching:
            self.active(command.name)

    # --- frames out -------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """A frame for this client."""
        self.node.hub.send(self.client, frame)

    def error(self, problem: BusError, request_id: str | None) -> None:
        """An error frame for this client."""
        self._refused(problem)
        self.send(frames.error(problem, request_id))

    def refuse(self, entry: Entry) -> None:
        """A message's fate is known; its sender hears of it only if it was refused."""
        if entry.error is not None:
            self.error(entry.error, entry.request_id)

    def acknowledge(self, entry: Entry) -> None:
        """A message's fate is known, and its sender asked for an ack."""
        if entry.error is not None:
            self.error(entry.error, entry.request_id)
        elif not self.writer.closed:
            self.node.hub.send(
                self.client,
                frames.ack(entry.request_id, entry.context.address, entry.seq, duplicate=entry.duplicate),
            )

    def _refused(self, problem: BusError, command: str | None = None) -> None:
        """Count and log what a client is told was wrong."""
        metrics.errors.labels(problem.code).inc()
        if problem.code == ErrorCode.RATE_LIMITED:
            if self._limited:
                return
            self._limited = True
        left_out = self.node.refusals.admit()
        if left_out is not None:
            logger.info(
                "refused %s%s: %s",
                self._named(),
                f" {command}" if command else "",
                problem.code,
                extra={**self._who("refused"), "error": problem.code, "command": command, "left_out": left_out},
            )

    def _named(self) -> str:
        """The client and its address, for sentences that have to stand without the fields beside them."""
        client = self.client
        return f"{client.client_id} at {client.peer_address}" if client.peer_address else client.client_id

    def _who(self, event: str) -> dict[str, Any]:
        """Whose a line is, as far as the server knows: who vouches for it, from which address and which page it comes."""
        client = self.client
        who = {"principal": client.actor.principal, "peer": client.peer_address, "origin": self.origin or None}
        return {**self._ids(event), **who}

    def _ids(self, event: str) -> dict[str, Any]:
        return {"event": event, "connection": self.client.connection_id, "client": self.client.client_id}


def _nothing(*_: Any) -> None:
    """What is left to be done for a connection that is gone."""
