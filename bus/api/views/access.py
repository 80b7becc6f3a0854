"""The views of the caller's access tokens, of tickets, and of grants (for admins)."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db.models import QuerySet
from msgspec import UNSET, UnsetType
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...auth import tickets
from ...models import AccessToken, Grant, wire_time
from ...protocol.errors import BusError, ErrorCode
from ...services import grants as grant_service
from ...services import tokens as token_service
from ..permissions import IsBusAdmin
from ..queries import GrantFilter, PlainFilter
from ..schema import NUMBER, operation, query
from ..serializers import access as bodies
from .base import DOOR, BusView, decode_cursor, encode_cursor, number_of, page

MOST_ID = 2**63 - 1


def token_row(token: AccessToken, secret: str | UnsetType = UNSET) -> shapes.Token:
    """The public fields of a token, without its digest."""
    return shapes.Token(
        id=token.pk,
        name=token.name,
        prefix=token.prefix,
        user=token.user.get_username() if token.user else None,
        admin=token.admin,
        scopes=token.scopes,
        created_at=wire_time(token.created_at),
        expires_at=wire_time(token.expires_at),
        last_used_at=wire_time(token.last_used_at),
        revoked_at=wire_time(token.revoked_at),
        secret=secret,
    )


class _TokenView(BusView):
    def own(self) -> QuerySet[AccessToken]:
        """The caller's tokens: those of its user. Without a user, or with a limited token, only the used token."""
        actor = self.actor
        rows = AccessToken.objects.select_related("user")
        kind, _, key = actor.principal.partition(":")
        if kind == "user" and token_service.acts_whole(actor):
            return rows.filter(user_id=key)
        kind, _, key = actor.credential.partition(":")
        return rows.filter(pk=key) if kind == "token" else rows.none()


class Tokens(_TokenView):
    """``/tokens``."""

    @operation("tokens_list", "List your access tokens", shapes.TokenList, tag="tokens", parameters=query(PlainFilter))
    def get(self, request: Request) -> Response:
        """Your own access tokens, newest first, including revoked ones. Secrets are not stored."""
        filters = PlainFilter.of(request, Grant.objects.none())
        rows = self.own().order_by("-pk")
        if after := decode_cursor(filters.values["cursor"], 1):
            rows = rows.filter(pk__lt=number_of(after[0]))
        found = list(rows[: filters.size + 1])
        more = encode_cursor(found[filters.size - 1].pk) if len(found) > filters.size else None
        return page([token_row(token) for token in found[: filters.size]], filters, more)

    @operation(
        "tokens_create",
        "Create an access token",
        shapes.Token,
        tag="tokens",
        status=201,
        request=bodies.NewToken,
    )
    def post(self, request: Request) -> Response:
        """Create a token with your identity. Only this answer contains its `secret`. The caller must be a Django user."""
        actor = self.actor
        values = self.read(bodies.NewToken)
        user = token_service.user_of(actor)
        token, secret = token_service.create(
            actor,
            values["name"],
            user=user,
            scopes=values.get("scopes", ()),
            expires_at=values.get("expires_at"),
            door=DOOR,
        )
        return Response(token_row(token, secret), status=201, headers={"Cache-Control": "no-store"})


class OneToken(_TokenView):
    """``/tokens/{id}``."""

    @operation(
        "tokens_revoke",
        "Revoke an access token",
        tag="tokens",
        status=204,
        parameters=[NUMBER],
        errors=(ErrorCode.NOT_FOUND,),
    )
    def delete(self, request: Request, id: int) -> Response:
        """Revoke one of your tokens, at once and in every process. Its connections are closed."""
        token = self.own().filter(pk=min(id, MOST_ID)).first()
        if token is None:
            raise BusError(ErrorCode.NOT_FOUND, "You have no token with this number.")
        token_service.revoke(self.actor, token, door=DOOR)
        return Response(status=204)


class Tickets(BusView):
    """``/tickets``."""

    @operation("tickets_create", "Get a ticket for a socket", shapes.Ticket, tag="tokens", status=201)
    def post(self, request: Request) -> Response:
        """Get a ticket that opens one socket with your identity, within seconds.

        Use a ticket for a page of another site. The site's back end requests the ticket and gives it to the page, so that no
        token is in the browser.
        """
        made = tickets.issue(self.actor)
        ends = datetime.fromtimestamp(made.expires_at, UTC)
        body = shapes.Ticket(ticket=made.text, expires_at=wire_time(ends))
        return Response(body, status=201, headers={"Cache-Control": "no-store"})


def grant_row(grant: Grant) -> shapes.Grant:
    """The public fields of a grant."""
    return shapes.Grant(
        id=grant.pk,
        **{field: getattr(grant, field) for field in grant_service.FIELDS},
        created_at=wire_time(grant.created_at),
        created_by=grant.created_by,
    )


class Grants(BusView):
    """``/grants``."""

    permission_classes = [IsBusAdmin]

    @operation("grants_list", "List grants", shapes.GrantList, tag="grants", parameters=query(GrantFilter))
    def get(self, request: Request) -> Response:
        """The grants, for admins. A ban overrides grants that allow."""
        filters = GrantFilter.of(request, Grant.objects.all())
        rows = filters.qs.order_by("pk")
        if after := decode_cursor(filters.values["cursor"], 1):
            rows = rows.filter(pk__gt=number_of(after[0]))
        found = list(rows[: filters.size + 1])
        more = encode_cursor(found[filters.size - 1].pk) if len(found) > filters.size else None
        return page([grant_row(grant) for grant in found[: filters.size]], filters, more)

    @operation("grants_create", "Create a grant", shapes.Grant, tag="grants", status=201, request=bodies.NewGrant)
    def post(self, request: Request) -> Response:
        """Add a grant, for admins. It takes effect at once, in every process, also for connected clients."""
        grant = grant_service.create(self.actor, self.read(bodies.NewGrant), door=DOOR)
        return Response(grant_row(grant), status=201)


class OneGrant(BusView):
    """``/grants/{id}``."""

    permission_classes = [IsBusAdmin]

    @operation(
        "grants_get",
        "Show a grant",
        shapes.Grant,
        tag="grants",
        parameters=[NUMBER],
        errors=(ErrorCode.NOT_FOUND,),
    )
    def get(self, request: Request, id: int) -> Response:
        """One grant, for admins."""
        return Response(grant_row(_grant(id)))

    @operation(
        "grants_update",
        "Change a grant",
        shapes.Grant,
        tag="grants",
        request=bodies.GrantChanges,
        parameters=[NUMBER],
        errors=(ErrorCode.NOT_FOUND,),
    )
    def patch(self, request: Request, id: int) -> Response:
        """Change the given fields of a grant, for admins. The change takes effect at once."""
        changes = self.changes(bodies.GrantChanges)
        return Response(grant_row(grant_service.update(self.actor, _grant(id), changes, door=DOOR)))

    @operation(
        "grants_delete", "Remove a grant", tag="grants", status=204, parameters=[NUMBER], errors=(ErrorCode.NOT_FOUND,)
    )
    def delete(self, request: Request, id: int) -> Response:
        """Remove a grant, for admins. Clients without another grant leave the channels at once."""
        grant_service.delete(self.actor, _grant(id), door=DOOR)
        return Response(status=204)


def _grant(id: int) -> Grant:
    grant = Grant.objects.filter(pk=min(id, MOST_ID)).first()
    if grant is None:
        raise BusError(ErrorCode.NOT_FOUND, f"There is no grant {id}.")
    return grant
