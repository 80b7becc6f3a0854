"""The shape of a mark."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .base import Epoch, Seq, Shape


class Mark(Shape, frozen=True, kw_only=True):
    """How far you have dealt with a log."""

    room: str
    channel: str
    seq: Annotated[Seq | None, Meta(description="The last message that you have dealt with; null without a mark.")]
    epoch: Epoch
    unread: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Number of messages behind the mark; null without a mark.")
    ]
