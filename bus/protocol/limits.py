"""The limits of one connection: rates, sizes and depth. The caller passes the time."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import msgspec

from .._speed import core

# A string is one match, so that its brackets do not count. An unfinished string matches up to the end of the text: otherwise
# each quote in it would start a search up to the end again. The decoder refuses such a text.
_STRINGS_AND_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPENING = b"[{"
_QUOTE = ord('"')


class TokenBucket:
    """A bucket that gets ``rate`` tokens a second and holds at most ``burst``. A rate of 0 means no limit."""

    __slots__ = ("burst", "level", "rate", "updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.level = burst
        self.updated = now

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` tokens at monotonic time ``now`` (seconds).

        Returns 0.0 if the bucket had them. Otherwise it takes none, and returns the seconds until it has them.
        """
        if self.rate <= 0:
            return 0.0
        level = min(self.burst, self.level + (now - self.updated) * self.rate)
        self.updated = now
        if level >= amount:
            self.level = level - amount
            return 0.0
        self.level = level
        return (amount - level) / self.rate

    def owe(self, amount: float) -> None:
        """Take ``amount`` tokens, even below zero. The next :meth:`take` waits until the debt is paid."""
        if self.rate > 0:
            self.level -= amount


#: The class above, which defines the other one.
TokenBucketInPython = TokenBucket
if core is not None:
    TokenBucket = core.TokenBucket  # type: ignore[misc]


class Limits(msgspec.Struct, frozen=True):
    """The limits of a connection. The values come from settings. A rate of 0 means no limit."""

    frame_bytes: int = 256 * 1024
    depth: int = 32
    targets: int = 100
    frames_per_second: float = 200.0
    frames_burst: float = 400.0
    bytes_per_second: float = 4 * 1024 * 1024
    bytes_burst: float = 8 * 1024 * 1024
    # A connection may send this many bad frames at once, and one more every two seconds. Above that it is closed with 4008.
    bad_frames_burst: float = 50.0
    bad_frames_per_second: float = 0.5
    memberships: int = 100


@lru_cache(maxsize=4096)
def holder_of(address: str) -> str:
    """The text under which a network address is counted: for IPv6 its /64, since one host has all 2^64 addresses of it."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return address if found.is_loopback else str(ipaddress.IPv6Network((found, 64), strict=False))


@lru_cache(maxsize=4096)
def is_of_this_machine(address: str) -> bool:
    """Whether an address is a loopback address, or empty as for a Unix socket. A proxy may send all clients from there."""
    try:
        return not address or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def nesting_within(data: bytes, limit: int) -> bool:
    """Whether no bracket of the JSON text ``data`` nests deeper than ``limit``.

    The number of opening brackets bounds the depth, and counting them is fast. Only a text with more of them than ``limit`` is
    read bracket by bracket.
    """
    if data.count(b"{") + data.count(b"[") <= limit:
        return True
    depth = 0
    for token in _STRINGS_AND_BRACKETS.finditer(data):
        first = token[0][0]
        if first in _OPENING:
            depth += 1
            if depth > limit:
                return False
        elif first != _QUOTE:
            depth -= 1
    return True
