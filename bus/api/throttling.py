"""The rate limits over HTTP. They use the socket's settings, with one bucket for each identity (or address) and process."""

from __future__ import annotations

import time
from typing import Any

from django.apps import apps
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from ..auth.attempts import Buckets
from ..auth.permissions import Actor
from ..conf.settings import config
from ..protocol.errors import BusError, ErrorCode
from ..protocol.limits import holder_of
from .authentication import actor_of


def take(actor: Actor, amount: float = 1.0) -> float:
    """Take ``amount`` tokens from the caller's bucket. Returns the seconds to wait, or 0."""
    settings = config()
    return _take(actor, "", amount, settings.rate_limit, settings.rate_burst)


def _take(actor: Actor, what: str, amount: float, rate: float, burst: float) -> float:
    if not config().rate_limit or not rate or amount <= 0:
        return 0.0
    buckets: Buckets = apps.get_app_config("bus").http_buckets  # type: ignore[attr-defined]
    key = what + (actor.principal or f"address:{holder_of(actor.address)}")
    return buckets.take(key, amount, rate, burst, time.monotonic())


def spend(actor: Actor, amount: float, size: int = 0) -> None:
    """Take tokens for a batch, copies or an expensive query, beyond the first of the request, and ``size`` bytes.

    Raises ``BusError`` RATE_LIMITED.
    """
    settings = config()
    # As on a socket: the bucket must be large enough for the largest allowed body, even if it fills slowly.
    most = max(2 * settings.byte_rate_limit, settings.batch_bytes)
    wait = take(actor, amount) or _take(actor, "bytes:", size, settings.byte_rate_limit, most)
    if wait:
        raise BusError(ErrorCode.RATE_LIMITED, retry_after=wait)


class BusThrottle(BaseThrottle):
    """One token for each request, and more for expensive reads (``ARQONBUS_RATE_LIMIT``, ``…_RATE_BURST``; 0: no limit)."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether the caller's bucket has a token."""
        looks = request.method in ("GET", "HEAD")
        self._wait = take(actor_of(request), getattr(view, "look_cost", 1) if looks else 1)
        return not self._wait

    def wait(self) -> float:
        """Seconds until the bucket has a token."""
        return self._wait
