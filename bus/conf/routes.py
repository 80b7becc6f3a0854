"""Where sockets are: a handshake's path without what a project puts in front of it, and whether a router has a route for it."""

from __future__ import annotations

from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls.exceptions import Resolver404
from django.utils.translation import get_language_from_path


def local_path(scope: Any) -> str:
    """The path below the prefix of the whole project (FORCE_SCRIPT_NAME, the server's ``root_path``), as Django's pages have it.

    Proxies pass on the prefix or take it away: the path is the same for both.
    """
    path: str = scope["path"]
    prefix = (settings.FORCE_SCRIPT_NAME or scope.get("root_path") or "").rstrip("/")
    if prefix and f"{path}/".startswith(f"{prefix}/"):
        return path[len(prefix) :] or "/"
    return path


def candidates(path: str) -> list[str]:
    """``path``, and what else may be meant by it, the likeliest first.

    A handshake cannot be redirected, so the last slash may lack; and pages inside ``i18n_patterns`` look for their socket below
    a language.
    """
    whole = path if path.endswith("/") else f"{path}/"
    found = [path] if path == whole else [path, whole]
    if whole != "/" and settings.USE_I18N and get_language_from_path(whole):
        found.append(f"/{whole.split('/', 2)[2]}")
    return found


def has_route(application: Any, path: str) -> bool | None:
    """Whether an ASGI application takes sockets at ``path``; None where that cannot be seen from outside."""
    if isinstance(application, ProtocolTypeRouter):
        return has_route(application.application_mapping.get("websocket"), path)
    if isinstance(application, URLRouter):
        return _matches(application, path.lstrip("/"))
    # What others wrap around a router: AuthMiddlewareStack, OriginValidator.
    for name in ("inner", "application"):
        if (wrapped := getattr(application, name, None)) is not None:
            return has_route(wrapped, path)
    return None


def found(router: Any, path: str) -> Any | None:
    """The application that a ``URLRouter`` has for ``path``; None without one, and for a router of another kind."""
    match = _first_match(router, path.lstrip("/")) if type(router) is URLRouter else None
    return match[0] if match else None


def _matches(router: Any, rest: str) -> bool | None:
    match = _first_match(router, rest)
    if match is None:
        return False
    inner, rest = match
    return _matches(inner, rest.lstrip("/")) if isinstance(inner, URLRouter) else True


def _first_match(router: Any, rest: str) -> tuple[Any, str] | None:
    """The application of the first route that matches ``rest``, and what is left of ``rest`` for it."""
    for route in router.routes:
        try:
            match = route.pattern.match(rest)
        except Resolver404:
            continue
        if match:
            return route.callback, match[0]
    return None
