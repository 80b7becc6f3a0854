"""The protocol of one connection, without I/O.

Text and a time go in, canonical frames come out; what is wrong is raised. The runtime (``bus.sockets.connection``) carries out
what the frames ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from .dialects import request_id_of
from .errors import BAD_FRAMES, TOO_MANY, BusError, Closing, ErrorCode
from .faults import FrameError
from .inbound import Inbound
from .limits import Limits, TokenBucket, nesting_within
from .sight import id_at_sight
from .usual import read


def read_within(data: bytes, limits: Limits, grammar: Callable[[bytes], Inbound]) -> Inbound:
    """The canonical form of one frame that is within the limits of size, depth and targets. Raises :class:`FrameError`."""
    if len(data) > limits.frame_bytes:
        raise FrameError(
            ErrorCode.FRAME_TOO_LARGE,
            f"The frame has {len(data)} bytes. The limit is {limits.frame_bytes}.",
            request_id=request_id_of(data),
        )
    if not nesting_within(data, limits.depth):
        text = f"The frame nests deeper than {limits.depth} levels."
        raise FrameError(ErrorCode.INVALID_JSON, text, request_id=id_at_sight(data))
    inbound = grammar(data)
    if len(inbound.to) > limits.targets:
        raise FrameError(
            ErrorCode.VALIDATION_ERROR,
            f"A private message may have at most {limits.targets} targets.",
            [{"field": "to"}],
            request_id=inbound.id,
        )
    return inbound


class Session:
    """What one connection may still send. ``grammar`` turns a frame into its canonical form."""

    __slots__ = ("_bad_frames", "_bytes", "_frames", "_grammar", "_refusals", "_shared", "limits")

    def __init__(self, limits: Limits, now: float, grammar: Callable[[bytes], Inbound] = read) -> None:
        self.limits = limits
        self._grammar = grammar
        self._frames = TokenBucket(limits.frames_per_second, limits.frames_burst, now)
        self._bytes = TokenBucket(limits.bytes_per_second, limits.bytes_burst, now)
        self._shared: TokenBucket | None = None
        self._bad_frames: TokenBucket | None = None
        self._refusals: TokenBucket | None = None

    def share(self, bucket: TokenBucket | None) -> None:
        """Take the frames from ``bucket`` too, which other connections of the same principal share."""
        self._shared = bucket

    def receive(self, data: bytes, now: float) -> Inbound:
        """The canonical form of one frame that came at monotonic time ``now`` (seconds).

        Raises :class:`FrameError` or ``BusError`` for a frame that costs one error, and ``Closing`` when the frames
        before it have used up the connection's patience (4008 for bad frames, 4429 for too many).
        """
        limits = self.limits
        wait = self._frames.take(1.0, now) or self._bytes.take(len(data), now)
        if self._shared is not None:
            wait = wait or self._shared.take(1.0, now)
        if wait:
            self._refuse(data, wait, now)
        try:
            inbound = read_within(data, limits, self._grammar)
        except FrameError as problem:
            self._bad(problem, now)
        if len(inbound.to) > 1:
            # It is kept for each target, and counts as often.
            self._owe(len(inbound.to) - 1, len(data))
        registration = inbound.registration
        if registration is not None and registration.resume is not None and limits.memberships:
            # Each membership has its channel's log and at most one room's; the inbox and everybody's come on top.
            most = 2 * limits.memberships + 2
            if len(registration.resume.positions) > most:
                self._bad(
                    FrameError(
                        ErrorCode.VALIDATION_ERROR, f"At most {most} positions are allowed.", request_id=inbound.id
                    ),
                    now,
                )
        return inbound

    def ask(self, cost: int) -> None:
        """A question was asked that is worth ``cost`` frames, the one that it came in among them."""
        if cost > 1:
            self._owe(cost - 1, 0)

    def _owe(self, times: int, size: int) -> None:
        """What was let in is worth ``times`` frames of ``size`` bytes more; later frames wait for that."""
        self._frames.owe(times)
        self._bytes.owe(times * size)
        if self._shared is not None:
            self._shared.owe(times)

    def _bad(self, problem: BusError, now: float) -> NoReturn:
        """A bad frame: one error, or the connection if there were too many of them."""
        if self._bad_frames is None:
            self._bad_frames = TokenBucket(self.limits.bad_frames_per_second, self.limits.bad_frames_burst, now)
        if self._bad_frames.take(1.0, now):
            raise Closing(BAD_FRAMES, problem)
        raise problem

    def _refuse(self, data: bytes, wait: float, now: float) -> NoReturn:
        """A frame above the rate: an error that says when to come back; going on regardless closes the connection."""
        request_id = request_id_of(data) if len(data) <= self.limits.frame_bytes else id_at_sight(data)
        problem = FrameError(ErrorCode.RATE_LIMITED, request_id=request_id, retry_after=wait)
        if self._refusals is None:
            burst = max(self.limits.frames_burst, self.limits.bad_frames_burst)
            self._refusals = TokenBucket(self.limits.bad_frames_per_second, burst, now)
        if self._refusals.take(1.0, now):
            raise Closing(TOO_MANY, problem)
        raise problem
