"""At the door of a socket: origin and credentials of the handshake (contract §6)."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

from . import identity
from .conf import anonymous_allowed, config
from .node import Node
from .permissions import Actor
from .protocol.errors import NOT_ALLOWED, UNIDENTIFIED, BusError, Closing


class Refused(BusError):
    """The handshake's credentials or origin are refused."""

    @staticmethod
    def closing(problem: BusError) -> Closing:
        """The close code that goes with a refusal."""
        if problem.code == "UNAUTHENTICATED":
            return Closing(UNIDENTIFIED, problem)
        if problem.number >= 500:
            return Closing(4013, problem)
        return Closing(NOT_ALLOWED, problem)


def _headers(scope: Any) -> dict[bytes, bytes]:
    return dict(scope.get("headers") or ())


def peer_address(scope: Any) -> str:
    """The client's network address, through as many proxies as the setting says to trust."""
    client = scope.get("client")
    direct = str(client[0]) if client else ""
    trusted = config().trusted_proxies
    if trusted:
        forwarded = [
            part.strip()
            for part in _headers(scope).get(b"x-forwarded-for", b"").decode("latin-1").split(",")
            if part.strip()
        ]
        if len(forwarded) >= trusted:
            return forwarded[-trusted]
    return direct


def origin_allowed(origin: str, host: str) -> bool:
    """Whether a browser page of that origin may use a visitor's cookie: an exact match of host, or one of the listed origins."""
    if origin in config().allowed_origins:
        return True
    try:
        parts = urlsplit(origin)
        name, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not name:
        return False
    hosts = settings.ALLOWED_HOSTS or (["localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else [])
    shown = f"[{name}]" if ":" in name else name
    if not validate_host(shown, hosts):
        return False
    # The page comes from this very site: same host and port as the request's own Host header.
    own = urlsplit(f"//{host}")
    try:
        same_port = (port or {"http": 80, "https": 443}[parts.scheme]) == (
            own.port or {"http": 80, "https": 443}[parts.scheme]
        )
    except ValueError:
        return False
    return bool(settings.DEBUG) or same_port


def bearer_of(scope: Any, query: dict[str, str]) -> str | None:
    """The token of the handshake: header, sub-protocol, or (by setting) query string. Raises :class:`Refused`."""
    header = _headers(scope).get(b"authorization", b"").decode("latin-1")
    if header[:7].lower() == "bearer ":
        return header[7:].strip()
    for protocol in scope.get("subprotocols") or ():
        if protocol.startswith("bearer."):
            return str(protocol[len("bearer.") :])
    if "token" in query:
        token = query.pop("token")
        if not config().token_in_url:
            raise Refused(
                "UNAUTHENTICATED",
                "Tokens in the URL are refused; send it in a header, as a sub-protocol, or in the first frame.",
            )
        return token
    return None


async def authenticate(scope: Any, query: dict[str, str], node: Node) -> Actor:
    """The actor of a handshake; anonymous when it brings nothing. Raises :class:`Refused`, ``BusError`` UNAUTHENTICATED."""
    headers = _headers(scope)
    token = bearer_of(scope, query)
    if token is not None:
        actor: Actor = await node.run(identity.from_token, token)
        return actor
    cookie = headers.get(b"cookie")
    origin = headers.get(b"origin")
    if cookie and settings.SESSION_COOKIE_NAME.encode() in cookie:
        morsel = SimpleCookie(cookie.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
        if morsel is not None:
            # A cookie travels with requests of any page, so who uses it must come from one of ours.
            host = headers.get(b"host", b"").decode("latin-1")
            if origin is None or not origin_allowed(origin.decode("latin-1"), host):
                raise Refused("ORIGIN_REFUSED")
            actor = await node.run(identity.from_session, morsel.value)
            if not actor.anonymous:
                return actor
    if origin is not None and anonymous_allowed():
        host = headers.get(b"host", b"").decode("latin-1")
        if not settings.DEBUG and not origin_allowed(origin.decode("latin-1"), host):
            raise Refused("ORIGIN_REFUSED")
    return identity.ANONYMOUS
