"""The credentials of a handshake: a token, a JWT, a ticket or a session's cookie becomes an ``Actor``."""

from __future__ import annotations

import asyncio
from typing import Any

from channels.db import database_sync_to_async
from django.apps import apps
from django.conf import settings
from django.db import Error as DatabaseError

from ..auth import identity
from ..auth.attempts import Attempts
from ..auth.permissions import Actor
from ..conf.settings import config
from ..node import Node
from ..protocol.errors import NOT_ALLOWED, SLOW, TOO_MANY, UNIDENTIFIED, BusError, Closing, ErrorCode
from .origin import REFUSED_PAGE, headers_of, is_foreign, origin_allowed, peer_address

#: What a sub-protocol begins with that carries a token or a ticket.
_BEARERS = ("bearer.", "ticket.")
#: The anonymous actor of a page of another site.
FOREIGN = Actor(foreign=True)


class Refused(BusError):
    """The handshake's credentials or origin are refused."""

    @staticmethod
    def closing(problem: BusError) -> Closing:
        """The close code that goes with a refusal."""
        if problem.code == ErrorCode.UNAUTHENTICATED:
            return Closing(UNIDENTIFIED, problem)
        if problem.code == ErrorCode.RATE_LIMITED:
            return Closing(TOO_MANY, problem)
        if problem.number >= 500:
            return Closing(SLOW, problem)
        return Closing(NOT_ALLOWED, problem)


def bearer_of(scope: Any, query: dict[str, str]) -> str | None:
    """The token, JWT or ticket of the handshake: from a header, a sub-protocol or the URL, whose part of ``query`` is removed.

    Raises :class:`Refused`.
    """
    in_url, ticket = query.pop("token", None), query.pop("ticket", None)
    header = headers_of(scope).get(b"authorization", b"").decode("latin-1")
    if header[:7].lower() == "bearer ":
        return header[7:].strip()
    for protocol in scope.get("subprotocols") or ():
        for prefix in _BEARERS:
            if protocol.startswith(prefix):
                return str(protocol[len(prefix) :])
    if ticket is not None:
        if identity.kind_of(ticket) != identity.TICKET:
            raise Refused(ErrorCode.UNAUTHENTICATED, identity.REFUSED)
        return ticket
    if in_url is not None and not config().token_in_url:
        raise Refused(
            ErrorCode.UNAUTHENTICATED,
            "Tokens in the URL are refused. Send the token in a header, as a sub-protocol, or in the first frame.",
        )
    return in_url


async def identify(bearer: str, node: Node, address: str) -> Actor:
    """The actor of a token, JWT or ticket that came from the network address ``address``.

    Raises ``BusError`` UNAUTHENTICATED, UNAVAILABLE, or RATE_LIMITED after too many wrong ones.
    """
    attempts: Attempts = apps.get_app_config("bus").attempts  # type: ignore[attr-defined]
    kind = identity.kind_of(bearer)
    with attempts.bearer(bearer, address, lasting=kind != identity.TICKET):
        return await _actor_of(bearer, kind, node)


async def _actor_of(bearer: str, kind: str, node: Node) -> Actor:
    try:
        match kind:
            case identity.JWT:
                # It may wait for its issuer's keys, which must block neither the loop nor a database thread.
                return await asyncio.to_thread(identity.from_jwt, bearer)
            case identity.TICKET:
                actor: Actor = await node.runtime.run_writer(identity.from_ticket, bearer)
            case identity.OWN:
                # The project's function may take its time, which must block neither the loop nor the node's threads.
                actor = await database_sync_to_async(identity.from_own, thread_sensitive=False)(bearer)
            case _:
                actor = await node.runtime.run(identity.from_token, bearer)
    except DatabaseError:
        raise _unavailable() from None
    return actor


def _unavailable() -> BusError:
    return BusError(
        ErrorCode.UNAVAILABLE, "The server cannot check your identity at the moment. Try again.", retry_after=1.0
    )


def session_key_of(scope: Any) -> str | None:
    """The value of the handshake's session cookie, if there is one; of several the last, as in Django's pages.

    Django's parser is not used: a session's key is never quoted, and Pythons before 3.11.10 and 3.12.6 take seconds for a
    cookie that is (CVE-2024-7592), in the event loop.
    """
    key = ""
    cookies = b";".join(value for name, value in scope.get("headers") or () if name == b"cookie")
    for part in cookies.decode("latin-1").split(";"):
        name, equals, value = part.partition("=")
        if equals and name.strip() == settings.SESSION_COOKIE_NAME:
            key = value.strip()
    return key if key and '"' not in key and "\x00" not in key else None


async def authenticate(scope: Any, query: dict[str, str], node: Node) -> Actor:
    """The actor of a handshake; anonymous without credentials. Raises :class:`Refused`, ``BusError`` UNAUTHENTICATED.

    A page has to know a token, a JWT or a ticket, so these are accepted from any page. A cookie is not: browsers send it with
    the requests of any page, so a handshake with a cookie has to come from a page of ours.
    """
    bearer = bearer_of(scope, query)
    if bearer is not None:
        return await identify(bearer, node, peer_address(scope))
    headers = headers_of(scope)
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers[b"origin"].decode("latin-1") if b"origin" in headers else None
    session_key = session_key_of(scope)
    if session_key is not None:
        if origin is None or not origin_allowed(origin, host):
            raise Refused(ErrorCode.ORIGIN_REFUSED)
        try:
            actor: Actor = await node.runtime.run(identity.from_session, session_key)
        except DatabaseError:
            raise _unavailable() from None
        if not actor.anonymous:
            return actor
    # A page of another site would use its visitors' addresses, or a developer's own machine. It needs a token or a ticket in
    # its first frame.
    return FOREIGN if is_foreign(origin, host) else identity.ANONYMOUS


def check_admitted(actor: Actor, *, anonymous: bool) -> None:
    """Check that a client may be here: identified, or anonymous from a page of ours where ``anonymous`` allows that.

    Raises ``Closing``.
    """
    if actor.anonymous:
        if not anonymous:
            raise Closing(UNIDENTIFIED, BusError(ErrorCode.UNAUTHENTICATED))
        if actor.foreign:
            raise Closing(NOT_ALLOWED, BusError(ErrorCode.ORIGIN_REFUSED, REFUSED_PAGE))
