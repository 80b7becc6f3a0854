"""The protocol of one connection, without I/O.

The input is text and a time, the output is a canonical frame or an exception. ``bus.sockets.connection`` serves the frames.
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
    """The canonical form of one frame. Raises :class:`FrameError` if it is above the limits of size, depth or targets."""
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
    """The rate limits and the faults of one connection. ``grammar`` turns a frame into its canonical form."""

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
        """Limit the frames by ``bucket`` too, which the connections of one principal share. None ends that."""
        self._shared = bucket

    def receive(self, data: bytes, now: float) -> Inbound:
        """The canonical form of one frame, received at monotonic time ``now`` (seconds).

        Raises :class:`FrameError` or ``BusError`` for a refused frame. Raises ``Closing`` after too many of them: with 4008 for
        bad frames, and with 4429 for frames above the rate.
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
            # A private message is stored once for each target, and counts as many frames.
            self._owe(len(inbound.to) - 1, len(data))
        registration = inbound.registration
        if registration is not None and registration.resume is not None and limits.memberships:
            # A membership has at most two logs, of its channel and of its room. The inbox and the log of everybody are two more.
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
        """Count a query as ``cost`` frames, including the frame that contained it."""
        if cost > 1:
            self._owe(cost - 1, 0)

    def _owe(self, times: int, size: int) -> None:
        """Count the last frame as ``times`` more frames of ``size`` bytes each. Later frames wait for that."""
        self._frames.owe(times)
        self._bytes.owe(times * size)
        if self._shared is not None:
            self._shared.owe(times)

    def _bad(self, problem: BusError, now: float) -> NoReturn:
        """Refuse a bad frame with its error. Too many bad frames raise ``Closing`` with 4008."""
        if self._bad_frames is None:
            self._bad_frames = TokenBucket(self.limits.bad_frames_per_second, self.limits.bad_frames_burst, now)
        if self._bad_frames.take(1.0, now):
            raise Closing(BAD_FRAMES, problem)
        raise problem

    def _refuse(self, data: bytes, wait: float, now: float) -> NoReturn:
        """Refuse a frame above the rate; ``wait`` is the seconds to wait. Too many such frames raise ``Closing`` with 4429."""
        request_id = request_id_of(data) if len(data) <= self.limits.frame_bytes else id_at_sight(data)
        problem = FrameError(ErrorCode.RATE_LIMITED, request_id=request_id, retry_after=wait)
        if self._refusals is None:
            burst = max(self.limits.frames_burst, self.limits.bad_frames_burst)
            self._refusals = TokenBucket(self.limits.bad_frames_per_second, burst, now)
        if self._refusals.take(1.0, now):
            raise Closing(TOO_MANY, problem)
        raise problem
