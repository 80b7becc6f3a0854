"""What all shapes share: times, positions, pages."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

WireTime = Annotated[
    str, Meta(description="Time in ISO 8601, UTC, with milliseconds and Z.", extra_json_schema={"format": "date-time"})
]
Seq = Annotated[int, Meta(ge=0, description="Position in the channel's log: 1, 2, 3 … without gaps.")]
Epoch = Annotated[str, Meta(description="Identifier of the log. It changes only if the log was lost or recreated.")]
Object = dict[str, Any]

Row = TypeVar("Row")


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every answer."""


class Page(Shape, Generic[Row], frozen=True, kw_only=True):
    """A page of a list."""

    results: list[Row]
    next: Annotated[
        Annotated[str, Meta(extra_json_schema={"format": "uri"})] | None,
        Meta(description="Address of the next page; null on the last page."),
    ]
