"""The tables of the bus: rooms, channels (each with the head of its log), messages, jobs, clients, permissions and others.

The database is the log. ``Channel.head`` is the ``seq`` of the newest message. The transaction that inserts messages
moves it. Its lock on the row gives the messages of many writers one order (docs/architecture.md).
"""

from __future__ import annotations

from .access import AccessChange, AccessToken, Grant, UsedTicket
from .amendments import Amendment, Erasure
from .clients import Client, Membership, Node
from .decisions import Decision
from .handlers import Handler, HandlerPosition
from .log import Channel, Message, PublishKey, Room, validate_name
from .marks import Mark
from .questions import Question
from .records import AuditEntry, Counter
from .streamed import Stream, StreamPart, StreamSteer
from .values import digest, new_epoch, wire_time
from .work import Job

__all__ = [
    "AccessChange",
    "AccessToken",
    "Amendment",
    "AuditEntry",
    "Channel",
    "Client",
    "Counter",
    "Decision",
    "Erasure",
    "Grant",
    "Handler",
    "HandlerPosition",
    "Job",
    "Mark",
    "Membership",
    "Message",
    "Node",
    "PublishKey",
    "Question",
    "Room",
    "Stream",
    "StreamPart",
    "StreamSteer",
    "UsedTicket",
    "digest",
    "new_epoch",
    "validate_name",
    "wire_time",
]
