"""Errors."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from .base import Shape


class Fault(Shape, frozen=True, kw_only=True):
    """An error. Its codes are the same on the socket and over REST."""

    code: Annotated[str, Meta(description="Stable name of the error, such as CHANNEL_NOT_FOUND.")]
    number: Annotated[int, Meta(description="Number of the error, equal to its HTTP status.")]
    message: Annotated[str, Meta(description="The fault, and what to do.")]
    details: Annotated[list[Any], Meta(description="All faults, or further facts.")]
    retry_after: Annotated[float, Meta(description="Seconds to wait before a retry.")] | UnsetType = UNSET


class ErrorAnswer(Shape, frozen=True, kw_only=True):
    """The answer to every failed request."""

    error: Fault
