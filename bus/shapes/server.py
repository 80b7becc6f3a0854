"""The server, its processes and figures."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .base import Object, Shape, WireTime


class Stats(Shape, frozen=True, kw_only=True):
    """Figures over all processes."""

    total_connections: Annotated[int, Meta(description="Number of connections so far.")]
    active_connections: int
    active_rooms: Annotated[int, Meta(description="Number of rooms with members.")]
    active_channels: int
    total_messages: Annotated[int, Meta(description="Number of messages so far.")]


class Server(Shape, frozen=True, kw_only=True):
    """The server's version, and that of its protocol."""

    version: str
    protocol: str


class ServerStats(Shape, frozen=True, kw_only=True):
    """The server and its figures."""

    server: Server
    stats: Stats


class Process(Shape, frozen=True, kw_only=True):
    """A process of the bus."""

    id: str
    host: str
    pid: int
    version: str
    started_at: WireTime
    heartbeat_at: WireTime
    alive: Annotated[bool, Meta(description="Whether its last heartbeat is recent.")]
    clients: Annotated[int, Meta(description="Number of connected clients.")]
    stats: Annotated[Object, Meta(description="Its figures at the last heartbeat.")]


class ProcessList(Shape, frozen=True, kw_only=True):
    """The processes of the bus."""

    results: list[Process]


class HandlerPosition(Shape, frozen=True, kw_only=True):
    """A log in which a handler waits for another attempt, or stands still."""

    room: str
    channel: str
    seq: Annotated[int, Meta(description="The handler is done with the messages up to this one.")]
    lag: Annotated[int, Meta(description="Number of messages that it has not handled.")]
    state: Annotated[Literal["running", "stopped"], Meta(description="A stopped one goes on after a retry.")]
    attempt: Annotated[int, Meta(description="How often the next message failed.")]
    retry_at: Annotated[WireTime | None, Meta(description="When it is tried again.")]
    error: Annotated[
        str, Meta(description="The type of the last exception, and the reference of its entry in the log.")
    ]


class HandlerState(Shape, frozen=True, kw_only=True):
    """A handler of the project, and how far it is."""

    name: str
    pattern: Annotated[str, Meta(description="The channels whose messages it gets.")]
    running: Annotated[bool, Meta(description="Whether a process said lately that it runs the handler.")]
    started_at: WireTime
    seen_at: Annotated[WireTime, Meta(description="When a process said so for the last time.")]
    lag: Annotated[int, Meta(description="Number of messages that it has not handled, over all channels.")]
    handled: Annotated[int, Meta(description="Messages that it handled.")]
    failed: Annotated[int, Meta(description="Attempts that failed.")]
    lost: Annotated[int, Meta(description="Messages that were removed before it came to them.")]
    waiting: Annotated[int, Meta(description="Channels in which it waits for another attempt.")]
    stopped: Annotated[int, Meta(description="Channels in which it stands still.")]
    positions: Annotated[list[HandlerPosition], Meta(description="Some of the channels that wait or stand still.")]


class HandlerList(Shape, frozen=True, kw_only=True):
    """The handlers of the project."""

    results: list[HandlerState]
