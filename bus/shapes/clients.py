"""Connected clients."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from .base import Object, Page, WireTime
from .rooms import Card
from .status import AgentCard, Status


class Client(Card, frozen=True, kw_only=True):
    """A connected client, or an agent without a connection that keeps a status."""

    channels: Annotated[list[str], Meta(description="The client's channels whose members the caller may see.")]
    connected_at: Annotated[WireTime | None, Meta(description="null for an agent without a connection.")]
    last_activity: WireTime | None
    status: Annotated[Status | None, Meta(description="What it does now.")] = None
    card: Annotated[AgentCard | None, Meta(description="What it said of itself at its registration.")] = None
    personality: Annotated[Object, Meta(description="Only admins see it.")] | UnsetType = UNSET


class ClientList(Page[Client], frozen=True, kw_only=True):
    """A page of connected clients."""
