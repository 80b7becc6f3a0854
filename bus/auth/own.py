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
from collections.abc import Callable, Iterable
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
from ..monitoring.failures import reported, where
from ..protocol.errors import BusError

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

    Do not call this in an event loop. Raises ``BusError`` INTERNAL_ERROR if the function fails or returns something wrong, and
    the database's errors.
    """
    path = config().identify
    try:
        found = function(path)(bearer)
        wrong = None if found is None else _wrong_with(found)
    except REFUSALS:
        return None
    except (DatabaseError, BusError):
        raise
    except Exception as problem:  # noqa: BLE001 - whatever the project raises
        # The text of the exception may hold the secret.
        said = f"the function of ARQONBUS_IDENTIFY, {path}, failed"
        raise reported(logger, said, detail=where(problem), event="identify_failed") from None
    if wrong is not None:
        said = f"the function of ARQONBUS_IDENTIFY, {path}, returned a wrong result"
        raise reported(logger, said, detail=wrong, event="identify_failed")
    if found is None or isinstance(found, Identified):
        return found
    return Identified(found)


def _wrong_with(found: Any) -> str | None:
    """Return what is wrong with a result of the function; None if nothing is. The text names types and no values."""
    if not isinstance(found, Identified):
        return None if _is_user(found) else f"it must be a user, an Identified or None, and is {_kind(found)}."
    # A project's code need not keep to the types.
    made: Any = found
    if made.user is not None and not _is_user(made.user):
        return f"`user` must be a user, and is {_kind(made.user)}."
    if not isinstance(made.subject, str):
        return f"`subject` must be a text, and is {_kind(made.subject)}."
    for name, texts in (("groups", made.groups), ("scopes", made.scopes)):
        if texts is not None and (isinstance(texts, str) or not isinstance(texts, Iterable)):
            return f"`{name}` must be a tuple of texts, and is {_kind(texts)}."
    if made.expires_at is not None and not isinstance(made.expires_at, datetime):
        return f"`expires_at` must be a datetime, and is {_kind(made.expires_at)}."
    return None


def _is_user(value: Any) -> bool:
    return hasattr(value, "is_authenticated") and hasattr(value, "is_active")


def _kind(value: Any) -> str:
    return f"of the type {type(value).__name__}"
