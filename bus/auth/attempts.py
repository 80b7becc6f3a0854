"""Limits for wrong credentials: tokens, JWTs and tickets on sockets and over REST, and log-ins by password.

Each process counts by network address. Many people may share one address: a company, or a proxy that is missing in
``ARQONBUS_TRUSTED_PROXIES``. A credential that was valid a while ago therefore always passes. Addresses of this machine have
ten times the limit.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from ..conf.settings import config
from ..models import digest
from ..monitoring import metrics
from ..protocol.errors import BusError, ErrorCode
from ..protocol.limits import TokenBucket, holder_of, is_of_this_machine

#: Remembered addresses, and remembered valid credentials.
MOST = 10_000
#: Factor of the limits for addresses of this machine.
OWN = 10.0
#: Attempts with credentials, and log-ins, that an address regains each second.
BEARERS_BACK, LOGINS_BACK = 1.0, 1 / 3


class Buckets:
    """A token bucket for each key. The least recently used buckets are dropped. Safe in threads."""

    def __init__(self, most: int = MOST) -> None:
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, amount: float, rate: float, burst: float, now: float) -> float:
        """Take ``amount`` tokens and return 0.0; or take nothing, and return the seconds until they are available."""
        with self._lock:
            bucket = self._bucket(key, rate, burst, now)
            # An amount beyond the size of the bucket passes when the bucket is full, and the rest is owed.
            most = max(1.0, bucket.burst - 1)
            wait = bucket.take(min(amount, most), now)
            if not wait:
                bucket.owe(max(0.0, amount - most))
            return wait

    def give_back(self, key: str, amount: float, rate: float, burst: float, now: float) -> None:
        """Return tokens that were taken and not needed. A negative ``amount`` is owed, up to the size of the bucket."""
        with self._lock:
            bucket = self._bucket(key, rate, burst, now)
            bucket.level = max(-bucket.burst, min(bucket.burst, bucket.level + amount))

    def _bucket(self, key: str, rate: float, burst: float, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None or (bucket.rate, bucket.burst) != (rate, burst):
            bucket = self._buckets[key] = TokenBucket(rate, burst, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket


class Attempts:
    """The remaining attempts of each address in this process."""

    def __init__(self) -> None:
        self._bearers, self._logins = Buckets(), Buckets()
        # Digests of valid credentials, in the order of their last use.
        self._good: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def bearer(self, credential: str, address: str, *, lasting: bool = True) -> Iterator[None]:
        """Wrap the check of a credential. ``lasting`` says that the credential is valid more than once.

        Raises ``BusError`` RATE_LIMITED after too many wrong credentials from ``address``, unless this one was valid before.
        """
        settings = config()
        burst = settings.bad_credentials * (OWN if is_of_this_machine(address) else 1.0)
        if not burst or not settings.rate_limit:
            yield
            return
        key, mark, rate = holder_of(address), digest(credential), BEARERS_BACK * burst / settings.bad_credentials
        with self._lock:
            known = mark in self._good
        if not known:
            # The token is given back until the check fails: after a restart many valid credentials come at once.
            wait = self._bearers.take(key, 1.0, rate, burst, time.monotonic())
            if wait:
                metrics.limits.labels("bad_credentials").inc()
                text = "Too many wrong credentials came from your address. Wait `retry_after` seconds."
                raise BusError(ErrorCode.RATE_LIMITED, text, retry_after=wait)
            self._bearers.give_back(key, 1.0, rate, burst, time.monotonic())
        try:
            yield
        except BusError as problem:
            if problem.code == ErrorCode.UNAUTHENTICATED:
                with self._lock:
                    self._good.pop(mark, None)
                self._bearers.give_back(key, -1.0, rate, burst, time.monotonic())
            raise
        if lasting:
            with self._lock:
                self._good[mark] = None
                self._good.move_to_end(mark)
                if len(self._good) > MOST:
                    self._good.popitem(last=False)

    def login(self, address: str) -> float:
        """Count a log-in, which costs a third of a second of CPU. Returns 0.0, or the seconds to wait before it."""
        settings = config()
        times = OWN if is_of_this_machine(address) else 1.0
        if not settings.logins or not settings.rate_limit:
            return 0.0
        burst = settings.logins * times
        wait = self._logins.take(holder_of(address), 1.0, LOGINS_BACK * times, burst, time.monotonic())
        if wait:
            metrics.limits.labels("logins").inc()
        return wait
