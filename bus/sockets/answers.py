"""What a connection sends to its client: frames, acks and errors, with their log lines and metrics."""

from __future__ import annotations

import logging
from typing import Any

from .._speed import core
from ..log import Entry
from ..log.effects import Opening
from ..monitoring import metrics
from ..node import ClientState, Node
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..publishing.streamed import told
from ..realtime.writer import Writer

logger = logging.getLogger("arqonbus.connection")


class Answers:
    """The outgoing side of a connection."""

    __slots__ = ("_rate_limited", "client", "node", "origin", "writer")

    def __init__(self, node: Node, client: ClientState, origin: str) -> None:
        self.node = node
        self.client = client
        #: The page that the client comes from, as far as log lines show it; empty for none.
        self.origin = origin
        self.writer: Writer
        # Whether the log has a line about the first frame above the rate limit.
        self._rate_limited = False

    def send(self, frame: bytes) -> None:
        """Send a frame with the next write of the hub."""
        self.node.hub.send(self.client, frame)

    def error(self, problem: BusError, request_id: str | None) -> None:
        """Send an error frame, which answers the frame with ``request_id``."""
        self.report(problem)
        self.send(frames.error(problem, request_id))

    def refuse(self, entry: Entry) -> None:
        """Answer a message that wanted no ack: with an error if it was refused, else not at all."""
        if entry.error is not None:
            self._refused(entry, entry.error)

    def acknowledge(self, entry: Entry) -> None:
        """Answer a message that wanted an ack: with the ack, or with an error if it was refused."""
        if entry.error is not None:
            self._refused(entry, entry.error)
        elif not self.writer.closed:
            growth = b"" if entry.effect is None else told(entry)
            if entry.swallowed:
                growth = b',"kept":false'
            self.send(
                frames.ack(entry.request_id, entry.context.address, entry.seq, duplicate=entry.duplicate, growth=growth)
            )

    def _refused(self, entry: Entry, problem: BusError) -> None:
        if isinstance(entry.effect, Opening):
            # The id may name a stream of another channel.
            self.client.streams.pop(entry.uid, None)
        self.error(problem, entry.request_id)

    # --- log lines --------------------------------------------------------------------------------------------------

    def report(self, problem: BusError, command: str | None = None) -> None:
        """Count an error of the client and log it; ``command`` is the name of the command that was refused."""
        metrics.errors.labels(problem.code).inc()
        if problem.code == ErrorCode.RATE_LIMITED:
            if self._rate_limited:
                return
            self._rate_limited = True
        left_out = self.node.refusals.admit()
        if left_out is not None:
            logger.info(
                "refused %s%s: %s",
                self.label,
                f" {command}" if command else "",
                problem.code,
                extra={**self.full_fields("refused"), "error": problem.code, "command": command, "left_out": left_out},
            )

    def trace(self, kind: str, address: Address) -> None:
        """Log the way of one message (level DEBUG)."""
        extra = {**self.fields("routed"), "kind": kind, "room": address.room, "channel": address.channel}
        logger.debug("routed %s to %s", kind, address, extra=extra)

    @property
    def label(self) -> str:
        """The client and its network address, for the text of a log line."""
        client = self.client
        return f"{client.client_id} at {client.peer_address}" if client.peer_address else client.client_id

    def fields(self, event: str) -> dict[str, Any]:
        """The fields of a log line about this connection."""
        return {"event": event, "connection": self.client.connection_id, "client": self.client.client_id}

    def full_fields(self, event: str) -> dict[str, Any]:
        """As :meth:`fields`, with the principal, the network address and the page of the client."""
        client = self.client
        return {
            **self.fields(event),
            "principal": client.actor.principal,
            "peer": client.peer_address,
            "origin": self.origin or None,
        }


if core is not None:
    core.know(answers=Answers, client=ClientState, acknowledge=Answers.acknowledge, place_keys=frames.place_keys)
