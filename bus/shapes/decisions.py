"""Decisions: questions to people, which stay until somebody decides or their time is over."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from .base import Object, Page, Shape, WireTime

Answer = Literal["approve", "edit", "reject", "respond"]
State = Literal["pending", "approved", "edited", "rejected", "responded", "expired", "cancelled"]
OnExpiry = Literal["reject", "approve", "none"]


class Decision(Shape, frozen=True, kw_only=True):
    """A question to people, as one caller sees it."""

    decision: Annotated[str, Meta(description="Names the decision.")]
    room: str
    channel: str
    key: Annotated[str, Meta(description="The asker's own name of the question.")]
    title: Annotated[str, Meta(description="The question in one line, for people.")]
    action: Annotated[str, Meta(description="The action that the asker wants to do, such as a tool.")]
    args: Annotated[Object, Meta(description="The arguments of the action. After `edited`, those of the decider.")]
    asked_args: Annotated[Object, Meta(description="The arguments as the asker sent them.")]
    allow: Annotated[list[Answer], Meta(description="The answers that people may give.")]
    schema: Annotated[Object | None, Meta(description="JSON Schema of edited arguments; null: any object.")]
    state: State
    answer: Annotated[Answer | None, Meta(description="The answer of a person; null: nobody answered.")]
    comment: Annotated[str, Meta(description="The decider's words. With `respond` they are the answer.")]
    asker: Annotated[str, Meta(description="The client_id of the asker.")]
    by: Annotated[
        str | None, Meta(description="The name of who decided or cancelled; null: nobody yet, or the expiry.")
    ]
    on_expiry: Annotated[OnExpiry, Meta(description="The meaning of the end of the time: a no, a yes, or neither.")]
    created_at: WireTime
    expires_at: WireTime
    ended_at: WireTime | None
    consumed_at: Annotated[WireTime | None, Meta(description="When the asker used the answer; null: not yet.")]
    may_decide: (
        Annotated[bool, Meta(description="Whether the caller may decide now. Messages have no such field.")] | UnsetType
    ) = UNSET


class DecisionList(Page[Decision], frozen=True, kw_only=True):
    """A page of decisions."""


class Decisions(Shape, frozen=True, kw_only=True):
    """A page of decisions, newest first."""

    decisions: list[Decision]
    next: Annotated[str | None, Meta(description="Value of `after` for the next page; null at the end.")]
