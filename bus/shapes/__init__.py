"""The shapes of answers. Services build them, sockets and REST send them, AsyncAPI and OpenAPI describe them.

Each shape is defined once, here. A field's ``Meta`` is its documentation in both documents.
"""

from __future__ import annotations

from .access import AuditEntry, AuditList, Grant, GrantList, Me, Ticket, Token, TokenList
from .base import Epoch, Object, Page, Seq, Shape, WireTime
from .clients import Client, ClientList
from .decisions import Decision, DecisionList, Decisions
from .errors import ErrorAnswer, Fault
from .marks import Mark
from .messages import Amended, ErasedMessages, Message, MessageList
from .published import Delivery, Published
from .questions import Question
from .rooms import ActiveChannel, Card, Channel, ChannelInfo, ChannelList, Participant, Presence, Room, RoomList
from .server import HandlerList, HandlerPosition, HandlerState, Process, ProcessList, Server, ServerStats, Stats
from .status import AgentCard, Status, StatusOf
from .streams import AdoptedStream, StoppedStream, Stream, StreamPlace
from .work import (
    Claim,
    ClaimedJob,
    Claims,
    DeadJob,
    Failure,
    Finished,
    JobState,
    Renewed,
    Returned,
    WorkOverview,
    WorkRule,
)

__all__ = [
    "ActiveChannel",
    "AdoptedStream",
    "AgentCard",
    "Amended",
    "AuditEntry",
    "AuditList",
    "Card",
    "Channel",
    "ChannelInfo",
    "ChannelList",
    "Claim",
    "ClaimedJob",
    "Claims",
    "Client",
    "ClientList",
    "DeadJob",
    "Decision",
    "DecisionList",
    "Decisions",
    "Delivery",
    "Epoch",
    "ErasedMessages",
    "ErrorAnswer",
    "Failure",
    "Fault",
    "Finished",
    "Grant",
    "GrantList",
    "HandlerList",
    "HandlerPosition",
    "HandlerState",
    "JobState",
    "Mark",
    "Me",
    "Message",
    "MessageList",
    "Object",
    "Page",
    "Participant",
    "Presence",
    "Process",
    "ProcessList",
    "Published",
    "Question",
    "Renewed",
    "Returned",
    "Room",
    "RoomList",
    "Seq",
    "Server",
    "ServerStats",
    "Shape",
    "Stats",
    "Status",
    "StatusOf",
    "StoppedStream",
    "Stream",
    "StreamPlace",
    "Ticket",
    "Token",
    "TokenList",
    "WireTime",
    "WorkOverview",
    "WorkRule",
]
