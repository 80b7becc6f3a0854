"""What an entry does to a streamed message: it opens one, adds to it, ends it, or steers its owner.

The caller gives the input. The log fills in the result in the entry's transaction (``log.streamed``).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

#: The states of a stream. Every state but ``OPEN`` is an end.
OPEN, COMPLETE, ABORTED, STOPPED = "open", "complete", "aborted", "stopped"
#: The modes of a stream: one growing text, or a growing list of JSON values.
TEXT, PARTS = "text", "parts"


class StreamState(NamedTuple):
    """A stream as the log has it.

    ``have`` is the number of the newest part, and ``steers`` the number of steers that the owner has not taken.
    ``stopping`` says that an open stream was asked to stop. ``end_seq`` is None while the stream is open.
    """

    id: int
    uid: str
    channel_id: int
    seq: int
    mode: str
    state: str
    have: int
    attempt: int
    client_id: str
    principal: str
    rest: bool
    stopping: bool
    steers: int
    end_seq: int | None


class Snapshot(NamedTuple):
    """A stream and its whole content so far.

    ``data`` is the body of one JSON string (mode ``text``), or JSON values with commas between (mode ``parts``).
    """

    state: StreamState
    data: bytes


class Effect:
    """What an entry does to a stream. ``stream`` is the stream after the commit; None if there is no such stream.

    ``settled`` says that the transaction decided on the entry. An entry that was passed over is not settled.
    """

    __slots__ = ("settled", "stream")

    stream: StreamState | None
    settled: bool
    #: The uid of the stream; empty for an opening, whose entry's ``uid`` it is.
    of: str = ""
    #: Whether the entry inserts a message. The others only change a stream's row.
    message: bool = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the result of an earlier transaction, which was rolled back."""
        self.stream = None
        self.settled = False

    @property
    def size(self) -> int:
        """The bytes that the effect keeps in memory while its entry waits."""
        return 0


class Opening(Effect):
    """The entry's message opens a stream, whose name is the entry's ``uid``.

    ``mode`` is ``text`` or ``parts``. ``client_id`` and ``principal`` are the owner's. ``rest`` says that no connection shows
    whether the owner is still there. ``most`` is how many streams the client may have open; 0 means no limit.
    """

    __slots__ = ("client_id", "mode", "most", "principal", "rest")

    def __init__(self, mode: str, client_id: str, principal: str, *, rest: bool = False, most: int = 0) -> None:
        super().__init__()
        self.mode = mode
        self.client_id = client_id
        self.principal = principal
        self.rest = rest
        self.most = most


class Part(Effect):
    """A part of the stream ``of``, its end, or both.

    ``data`` is the raw body of the delta's JSON string (``mode`` is ``text``) or the raw JSON of the part (``parts``). The
    stream must have the same mode. An empty ``mode`` marks an entry without content, whose ``n`` is the number of the last
    part. ``end`` is the state that the owner ends the stream with. Then the entry is the message ``stream_end``: the caller
    gives its ``head``, and the log builds its ``tail``, with ``payload`` (raw JSON) in it. ``took`` are the uids of steers
    that the owner has taken. ``token`` is the one of the adoption. ``max_bytes`` is how large the stream may become. With
    ``wants_steers`` the result has the open steers.

    ``applied`` says that the part was new. A repeated part makes the entry a duplicate. ``steers`` are the frames of the
    open steers, oldest first. ``untaken`` are the uids of the steers that the owner had not taken at the end.
    """

    __slots__ = (
        "applied", "client_id", "data", "end", "max_bytes", "mode", "n", "of", "payload", "principal", "steers", "token",
        "took", "untaken", "wants_steers",
    )  # fmt: skip

    #: The bytes that the end's envelope takes besides content and payload.
    ENVELOPE: ClassVar[int] = 512
    #: The bytes that an end counts for while it waits. Its transaction reads the whole content, so not too many share one.
    END_BYTES: ClassVar[int] = 65536

    def __init__(
        self,
        of: str,
        n: int,
        mode: str,
        data: bytes,
        client_id: str,
        principal: str,
        *,
        max_bytes: int,
        end: str | None = None,
        payload: bytes | None = None,
        took: tuple[str, ...] = (),
        token: str | None = None,
        wants_steers: bool = False,
    ) -> None:
        super().__init__()
        self.of = of
        self.n = n
        self.mode = mode
        self.data = data
        self.client_id = client_id
        self.principal = principal
        self.max_bytes = max_bytes
        self.end = end
        self.payload = payload
        self.took = took
        self.token = token
        self.wants_steers = wants_steers

    def reset(self) -> None:
        """Forget the result of an earlier transaction, which was rolled back."""
        super().reset()
        self.applied = False
        self.steers: list[bytes] = []
        self.untaken: list[str] = []

    @property
    def message(self) -> bool:  # type: ignore[override]
        """Whether the entry ends the stream, so that it inserts the message ``stream_end``."""
        return self.end is not None

    @property
    def size(self) -> int:
        """The bytes of the content, the payload and the uids. An end counts for the content that its transaction reads."""
        own = len(self.data) + len(self.payload or b"") + sum(map(len, self.took))
        return own if self.end is None else own + self.END_BYTES


class Ending(Effect):
    """The server ends the stream ``of`` with ``state``, if it is still in its ``attempt`` and has ``have`` parts.

    The caller gives the entry's ``head``, as for :class:`Part`. A stream that moved meanwhile makes the entry an error.
    """

    __slots__ = ("attempt", "have", "of", "state")

    def __init__(self, of: str, state: str, attempt: int, have: int) -> None:
        super().__init__()
        self.of = of
        self.state = state
        self.attempt = attempt
        self.have = have


class Steer(Effect):
    """The entry's message is for the owner of the stream ``of``. ``steered`` says that the stream was open."""

    __slots__ = ("of", "steered")

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of = of

    def reset(self) -> None:
        """Forget the result of an earlier transaction, which was rolled back."""
        super().reset()
        self.steered = False
