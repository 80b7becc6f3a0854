"""Connected clients."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from .base import Object, Page, WireTime
from .rooms import Card


class Client(Card, frozen=True, kw_only=True):
    """A connected client."""

    channels: Annotated[list[str], Meta(description="The client's channels whose members the caller may see.")]
    connected_at: WireTime | None
    last_activity: WireTime | None
    personality: Annotated[Object, Meta(description="Only admins see it.")] | UnsetType = UNSET


class ClientList(Page[Client], frozen=True, kw_only=True):
    """A page of connected clients."""
