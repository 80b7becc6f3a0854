"""The project's own authentication: the function that ``ARQONBUS_IDENTIFY`` names.

::

    # settings.py
    ARQONBUS_IDENTIFY = "shop.bus_auth.identify"

    # shop/bus_auth.py
    def identify(bearer: str) -> User | Identified | None:
        token = AuthToken.objects.filter(key=bearer).select_related("user").first()
        return token and Identified(token.user, expires_at=token.expiry)

The function gets each bearer text that is no access token or ticket of the bus: of a socket's handshake or first frame, and of
REST, event streams and MCP. It returns a user, an :class:`Identified`, or None for a text that it does not know. The bus then
tries its own JWTs. It is called again from time to time (setting ``revalidate``), so that a withdrawn token ends its sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any

import msgspec
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.utils.module_loading import import_string
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated

from ..conf.settings import config
from ..monitoring.failures import where
from ..protocol.errors import BusError, ErrorCode

logger = logging.getLogger("arqonbus.auth")

#: What a function of the project may raise for credentials that are wrong.
REFUSALS = (PermissionDenied, AuthenticationFailed, NotAuthenticated)


class Identified(msgspec.Struct, frozen=True):
    """Who a bearer text shows: a Django user, or somebody whom only the project knows by a ``subject``.

    ``groups`` are the names for grants; None means those of the user. ``admin`` None means the user's permission. ``scopes``
    bound the actions; None means all. ``expires_at`` ends the identity; without a zone it is in UTC.
    """

    user: Any = None
    subject: str = ""
    groups: tuple[str, ...] | None = None
    admin: bool | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None


def problem_of(path: str) -> str | None:
    """Return what is wrong with the setting's value; None if nothing is."""
    try:
        found: Any = function(path)
    except ImportError as problem:
        return f"ARQONBUS_IDENTIFY {path!r} cannot be imported: {problem}"
    if not callable(found) or iscoroutinefunction(found):
        return f"ARQONBUS_IDENTIFY {path!r} is no plain function. The bus calls it in a thread of its own."
    return None


def enabled() -> bool:
    """Return whether the project has a function of its own."""
    return bool(config().identify)


@lru_cache(maxsize=4)
def function(path: str) -> Callable[[str], Any]:
    """Return the function at a dotted path. Raises ``ImportError``."""
    found: Callable[[str], Any] = import_string(path)
    return found


def identified(bearer: str) -> Identified | None:
    """Ask the project's function whom ``bearer`` shows; None if it does not know, or refuses.

    Do not call this in an event loop. Raises ``BusError`` INTERNAL_ERROR if the function fails, and the database's errors.
    """
    try:
        found = function(config().identify)(bearer)
    except REFUSALS:
        return None
    except (DatabaseError, BusError):
        raise
    except Exception as problem:  # noqa: BLE001 - whatever the project raises
        # The text of the exception may hold the secret.
        logger.error("the function of ARQONBUS_IDENTIFY failed: %s", where(problem), extra={"event": "identify_failed"})
        raise BusError(ErrorCode.INTERNAL_ERROR) from None
    if found is None or isinstance(found, Identified):
        return found
    return Identified(found)
