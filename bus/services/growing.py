"""Streamed messages for Django code, REST and commands: open, append, end, stop, adopt, and a writer for all of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, cast

import msgspec
from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError

from ..auth.permissions import SYSTEM, Actor, checked
from ..conf.settings import config
from ..log.effects import Part
from ..protocol.cutting import cut, json_size
from ..protocol.errors import BusError
from ..protocol.names import Address
from ..publishing import django as publishing
from ..shapes import AdoptedStream, Published, StoppedStream
from . import streams

End = Literal["complete", "aborted", "stopped"]
Mode = Literal["text", "parts"]

#: Seconds in which the texts of a :class:`StreamWriter` gather into one part.
GATHER = 0.04


def open_stream(
    address: str | Address,
    payload: dict[str, Any] | None = None,
    *,
    mode: Mode = "text",
    message: str | None = None,
    type: str = "event",
    id: str | None = None,
    metadata: dict[str, Any] | None = None,
    actor: Actor = SYSTEM,
) -> Published:
    """Publish a message that grows, and return its place. ``stream.of`` of the result names it from then on.

    It grows by texts (``mode`` ``text``) or by JSON objects (``parts``). The other parameters are those of ``publish``. An open
    stream without an append for the seconds of the setting ``stream_rest_grace`` is ended as aborted.

    Raises ``BusError`` as ``publish``, VALIDATION_ERROR for an id that another stream has, and LIMIT_REACHED.
    """
    opening = publishing.message_to(address, payload, message, type=type, id=id, metadata=metadata, stream=mode)
    return publishing.publish_frames([opening], actor=actor).published[0]


def append_to_stream(
    of: str,
    n: int,
    delta: str | None = None,
    *,
    part: dict[str, Any] | None = None,
    took: Sequence[str] = (),
    token: str | None = None,
    actor: Actor = SYSTEM,
) -> Published:
    """Append part ``n`` to the stream ``of``: the text ``delta``, or in mode ``parts`` the JSON object ``part``.

    The first part has the number 1. A repeated part changes nothing. ``took`` are ids of messages that steered the stream and
    that you have taken. ``token`` is the one of an adoption. The result's ``stream`` says how far the stream is, whether it
    was asked to stop, and which messages steer it.

    Raises ``BusError`` VALIDATION_ERROR, FORBIDDEN, STREAM_NOT_FOUND, STREAM_GAP, STREAM_LOST, STREAM_ENDED, FRAME_TOO_LARGE or
    OUTCOME_UNKNOWN.
    """
    inbound = publishing.append_message(of, n, delta=delta, part=part, took=took or None, token=token)
    return publishing.publish_frames([inbound], actor=actor).published[0]


def end_stream(
    of: str,
    n: int,
    state: End = "complete",
    *,
    delta: str | None = None,
    part: dict[str, Any] | None = None,
    payload: dict[str, Any] | None = None,
    took: Sequence[str] = (),
    token: str | None = None,
    id: str | None = None,
    actor: Actor = SYSTEM,
) -> Published:
    """End the stream ``of`` with a last part ``n``, or without one. Then ``n`` is the number of the last part.

    The end is a message with the whole text. ``payload`` is its JSON object, and ``id`` its id. A repeated end returns the place
    of the first one. After a request to stop, the state becomes ``stopped``. Raises ``BusError`` as :func:`append_to_stream`.
    """
    inbound = publishing.append_message(
        of, n, delta=delta, part=part, end=state, payload=payload, took=took or None, token=token, id=id
    )
    return publishing.publish_frames([inbound], actor=actor).published[0]


def stop_stream(of: str, *, actor: Actor = SYSTEM, door: str = "django") -> StoppedStream:
    """Ask the owner of the stream ``of`` to stop. Without an owner the server ends the stream. ``door`` is for the audit log.

    Raises ``BusError`` STREAM_NOT_FOUND, or FORBIDDEN without the right to publish there.
    """
    state = streams.request_stop(checked(actor), of, door=door).state
    return StoppedStream(of=state.uid, state=state.state, have=state.have, stopping=state.stopping)


def adopt_stream(
    of: str, *, keep: bool = True, address: str | Address | None = None, actor: Actor = SYSTEM, door: str = "django"
) -> AdoptedStream:
    """Make ``actor`` the owner of the open stream ``of``. ``keep=False`` throws the parts so far away.

    The appends of the old owner are refused from then on. With an ``address``, a stream of another channel is not found.

    Raises ``BusError`` STREAM_NOT_FOUND, STREAM_ENDED, FORBIDDEN, or INVALID_NAME.
    """
    place = publishing.address_of(address) if address is not None else None
    state, token = streams.adopt(checked(actor), of, keep=keep, address=place, door=door)
    return AdoptedStream(
        of=state.uid, mode=state.mode, have=state.have, attempt=state.attempt, token=token, stopping=state.stopping
    )


class StreamWriter:
    """Writes a message that grows: ``with stream("chat:42") as out: out.write("Hel")``. ``async with`` works as well.

    The texts of :data:`GATHER` seconds travel together; :meth:`flush` sends what is left. The message ends as ``complete`` when
    the block ends, and as ``aborted`` after an exception. Inside a transaction nobody sees a part before the commit.
    """

    def __init__(self, address: str | Address, payload: dict[str, Any] | None = None, **options: Any) -> None:
        self._address = address
        self._payload = payload
        self._actor: Actor = options.get("actor", SYSTEM)
        self._options = {**options, "id": options.get("id") or secrets.token_hex(16)}
        self._waiting: list[str] = []
        self._written = 0
        self._sent_at = 0.0
        self._new: list[dict[str, Any]] = []
        self._known: set[str] = set()
        self._took: list[str] = []
        #: The id of the opening message, which names the stream.
        self.of = ""
        #: The number of the newest part.
        self.have = 0
        #: Whether somebody asked to stop. The writer learns of it with each part that it sends.
        self.stop_requested = False
        #: The JSON object of the end, which you may set.
        self.end_payload: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        self._note(open_stream(self._address, self._payload, **self._options))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._end("complete")
            except Exception:
                self._abort()
                raise
            return
        self._abort()

    def _abort(self) -> None:
        # The server may refuse the last text or the payload, and then takes the end without them. Otherwise it ends the
        # stream itself, after the setting `stream_rest_grace`.
        for _ in range(2):
            with suppress(BusError, DatabaseError):
                self._end("aborted")
                return
            self._waiting.clear()
            self.end_payload = None

    def write(self, text: str) -> None:
        """Add a text. A long one becomes several parts. Raises ``BusError`` as :func:`append_to_stream`, and ``TypeError``."""
        self._check()
        if not isinstance(text, str):
            raise TypeError(f"A streamed text grows by strings, and not by {type(text).__name__}.")
        self._waiting.append(text)
        if time.monotonic() - self._sent_at >= GATHER:
            self.flush()

    def flush(self) -> None:
        """Send the texts that wait. Raises ``BusError`` as :func:`append_to_stream`."""
        self._check()
        while self._waiting:
            self._send_piece(*self._cut())

    def part(self, value: dict[str, Any]) -> None:
        """Add a JSON object (mode ``parts``). Raises ``BusError`` as :func:`append_to_stream`."""
        self._check()
        if not isinstance(value, dict):
            raise TypeError(f"A part is a JSON object, and not {type(value).__name__}.")
        self._append(part=value)

    def steers(self) -> list[dict[str, Any]]:
        """The new messages that steer the stream, as dicts of the JSON that members get: ``id``, ``from``, ``message``…

        With the next part they count as taken.
        """
        new, self._new = self._new, []
        self._took += [message["id"] for message in new]
        return new

    def _check(self) -> None:
        if not self.of:
            raise RuntimeError("The stream is not open. Use `with`, or `async with`.")

    def _cut(self) -> tuple[str, str]:
        """The next piece of the waiting text, and the rest."""
        return cut("".join(self._waiting), config().frame_bytes - Part.ENVELOPE - self._written)

    def _send_piece(self, piece: str, rest: str) -> None:
        self._append(delta=piece)
        self._written += json_size(piece)
        self._waiting = [rest] if rest else []

    def _append(self, **content: Any) -> None:
        self._note(append_to_stream(self.of, self.have + 1, took=self._took, actor=self._actor, **content))
        self._took = []
        self._sent_at = time.monotonic()

    def _end(self, state: End) -> None:
        self._check()
        piece, rest = self._cut()
        while rest:
            self._send_piece(piece, rest)
            piece, rest = self._cut()
        last = {"delta": piece} if piece else {}
        end_stream(
            self.of,
            self.have + len(last),
            state,
            payload=self.end_payload,
            took=self._took,
            actor=self._actor,
            **last,  # type: ignore[arg-type]
        )

    def _note(self, published: Published) -> None:
        place = published.stream
        if place is msgspec.UNSET:
            return
        self.of, self.have, self.stop_requested = place.of, place.have, place.stopping
        for raw in place.steers or ():
            message: dict[str, Any] = msgspec.json.decode(cast("msgspec.Raw", raw))
            if message["id"] not in self._known:
                self._known.add(message["id"])
                self._new.append(message)

    async def __aenter__(self) -> Self:
        return await sync_to_async(self.__enter__, thread_sensitive=True)()

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await sync_to_async(self.__exit__, thread_sensitive=True)(kind, problem, trace)

    async def awrite(self, text: str) -> None:
        """As :meth:`write`, in async code."""
        await sync_to_async(self.write, thread_sensitive=True)(text)

    async def aflush(self) -> None:
        """As :meth:`flush`, in async code."""
        await sync_to_async(self.flush, thread_sensitive=True)()

    async def apart(self, value: dict[str, Any]) -> None:
        """As :meth:`part`, in async code."""
        await sync_to_async(self.part, thread_sensitive=True)(value)


def stream(address: str | Address, payload: dict[str, Any] | None = None, **options: Any) -> StreamWriter:
    """A writer of a message that grows, for ``with`` and ``async with``. ``options`` are those of :func:`open_stream`."""
    return StreamWriter(address, payload, **options)


aopen_stream = sync_to_async(open_stream, thread_sensitive=True)
aappend_to_stream = sync_to_async(append_to_stream, thread_sensitive=True)
aend_stream = sync_to_async(end_stream, thread_sensitive=True)
astop_stream = sync_to_async(stop_stream, thread_sensitive=True)
aadopt_stream = sync_to_async(adopt_stream, thread_sensitive=True)
