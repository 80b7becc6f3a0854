"""`WireClient`: one real connection to the bus that remembers every frame.

It speaks both dialects of the protocol (docs/protocol.md) and knows nothing of the server's code. A task
of its own takes the frames as they come; `expect` looks through what has come and waits for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State
from websockets.typing import Subprotocol

T = TypeVar("T")
Dialect = Literal["v0", "v1"]
Predicate = Callable[[dict[str, Any]], object]

DEFAULT_TIMEOUT = 10.0

_ids = itertools.count(1)
_RUN = secrets.token_hex(4)


def new_id() -> str:
    """A message id that is unique in this test run, in the form of both dialects."""
    return f"arq_t{_RUN}_{next(_ids)}"


class Observer(Protocol):
    """Who is told of everything that connections send and get, such as `recorder.Recorder`; `link` is a connection's number."""

    def connecting(self, link: int, registration: Mapping[str, Any]) -> None:
        """A connection is about to register with these fields."""

    def disconnected(self, link: int) -> None:
        """A connection has ended; it may be said twice."""

    def asked(self, link: int, request_id: str, parameters: Mapping[str, Any]) -> None:
        """A command was sent."""

    def invoked(self, link: int, client: str, frame: Mapping[str, Any]) -> None:
        """A message is about to be sent by `client`."""

    def received(self, link: int, frame: dict[str, Any]) -> None:
        """A frame has come, in the order of its connection."""


class WireError(AssertionError):
    """The server answered a request with an error. `code` and `number` are those of the error frame."""

    def __init__(self, frame: Mapping[str, Any]) -> None:
        self.frame = frame
        error = frame.get("error") or {}
        self.code: str = error.get("code", "")
        self.number: int = error.get("number", 0)
        self.details: Any = error.get("details")
        super().__init__(f"{self.code} ({self.number}): {error.get('message')} {self.details or ''}".strip())


@dataclass(slots=True)
class Received:
    """One frame as it came."""

    frame: dict[str, Any]
    raw: str
    at: float
    """Monotonic time of the arrival, in seconds."""
    taken: bool = False
    """Whether an `expect` has handed it out."""


class WireClient:
    """A connection. Make one with `WireClient.connect`; it is an async context manager that closes itself."""

    def __init__(self, url: str, *, dialect: Dialect = "v0", recorder: Observer | None = None) -> None:
        self.url = url
        self.dialect: Dialect = dialect
        self.recorder = recorder
        self.registration: dict[str, Any] = {}
        self.received: list[Received] = []
        self.welcome: dict[str, Any] = {}
        self.registered: dict[str, Any] = {}
        self.positions: dict[str, dict[str, Any]] = {}
        """Address -> {epoch, seq}: how far this client has seen each log that reaches it."""
        self.number = next(_ids)
        self._arrived = asyncio.Event()
        self._heads: dict[str, int] = {}
        self._asked: dict[str, Mapping[str, Any]] = {}
        self._answers: dict[str, asyncio.Future[Received]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self._unpaused = asyncio.Event()
        self._unpaused.set()

    # Connecting and closing

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        dialect: Dialect = "v0",
        register: bool = True,
        headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] | None = None,
        origin: str | None = None,
        compression: Literal["deflate"] | None = None,
        recorder: Observer | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        **registration: Any,
    ) -> Self:
        """Connect, read the welcome, and register with the given fields.

        With `register=False` only the connection is made and nothing is awaited. `origin` is that header.
        Raises WireError if the server refuses the registration, InvalidStatus if it refuses the handshake.
        """
        self = cls(url, dialect=dialect, recorder=recorder)
        extra = dict(headers or {})
        if origin is not None:
            extra["Origin"] = origin
        self._socket = await connect(
            url,
            additional_headers=extra,
            subprotocols=[Subprotocol(name) for name in subprotocols] if subprotocols else None,
            compression=compression,
            max_size=None,
            max_queue=None,
            open_timeout=timeout,
            close_timeout=2,
            ping_interval=None,
            proxy=None,
        )
        self._reader = asyncio.create_task(self._read(), name=f"wire-client-{self.number}")
        if register:
            try:
                await self.register(timeout=timeout, **registration)
            except BaseException:
                await self.close()
                raise
        return self

    async def register(self, *, timeout: float = DEFAULT_TIMEOUT, **registration: Any) -> dict[str, Any]:
        """Send a registration frame and return the payload of the answer (`event: registered`)."""
        self.registration = registration
        if self.recorder is not None:
            self.recorder.connecting(self.number, registration)
        self.welcome = (await self.expect(type="system", event="welcome", timeout=timeout))["payload"]
        frame: dict[str, Any] = {"client_id": self.welcome.get("client_id"), **registration}
        if self.dialect == "v1":
            frame = {**self._v1_head("register"), **frame}
        await self.send(frame)
        answer = await self.expect(
            predicate=lambda f: f.get("type") == "error" or _event(f) == "registered", timeout=timeout
        )
        if answer["type"] == "error":
            raise WireError(answer)
        self.registered = answer["payload"]
        return self.registered

    @property
    def client_id(self) -> str:
        """The id the server gave or confirmed."""
        return str(self.registered.get("client_id") or self.welcome["client_id"])

    @property
    def socket(self) -> ClientConnection:
        """The connection of the `websockets` library."""
        assert self._socket is not None, "not connected"
        return self._socket

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with the handshake, if still open. Safe to call twice."""
        self._unpaused.set()
        with contextlib.suppress(AttributeError):
            self.socket.transport.resume_reading()
        await self.socket.close(code, reason)
        await self._finish_reader()
        if self.recorder is not None:
            self.recorder.disconnected(self.number)

    async def cut(self) -> None:
        """Cut the TCP connection without a closing handshake, as a broken line does."""
        self.socket.transport.abort()
        await self._finish_reader()
        if self.recorder is not None:
            self.recorder.disconnected(self.number)

    async def _finish_reader(self) -> None:
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=DEFAULT_TIMEOUT)

    async def wait_closed(self, timeout: float = DEFAULT_TIMEOUT) -> int:
        """Wait until the server has closed the connection; the close code (1006: none was received)."""
        assert self._reader is not None
        done, _ = await asyncio.wait([self._reader], timeout=timeout)
        assert done, f"the connection is still open after {timeout:g} s; {self._last_frames()}"
        return self.close_code or 1006

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self.socket.state is State.CLOSED

    @property
    def close_code(self) -> int | None:
        """The close code, None while open."""
        return self.socket.close_code

    @property
    def close_reason(self) -> str | None:
        """The close reason, None while open."""
        return self.socket.close_reason

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def reconnect(self, *, resume: bool = True, url: str | None = None, **registration: Any) -> WireClient:
        """Open a new connection with the same registration, which resumes where this one stopped."""
        fields = {**self.registration, "client_id": self.client_id, **registration}
        if resume:
            fields["resume"] = {"token": self.registered.get("resume_token"), "positions": self.positions}
        return await type(self).connect(url or self.url, dialect=self.dialect, recorder=self.recorder, **fields)

    # A slow reader

    def pause_reading(self) -> None:
        """Stop taking bytes from the socket: the server's send buffer fills up."""
        self._unpaused.clear()
        self.socket.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        self._unpaused.set()
        self.socket.transport.resume_reading()

    # Receiving

    async def _read(self) -> None:
        try:
            async for raw in self.socket:
                text = raw if isinstance(raw, str) else raw.decode()
                frame = json.loads(text)
                assert isinstance(frame, dict), f"the server sent {text[:200]!r}, which is no object"
                self._take(Received(frame, text, time.monotonic()))
                await self._unpaused.wait()
        except ConnectionClosed:
            pass
        finally:
            if self.recorder is not None:
                self.recorder.disconnected(self.number)
            self._arrived.set()
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(
                        AssertionError(
                            f"the connection ended ({self.close_code} {self.close_reason}) before the answer"
                        )
                    )
                    waiting.exception()  # seen, also where nobody waits for it any more

    def _take(self, received: Received) -> None:
        frame = received.frame
        self._note_position(frame)
        if self.recorder is not None:
            self.recorder.received(self.number, frame)
        if isinstance(frame.get("seq"), int) and frame.get("type") != "ack":
            address = address_of(frame)
            self._heads[address] = max(frame["seq"], self._heads.get(address, 0))
        waiting = None
        if frame.get("type") in ("ack", "error", "command_response"):
            waiting = self._answers.get(str(frame.get("request_id")))
        if waiting is not None and not waiting.done():
            received.taken = True
            waiting.set_result(received)
        self.received.append(received)
        self._arrived.set()

    async def _answer(self, request_id: str, frame: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises AssertionError when none comes in time."""
        waiting = asyncio.get_running_loop().create_future()
        self._answers[request_id] = waiting
        try:
            async with asyncio.timeout(timeout):
                await self.send(frame)
                return cast(Received, await waiting).frame
        except TimeoutError:
            raise AssertionError(f"no answer to {request_id} within {timeout:g} s; {self._last_frames()}") from None
        finally:
            del self._answers[request_id]

    def _note_position(self, frame: dict[str, Any]) -> None:
        """Keep `positions` as a careful client does: from the answers to joins, then from each message."""
        if _event(frame) == "registered":
            resumed = (self.registration.get("resume") or {}).get("positions") or {}
            for address, entry in (frame["payload"].get("channels") or {}).items():
                since = (resumed.get(address) or {}).get("seq")
                self._set_position(address, entry, since)
        elif frame.get("type") == "command_response" and frame.get("status") == "success":
            result = frame.get("result") or {}
            asked = self._asked.pop(str(frame.get("request_id")), {})
            if frame.get("command") == "join_channel":
                for address, entry in (result.get("positions") or {}).items():
                    self.positions.setdefault(address, dict(entry))  # the room's own log comes with the channel
                self._set_position(address_of(result), result, asked.get("since"))
            elif frame.get("command") == "leave_channel":
                self.positions.pop(address_of(result), None)
        elif isinstance(frame.get("seq"), int) and frame.get("type") != "ack":
            position = self.positions.setdefault(address_of(frame), {"seq": 0})
            position["seq"] = max(position["seq"], frame["seq"])

    def _set_position(self, address: str, entry: Mapping[str, Any], since: Any) -> None:
        """The head of an answer is where this client is, unless what it missed is still to come."""
        seq = entry["seq"]
        if entry.get("recovered") is False:
            seq = entry["first_seq"] - 1
        elif isinstance(since, int):
            seq = since
        self.positions[address] = {"epoch": entry["epoch"], "seq": seq}

    @property
    def frames(self) -> list[dict[str, Any]]:
        """All frames received so far, oldest first."""
        return [received.frame for received in self.received]

    def messages(self, address: str | None = None, *, type: str | None = None) -> list[dict[str, Any]]:
        """All delivered messages so far (frames with a `seq`), of one address or type if given."""
        return [
            frame
            for frame in self.frames
            if isinstance(frame.get("seq"), int)
            and frame.get("type") != "ack"
            and (address is None or address_of(frame) == address)
            and (type is None or frame.get("type") == type)
        ]

    async def expect(
        self,
        type: str | None = None,
        event: str | None = None,
        *,
        predicate: Predicate | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        **fields: Any,
    ) -> dict[str, Any]:
        """The first frame not yet taken that matches; it is then taken.

        `event` is `payload.event`; `fields` are compared with the frame's top level. Waits `timeout` seconds
        at most. Raises AssertionError with the last frames when none comes or the connection ends before.
        """
        matches = _matcher(type, event, predicate, fields)
        examined = 0

        def find() -> Received | None:
            nonlocal examined
            for index in range(examined, len(self.received)):
                received = self.received[index]
                if not received.taken and matches(received.frame):
                    return received
            examined = len(self.received)
            return None

        received = await self._wait_for(find, _wanted(type, event, predicate, fields), timeout)
        assert received is not None
        received.taken = True
        return received.frame

    async def wait_seq(self, address: str, seq: int, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Wait until a message of `address` with this seq or a later one has come; nothing is taken."""
        await self._wait_for(lambda: self._heads.get(address, 0) >= seq, f"seq {seq} of {address}", timeout)

    async def wait_messages(self, address: str, count: int, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Wait until so many messages of `address` have come, the same one again counted again; nothing is taken."""
        await self._wait_for(lambda: len(self.messages(address)) >= count, f"{count} messages of {address}", timeout)

    async def expect_all(self, count: int, *, timeout: float = DEFAULT_TIMEOUT, **match: Any) -> list[dict[str, Any]]:
        """`count` matching frames in the order they came; `match` as for `expect`."""
        end = time.monotonic() + timeout
        return [await self.expect(timeout=max(0.0, end - time.monotonic()), **match) for _ in range(count)]

    async def expect_nothing(
        self,
        type: str | None = None,
        event: str | None = None,
        *,
        after: Iterable[WireClient] = (),
        until: Mapping[str, Any] | None = None,
        predicate: Predicate | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        **fields: Any,
    ) -> None:
        """No matching frame has come that is not taken yet: a barrier, not a sleep.

        First every client in `after` does a ping, so that the server has handled what they sent, then this
        one: what the server has sent it before is here when the answer is. That holds within one process.
        Across processes let the other side publish a marker that this client must see, and name it:
        `until={"message": "marker"}` (matched as by `expect`, and taken); frames before it are judged.
        """
        for client in after:
            await client.ping()
        if until is None:
            await self.ping()
            judged = list(self.received)
        else:
            marker = await self.expect(timeout=timeout, **until)
            position = next(i for i, received in enumerate(self.received) if received.frame is marker)
            judged = self.received[:position]
        matches = _matcher(type, event, predicate, fields)
        unwanted = [received.frame for received in judged if not received.taken and matches(received.frame)]
        assert not unwanted, f"nothing was expected, but this came: {_shown(unwanted)}"

    async def _wait_for(self, find: Callable[[], T], what: str, timeout: float) -> T:
        try:
            async with asyncio.timeout(timeout):
                while True:
                    found = find()
                    if found:
                        return found
                    if self._reader is None or self._reader.done():
                        raise AssertionError(
                            f"the connection ended ({self.close_code} {self.close_reason}) before {what}; "
                            + self._last_frames()
                        )
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise AssertionError(f"within {timeout:g} s no {what}; {self._last_frames()}") from None

    def _last_frames(self) -> str:
        return f"the last of {len(self.received)} frames: {_shown(self.frames[-6:])}"

    # Sending

    async def send(self, frame: Mapping[str, Any] | str | bytes) -> None:
        """Send a frame: an object as JSON, text and bytes as they are. Raises ConnectionClosed."""
        await self.socket.send(frame if isinstance(frame, (str, bytes)) else json.dumps(frame))

    def _v1_head(self, kind: str, message_id: str | None = None) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        sender = self.registered.get("client_id") or self.welcome.get("client_id") or "unknown"
        return {
            "version": "1.0",
            "id": message_id or new_id(),
            "type": kind,
            "from": sender,
            "timestamp": now,
        }

    def command_frame(self, command: str, parameters: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        """A command in this client's dialect: v0 with `args` at the top level, v1 inside the payload."""
        if self.dialect == "v1":
            head = self._v1_head("command", request_id)
            return {**head, "payload": {"command": command, "parameters": dict(parameters)}}
        return {"type": "command", "id": request_id, "command": command, "args": dict(parameters)}

    async def command(self, command: str, *, timeout: float = DEFAULT_TIMEOUT, **parameters: Any) -> dict[str, Any]:
        """Run a command; the whole answer frame, also when it tells of an error."""
        request_id = new_id()
        self._asked[request_id] = parameters
        if self.recorder is not None:
            self.recorder.asked(self.number, request_id, parameters)
        return await self._answer(request_id, self.command_frame(command, parameters, request_id), timeout)

    async def request(self, command: str, *, timeout: float = DEFAULT_TIMEOUT, **parameters: Any) -> dict[str, Any]:
        """Run a command that must succeed; its `result`. Raises WireError."""
        answer = await self.command(command, timeout=timeout, **parameters)
        if answer.get("status") != "success":
            raise WireError(answer)
        return cast(dict[str, Any], answer.get("result") or {})

    async def ping(self, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """A barrier: when this returns, the server has handled all this client sent before."""
        await self.request("ping", timeout=timeout)

    async def join(self, room: str, channel: str, **parameters: Any) -> dict[str, Any]:
        """Join a channel; the result. Raises WireError."""
        return await self.request("join_channel", room=room, channel=channel, **parameters)

    async def leave(self, room: str, channel: str) -> dict[str, Any]:
        """Leave a channel; the result. Raises WireError."""
        return await self.request("leave_channel", room=room, channel=channel)

    def message_frame(self, message_id: str, message: Any = None, **fields: Any) -> dict[str, Any]:
        """A message in this client's dialect. `fields`: type, room, channel, to, payload, ack, echo …"""
        fields = {key: value for key, value in fields.items() if value is not None}
        kind = fields.pop("type", "event")
        if self.dialect == "v0":
            frame = {"type": kind, "id": message_id, **fields}
            if message is not None:
                frame["message"] = message
            return frame
        payload = dict(fields.pop("payload", {}))
        if message is not None:
            payload["message"] = message
        if "to" in fields:
            to = fields.pop("to")
            payload["target" if isinstance(to, str) else "targets"] = to
        return {**self._v1_head(kind, message_id), **fields, "payload": payload}

    async def publish(
        self,
        message: Any = None,
        *,
        ack: bool = False,
        message_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        **fields: Any,
    ) -> dict[str, Any]:
        """Publish a message. With `ack` wait for the acknowledgement and return it, else the sent frame.

        `fields` as for `message_frame`. Raises WireError when the server refuses an acked message,
        AssertionError when it does not answer in time or the connection ends, ConnectionClosed when it has
        ended before (in both cases the fate of the message is unknown).
        """
        message_id = message_id or new_id()
        frame = self.message_frame(message_id, message, ack=True if ack else None, **fields)
        if self.recorder is not None:
            self.recorder.invoked(self.number, self.client_id, frame)
        if not ack:
            await self.send(frame)
            return frame
        answer = await self._answer(message_id, frame, timeout)
        if answer["type"] == "error":
            raise WireError(answer)
        return answer


async def refused_status(url: str, **options: Any) -> int:
    """The HTTP status with which the server refuses the handshake; AssertionError if it accepts."""
    try:
        client = await WireClient.connect(url, register=False, **options)
    except InvalidStatus as error:
        return error.response.status_code
    await client.close()
    raise AssertionError(f"{url} accepted the handshake")


def address_of(frame: Mapping[str, Any]) -> str:
    """The log a delivered message belongs to, as `room:channel`."""
    return f"{frame.get('room')}:{frame.get('channel')}"


def _event(frame: Mapping[str, Any]) -> Any:
    payload = frame.get("payload")
    return payload.get("event") if isinstance(payload, dict) else None


def _matcher(
    type: str | None,
    event: str | None,
    predicate: Predicate | None,
    fields: Mapping[str, Any],
) -> Callable[[dict[str, Any]], bool]:
    def matches(frame: dict[str, Any]) -> bool:
        return (
            (type is None or frame.get("type") == type)
            and (event is None or _event(frame) == event)
            and all(frame.get(key) == value for key, value in fields.items())
            and (predicate is None or bool(predicate(frame)))
        )

    return matches


def _wanted(
    type: str | None,
    event: str | None,
    predicate: Predicate | None,
    fields: Mapping[str, Any],
) -> str:
    parts = [f"{key}={value!r}" for key, value in {"type": type, "event": event, **fields}.items() if value is not None]
    if predicate is not None:
        parts.append("the predicate")
    return "frame with " + (", ".join(parts) or "anything")


def _shown(frames: list[dict[str, Any]]) -> str:
    return " | ".join(json.dumps(frame)[:400] for frame in frames) or "none"
