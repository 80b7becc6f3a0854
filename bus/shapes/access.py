"""Identity and rights: the caller, tokens, tickets, grants and the audit log."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from .base import Object, Page, Shape, WireTime


class Me(Shape, frozen=True, kw_only=True):
    """The caller's identity, as the server sees it."""

    name: str
    role: Literal["admin", "user", "anonymous"]
    user: str | None
    token: Annotated[str | None, Meta(description="Name of the access token of this request.")]
    groups: list[str]
    scopes: Annotated[list[str] | None, Meta(description="null: no restriction.")]
    client_ids: Annotated[list[str], Meta(description="Client ids that belong to the caller.")]
    me: Annotated[
        str | None,
        Meta(description="Value of `{me}` in the patterns of grants, such as user-7; null: none."),
    ]
    expires_at: WireTime | None


class Token(Shape, frozen=True, kw_only=True):
    """An access token, without its secret."""

    id: int
    name: str
    prefix: Annotated[str, Meta(description="The first characters of the secret, to recognise the token.")]
    user: Annotated[str | None, Meta(description="The Django user of the token.")]
    admin: bool
    scopes: Annotated[list[str], Meta(description="Allowed actions; empty: all actions of the user.")]
    created_at: WireTime
    expires_at: WireTime | None
    last_used_at: WireTime | None
    revoked_at: WireTime | None
    secret: (
        Annotated[str, Meta(description="The secret. Only the answer that creates the token contains it.")] | UnsetType
    ) = UNSET


class TokenList(Page[Token], frozen=True, kw_only=True):
    """A page of access tokens."""


class Ticket(Shape, frozen=True, kw_only=True):
    """A ticket, which opens one socket."""

    ticket: Annotated[
        str, Meta(description="Send it as sub-protocol `ticket.<ticket>`, or as `ticket` in the first frame or URL.")
    ]
    expires_at: Annotated[WireTime, Meta(description="End of its validity.")]


class Grant(Shape, frozen=True, kw_only=True):
    """A grant."""

    id: int
    subject: str
    subject_name: str
    action: str
    pattern: str
    allow: bool
    created_at: WireTime
    created_by: str


class GrantList(Page[Grant], frozen=True, kw_only=True):
    """A page of grants."""


class AuditEntry(Shape, frozen=True, kw_only=True):
    """An entry of the audit log."""

    id: int
    at: WireTime
    actor: Annotated[str, Meta(description="Name of the actor.")]
    principal: Annotated[
        str,
        Meta(
            description="Identity of the actor: user:…, token:…, jwt:… or system; empty for anonymous clients and old entries."
        ),
    ]
    door: Annotated[str, Meta(description="Interface: socket, rest, admin or command.")]
    action: str
    target: str
    details: Object


class AuditList(Page[AuditEntry], frozen=True, kw_only=True):
    """A page of the audit log, newest first."""
