"""The server, its processes and figures."""

from __future__ import annotations

from typing import Annotated

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
