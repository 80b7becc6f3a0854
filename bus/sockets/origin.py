"""Where a request or handshake comes from: its network address, and whether its page and host are ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from ..conf.settings import config
from ..protocol.errors import BusError, ErrorCode

#: The names of this machine, which Django allows in development where ALLOWED_HOSTS is empty.
LOCAL_NAMES = [".localhost", "127.0.0.1", "[::1]"]
REFUSED_PAGE = (
    "This page and its host name are not allowed without credentials. "
    "If they are yours, add the page to ARQONBUS_ALLOWED_ORIGINS and the host to ALLOWED_HOSTS."
)
_PORTS = {"http": 80, "https": 443}


def headers_of(scope: Any) -> dict[bytes, bytes]:
    """The headers of an ASGI scope; of a header that comes several times the last."""
    return dict(scope.get("headers") or ())


def peer_address(scope: Any) -> str:
    """The network address of a handshake's client, through as many proxies as ``trusted_proxies`` says."""
    client = scope.get("client")
    direct = str(client[0]) if client else ""
    # A proxy may add a header of its own to the one that is there, instead of adding to it.
    forwarded = b",".join(value for name, value in scope.get("headers") or () if name == b"x-forwarded-for")
    return _forwarded_address(direct, forwarded.decode("latin-1"))


def request_address(request: HttpRequest) -> str:
    """As :func:`peer_address`, for a request of Django's."""
    return _forwarded_address(request.META.get("REMOTE_ADDR") or "", request.META.get("HTTP_X_FORWARDED_FOR", ""))


def _forwarded_address(direct: str, forwarded_for: str) -> str:
    """``direct``, or the address that the outermost trusted proxy added to ``X-Forwarded-For``; a client's own is ignored."""
    trusted = config().trusted_proxies
    if trusted:
        parts = [part.strip() for part in forwarded_for.split(",") if part.strip()]
        if len(parts) >= trusted:
            return parts[-trusted][:64]
    return direct


def origin_of(scope: Any) -> str:
    """The page that a handshake says it comes from, as far as log lines show it; empty for none."""
    return headers_of(scope).get(b"origin", b"").decode("latin-1")[:200]


def origin_allowed(origin: str, host: str) -> bool:
    """Whether a page of ``origin`` may use a visitor's cookie at ``host`` (the request's own header).

    A page may when it comes from this very site (the same host and port, the host one of ALLOWED_HOSTS), or from one of the
    ``allowed_origins``. Names are compared whole: a wildcard of ALLOWED_HOSTS allows no other name of the domain. In DEBUG the
    port may differ, for front ends with a development server of their own.
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
    """Whether ``host`` (a request's own header) is a name of this server: one of ALLOWED_HOSTS, as Django checks it.

    A stranger may point a name of his own at this machine (DNS rebinding). The browser then takes his page for ours.
    """
    name, _ = split_domain_port(host)
    return bool(name) and validate_host(name, settings.ALLOWED_HOSTS or (LOCAL_NAMES if settings.DEBUG else []))


def is_foreign(origin: str | None, host: str) -> bool:
    """Whether a client without credentials is a page of another site, or used a name that is none of ours.

    Only browsers send an ``origin``; of other programs only the host can be checked.
    """
    return not host_allowed(host) if origin is None else not origin_allowed(origin, host)


def check_page(request: HttpRequest) -> None:
    """Check a request without credentials. Raises ``BusError`` ORIGIN_REFUSED for a page of another site."""
    try:
        host = request.get_host()
    except DisallowedHost:
        host = ""
    if is_foreign(request.META.get("HTTP_ORIGIN"), host):
        raise BusError(ErrorCode.ORIGIN_REFUSED, REFUSED_PAGE)
