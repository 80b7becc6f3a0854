"""At the door of a socket: origin and credentials of the handshake (contract §6)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import Error as DatabaseError
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from ..auth import identity
from ..auth.attempts import Attempts
from ..auth.permissions import Actor
from ..conf.settings import config
from ..node import Node
from ..protocol.errors import NOT_ALLOWED, SLOW, TOO_MANY, UNIDENTIFIED, BusError, Closing, ErrorCode

#: How a bearer's text is shown as a sub-protocol.
_BEARERS = ("bearer.", "ticket.")
FOREIGN = Actor(foreign=True)
#: What Django takes for this machine where ALLOWED_HOSTS is empty, in development.
LOCAL_NAMES = [".localhost", "127.0.0.1", "[::1]"]
REFUSED_PAGE = (
    "Neither this page nor the name by which it came is allowed without credentials. "
    "If they are yours, name the page in ARQONBUS_ALLOWED_ORIGINS and the host in ALLOWED_HOSTS."
)
_PORTS = {"http": 80, "https": 443}


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


def _headers(scope: Any) -> dict[bytes, bytes]:
    return dict(scope.get("headers") or ())


def peer_address(scope: Any) -> str:
    """The client's network address, through as many proxies as the setting says to trust."""
    client = scope.get("client")
    direct = str(client[0]) if client else ""
    # A proxy may add a header of its own to the one that is there, instead of adding to it.
    forwarded = b",".join(value for name, value in scope.get("headers") or () if name == b"x-forwarded-for")
    return _forwarded_address(direct, forwarded.decode("latin-1"))


def request_address(request: HttpRequest) -> str:
    """The same for a request of Django's."""
    return _forwarded_address(request.META.get("REMOTE_ADDR") or "", request.META.get("HTTP_X_FORWARDED_FOR", ""))


def _forwarded_address(direct: str, forwarded_for: str) -> str:
    """``direct``, or what the outermost trusted proxy wrote into ``X-Forwarded-For``; a client's own is not believed."""
    trusted = config().trusted_proxies
    if trusted:
        parts = [part.strip() for part in forwarded_for.split(",") if part.strip()]
        if len(parts) >= trusted:
            return parts[-trusted][:64]
    return direct


def origin_of(scope: Any) -> str:
    """The page that a handshake says it comes from, as far as the log shows it; "" for none."""
    return _headers(scope).get(b"origin", b"").decode("latin-1")[:200]


def origin_allowed(origin: str, host: str) -> bool:
    """Whether a page of ``origin`` may use a visitor's cookie at ``host`` (the request's own header).

    It may when it comes from this very site (the same host and port, the host one of ALLOWED_HOSTS), or is one of the listed
    origins. Names are compared whole: a wildcard of ALLOWED_HOSTS lets no other name of the domain in. In DEBUG the port may
    differ, for front ends with a development server of their own.
    """
    if origin in config().allowed_origins:
        return True
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in _PORTS or not parts.hostname or parts.path or parts.query or parts.username is not None:
        return False
    if settings.SESSION_COOKIE_SECURE and parts.scheme != "https":
        return False
    if not host_allowed(host):
        return False
    own_host, own_port = split_domain_port(host)
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if settings.DEBUG and validate_host(shown, LOCAL_NAMES):
        return True
    same_port = (port or _PORTS[parts.scheme]) == (int(own_port) if own_port else _PORTS[parts.scheme])
    return shown == own_host and same_port


def host_allowed(host: str) -> bool:
    """Whether ``host`` (a request's own header) is a name of this server, as Django sees it: one of ALLOWED_HOSTS.

    Of a page of somebody else's whose name leads to this machine (DNS rebinding) the browser takes us for its own server.
    """
    name, _ = split_domain_port(host)
    return bool(name) and validate_host(name, settings.ALLOWED_HOSTS or (LOCAL_NAMES if settings.DEBUG else []))


def foreign(origin: str | None, host: str) -> bool:
    """Whether who comes without credentials is a page of another site, or came by a name that is none of ours.

    Only browsers tell an ``origin``; of others the name of the host is all there is to look at.
    """
    return not host_allowed(host) if origin is None else not origin_allowed(origin, host)


def check_page(request: HttpRequest) -> None:
    """For a request that brings no credentials. Raises ``BusError`` ORIGIN_REFUSED for a page of another site."""
    try:
        host = request.get_host()
    except DisallowedHost:
        host = ""
    if foreign(request.META.get("HTTP_ORIGIN"), host):
        raise BusError(ErrorCode.ORIGIN_REFUSED, REFUSED_PAGE)


def bearer_of(scope: Any, query: dict[str, str]) -> str | None:
    """The bearer's text of the handshake, taken out of ``query``: header, sub-protocol, ticket, or (by setting) URL.

    Raises :class:`Refused`.
    """
    in_url, ticket = query.pop("token", None), query.pop("ticket", None)
    header = _headers(scope).get(b"authorization", b"").decode("latin-1")
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
    """The actor of an access token, a JWT or a ticket that came from ``address``, looked at where that may be done.

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
                # It may wait for its issuer's keys, which must keep neither the loop nor a database thread.
                return await asyncio.to_thread(identity.from_jwt, bearer)
            case identity.TICKET:
                actor: Actor = await node.runtime.run_writer(identity.from_ticket, bearer)
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
    """The value of the handshake's session cookie, if it has one; of several the last, which is the one that Django's pages take.

    Looked for by hand: a session's key is never quoted, and Pythons before 3.11.10 and 3.12.6 take seconds to read what is
    (CVE-2024-7592), in the event loop.
    """
    key = ""
    cookies = b";".join(value for name, value in scope.get("headers") or () if name == b"cookie")
    for part in cookies.decode("latin-1").split(";"):
        name, equals, value = part.partition("=")
        if equals and name.strip() == settings.SESSION_COOKIE_NAME:
            key = value.strip()
    return key if key and '"' not in key and "\x00" not in key else None


async def authenticate(scope: Any, query: dict[str, str], node: Node) -> Actor:
    """The actor of a handshake; anonymous when it brings nothing. Raises :class:`Refused`, ``BusError`` UNAUTHENTICATED.

    Credentials that a page has to know (token, JWT, ticket) are good from any page. A cookie is not: browsers send it along
    with the requests of any page, so whoever comes with one has to come from a page of ours.
    """
    bearer = bearer_of(scope, query)
    if bearer is not None:
        return await identify(bearer, node, peer_address(scope))
    headers = _headers(scope)
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin")
    ours = origin is not None and origin_allowed(origin.decode("latin-1"), host)
    session_key = session_key_of(scope)
    if session_key is not None:
        if not ours:
            raise Refused(ErrorCode.ORIGIN_REFUSED)
        try:
            actor: Actor = await node.runtime.run(identity.from_session, session_key)
        except DatabaseError:
            raise _unavailable() from None
        if not actor.anonymous:
            return actor
    if foreign(None if origin is None else origin.decode("latin-1"), host):
        # A page of another site, which would use its visitors' addresses, or a developer's own machine: it needs a token or
        # ticket in the first frame.
        return FOREIGN
    return identity.ANONYMOUS


def check_admitted(actor: Actor, *, anonymous: bool) -> None:
    """Raise ``Closing`` unless ``actor`` may be here: identified, or anonymous where that is allowed and from a page of ours."""
    if actor.anonymous:
        if not anonymous:
            raise Closing(UNIDENTIFIED, BusError(ErrorCode.UNAUTHENTICATED))
        if actor.foreign:
            raise Closing(NOT_ALLOWED, BusError(ErrorCode.ORIGIN_REFUSED, REFUSED_PAGE))
