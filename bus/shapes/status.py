"""What clients say of themselves: their cards and their statuses."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from .base import Shape, WireTime


class AgentCard(Shape, frozen=True, kw_only=True):
    """What a client says of itself at its registration."""

    name: str = ""
    description: str = ""
    skills: list[str] = field(default_factory=list)


class Status(Shape, frozen=True, kw_only=True):
    """What a client does now."""

    status: Annotated[str | None, Meta(description="One word, such as working.")] = None
    task: Annotated[str | None, Meta(description="The task that the client works on.")] = None
    text: Annotated[str | None, Meta(description="A text for people.")] = None
    tokens: Annotated[int | None, Meta(description="Number of tokens that the client has used so far.")] = None
    at: Annotated[WireTime, Meta(description="When the client said so.")]
    until: Annotated[WireTime | None, Meta(description="When the status ends; null: with the connection.")] = None


class StatusOf(Shape, frozen=True, kw_only=True):
    """A client with its status."""

    client_id: str
    status: Annotated[Status | None, Meta(description="null: no status.")]
