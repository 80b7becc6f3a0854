"""Rate limits of one connection. The caller passes the time. A flood of frames ends the connection."""

from __future__ import annotations

import ipaddress
import re

import msgspec

# Strings are matched as a whole, so that brackets inside them do not count. An unfinished string is not valid JSON; the
# decoder says so, and here it reaches to the end: were it no match, each quote in it would be tried anew, up to the end again.
_STRINGS_AND_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OPENING = b"[{"
_QUOTE = ord('"')


class TokenBucket:
    """``rate`` tokens a second, at most ``burst`` of them saved up. A rate of 0 means no limit."""

    __slots__ = ("burst", "level", "rate", "updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.level = burst
        self.updated = now

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` tokens at monotonic time ``now`` (seconds).

        Returns 0.0 when they were there, else the seconds until they would be; nothing is taken then.
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
        """Take ``amount`` tokens whether they are there or not: what is taken next waits until the debt is paid."""
        if self.rate > 0:
            self.level -= amount


class Limits(msgspec.Struct, frozen=True):
    """What a connection may do; the values come from settings, 0 switches a rate off."""

    frame_bytes: int = 256 * 1024
    depth: int = 32
    targets: int = 100
    frames_per_second: float = 200.0
    frames_burst: float = 400.0
    bytes_per_second: float = 4 * 1024 * 1024
    bytes_burst: float = 8 * 1024 * 1024
    # Refused frames are forgiven slowly: this many at once, then one every two seconds, then 4008.
    bad_frames_burst: float = 50.0
    bad_frames_per_second: float = 0.5
    memberships: int = 100


def holder_of(address: str) -> str:
    """Whom a network address stands for where it is counted: an IPv6 host has a /64 of 2^64 addresses at its disposal."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return address if found.is_loopback else str(ipaddress.IPv6Network((found, 64), strict=False))


def is_of_this_machine(address: str) -> bool:
    """Whether it is a loopback address (or none, as of a Unix socket), behind which a proxy may stand for everybody."""
    try:
        return not address or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def nesting_within(data: bytes, limit: int) -> bool:
    """Whether no bracket of the JSON text ``data`` nests deeper than ``limit``.

    The count of opening brackets bounds the depth, and counting runs at the speed of ``memchr``; only texts with more
    of them than the limit are walked through.
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
