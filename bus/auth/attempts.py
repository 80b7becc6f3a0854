"""Wrong credentials cost whoever shows them: tokens, JWTs and tickets on sockets and over REST, and log-ins by password.

Counted by network address, in each process. Behind one address there may be many people (a company, a proxy that
``ARQONBUS_TRUSTED_PROXIES`` does not know of), so a credential that was good a while ago passes whatever others tried, and this
machine's own addresses have ten times as much.
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

#: Addresses, and good credentials, that are remembered.
MOST = 10_000
#: How many tries more this machine's own addresses have.
OWN = 10.0
#: Wrong credentials, and log-ins, that an address gets back each second.
BEARERS_BACK, LOGINS_BACK = 1.0, 1 / 3


class Buckets:
    """A token bucket for each key; those that were not used for longest are forgotten. Safe in threads."""

    def __init__(self, most: int = MOST) -> None:
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, amount: float, rate: float, burst: float, now: float) -> float:
        """0.0 when ``amount`` tokens were there, else the seconds until they would be; nothing is taken then."""
        with self._lock:
            bucket = self._bucket(key, rate, burst, now)
            # What is more than the bucket ever holds is let through when it is full (but for the request), and owed.
            most = max(1.0, bucket.burst - 1)
            wait = bucket.take(min(amount, most), now)
            if not wait:
                bucket.owe(max(0.0, amount - most))
            return wait

    def give_back(self, key: str, amount: float, rate: float, burst: float, now: float) -> None:
        """Tokens that were taken and not needed; less than nothing: some that are owed, up to as many as it may hold."""
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
    """What addresses have left to try in this process."""

    def __init__(self) -> None:
        self._bearers, self._logins = Buckets(), Buckets()
        # Digests of credentials that were good, those used last at the end.
        self._good: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def bearer(self, credential: str, address: str, *, lasting: bool = True) -> Iterator[None]:
        """Around the look at a bearer's text; ``lasting`` where it is good more than once.

        Raises ``BusError`` RATE_LIMITED where too many wrong ones came from ``address``, unless this one was good before.
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
            # Looked at and not taken yet: many good ones may come at once, as after a restart.
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
        """A log-in is tried, right or wrong: it costs a third of a second of CPU. 0.0, or the seconds to wait first."""
        settings = config()
        times = OWN if is_of_this_machine(address) else 1.0
        if not settings.logins or not settings.rate_limit:
            return 0.0
        burst = settings.logins * times
        wait = self._logins.take(holder_of(address), 1.0, LOGINS_BACK * times, burst, time.monotonic())
        if wait:
            metrics.limits.labels("logins").inc()
        return wait
