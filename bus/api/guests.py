"""Callers of HTTP that stay for a while: they are counted, bounded and watched like a socket's connection.

A guest is no client, so presence does not show it. A reader of events is one, and so is a request that waits for something.
"""

from __future__ import annotations

import secrets
from typing import Any

from ..auth.permissions import Actor
from ..monitoring import metrics
from ..node import ClientState, Node
from ..protocol.errors import SLOW, BusError, Closing, ErrorCode
from ..protocol.state import State
from ..realtime.event_writer import EventWriter
from ..servers.registry import backlog_of
from .endings import ending_of


class Guest:
    """One such caller. ``kind`` names it in the metrics. ``scope`` is that of its request."""

    def __init__(self, node: Node, actor: Actor, scope: dict[str, Any], kind: str) -> None:
        self.node = node
        self.writer = EventWriter(node.bounds, self._overflow, backlog_of(scope.get("arqonbus.send")))
        self.client = ClientState(secrets.token_hex(8), actor, kind=kind, peer_address=actor.address)
        self.client.writer = self.writer
        self.client.drop = self.close
        self._ending = ending_of(scope)

    def enter(self) -> None:
        """Be counted and watched from now on, until :meth:`leave`. Raises ``BusError`` LIMIT_REACHED."""
        node, client = self.node, self.client
        try:
            node.admission.enter(client)
        except Closing as closing:
            raise closing.error from None
        metrics.connections.labels(client.kind).inc()
        metrics.connections_total.labels(client.kind).inc()
        # If the request is cancelled before its answer begins, only this callback cleans up.
        self._ending.then(self.leave)
        client.step(State.SERVED)
        node.admission.registered(client)
        node.rights.identified(client)

    def require_open(self) -> None:
        """Check that the request goes on. Raises ``BusError`` RESTARTING.

        Behind a synchronous middleware a view goes on after its request has ended.
        """
        if self._ending.over:
            raise BusError(ErrorCode.RESTARTING, "The request has ended.")

    def close(self, code: int, error: BusError | None) -> None:
        """End the answer with close code ``code``. ``error`` is the reason."""
        raise NotImplementedError

    def _overflow(self) -> None:
        self.node.runtime.loop.call_soon(self.close, SLOW, BusError(ErrorCode.TOO_SLOW, retry_after=1.0))

    def leave(self) -> None:
        """Release everything that the guest holds. A second call does nothing."""
        node, client = self.node, self.client
        if client.state is State.CLOSED:
            return
        client.step(State.CLOSED)
        self.writer.abort()
        self.left()
        metrics.connections.labels(client.kind).dec()
        metrics.disconnects.labels(str(client.close_code or 1006)).inc()
        node.admission.leave(client)

    def left(self) -> None:
        """Release what this kind of guest holds. :meth:`leave` calls it once."""

    def no_member(self, channel_id: int) -> None:
        """End the membership in a channel, if there is one."""
        self.client.memberships.pop(channel_id, None)
        stream = self.node.hub.stream(channel_id)
        if stream is not None:
            self.node.hub.remove(stream, self.client)
