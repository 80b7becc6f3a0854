"""Decisions: questions of a program to people. A decision is kept by the server, so asker and decider may restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from .messages import parse_time

#: What a person may answer.
Choice = Literal["approve", "edit", "reject", "respond"]
#: What becomes of a decision that nobody made in time. With ``none`` its state is ``expired``.
OnExpiry = Literal["reject", "approve", "none"]

#: The states of a "yes": the action may be done, with the args of the decision.
_YES = {"approved", "edited"}


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision, as the server had it when it answered."""

    #: The name of the decision, which the other calls take.
    id: str
    room: str
    channel: str
    key: str
    title: str
    action: str
    #: The args of the action. After an ``edit`` they are those of the person.
    args: dict[str, Any]
    #: The args that were asked for.
    asked_args: dict[str, Any]
    #: What a person may answer.
    allow: list[str]
    #: The JSON schema of edited args.
    schema: dict[str, Any] | None
    #: ``pending``, ``approved``, ``edited``, ``rejected``, ``responded``, ``expired`` or ``cancelled``.
    state: str
    #: ``approve``, ``edit``, ``reject`` or ``respond``. None while it is pending.
    answer: str | None
    #: The words of the person. With ``respond`` they are the answer.
    comment: str
    #: The client id of who asks.
    asker: str
    #: Who decided. None while it is pending, and after an expiry.
    by: str | None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    #: When the asker used it.
    consumed_at: datetime | None = None
    #: Whether this client may decide, where the server says it.
    may_decide: bool | None = None
    #: The received object.
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the decision of an object of the server, such as ``payload["decision"]`` of a ``decision_made`` message."""
        args = row.get("args")
        return cls(
            id=str(row["decision"]),
            room=str(row.get("room") or ""),
            channel=str(row.get("channel") or ""),
            key=str(row.get("key") or ""),
            title=str(row.get("title") or ""),
            action=str(row.get("action") or ""),
            args=args if isinstance(args, dict) else {},
            asked_args=row.get("asked_args") or {},
            allow=list(row.get("allow") or ()),
            schema=row.get("schema"),
            state=str(row.get("state") or ""),
            answer=row.get("answer") or None,
            comment=str(row.get("comment") or ""),
            asker=str(row.get("asker") or ""),
            by=row.get("by") or None,
            created_at=parse_time(row.get("created_at")),
            expires_at=parse_time(row.get("expires_at")),
            ended_at=parse_time(row.get("ended_at")),
            consumed_at=parse_time(row.get("consumed_at")),
            may_decide=row.get("may_decide"),
            raw=dict(row),
        )

    @property
    def address(self) -> str:
        """The address ``room:channel``."""
        return f"{self.room}:{self.channel}"

    @property
    def pending(self) -> bool:
        """Whether nobody has decided yet."""
        return self.state == "pending"

    @property
    def yes(self) -> bool:
        """Whether the action may be done with :attr:`args`: it was approved, as it is or with edited args."""
        return self.state in _YES
