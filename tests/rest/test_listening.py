"""Event streams that the ASGI application sends: an open one holds no thread, and Django's middleware has its say before."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bus.api import listening
from bus.node import current
from tests.conftest import StartServer
from tests.harness.backends import Backends, Storage
from tests.harness.server import BusServer, ServerKind
from tests.harness.waiting import wait_for
from tests.rest.test_events import streams
from tests.rest.test_ways_out import HOST

#: The most threads of a process, however many listen to it.
THREADS = 40

SCOPE = {"type": "http", "path": "/bus/api/v1/channels/lab:a/events"}


def threads(server: BusServer) -> int:
    """How many threads the server's process has now."""
    return len(list(Path(f"/proc/{server.pid}/task").iterdir()))


class Crowd:
    """Many listeners at one address, who all come at once. The answer to each begins with an event of this name."""

    def __init__(self, server: BusServer, path: str, first: str) -> None:
        self._server = server
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self._first = f"event: {first}".encode()
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def come(self, count: int) -> None:
        self._open += await asyncio.gather(*(self._one() for _ in range(count)))

    async def _one(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
        writer.write(self._request)
        await reader.readuntil(self._first)
        return reader, writer

    async def hear(self, text: str) -> None:
        """Return when each one has heard ``text``."""
        await asyncio.gather(*(reader.readuntil(text.encode()) for reader, _ in self._open))

    async def leave(self) -> None:
        for _, writer in self._open:
            writer.close()
        for _, writer in self._open:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def posted(server: BusServer, path: str, body: dict[str, Any]) -> Any:
    """The JSON of a request that must succeed."""
    status, answer = await asyncio.to_thread(server.request, "POST", f"/api/v1/{path}", body)
    assert status in (200, 201), answer
    return json.loads(answer)


async def many(server: BusServer, room: str, count: int, *, of_stream: bool) -> None:
    """Let ``count`` listeners come, hear something, and leave; the threads are counted all the time."""
    most = 0
    opened = await posted(
        server, f"channels/{room}:a/messages", {"payload": {}, **({"stream": {}} if of_stream else {})}
    )
    of = opened["stream"]["of"] if of_stream else ""
    crowd = (
        Crowd(server, f"/api/v1/streams/{of}/events", "snapshot")
        if of_stream
        else Crowd(server, f"/api/v1/channels/{room}:a/events", "subscribed")
    )

    async def say(n: int, text: str) -> None:
        if of_stream:
            await posted(server, f"streams/{of}/append", {"n": n, "delta": text})
        else:
            await posted(server, f"channels/{room}:a/messages", {"message": text})

    async def count_threads() -> None:
        nonlocal most
        while True:
            most = max(most, threads(server))
            await asyncio.sleep(0.005)

    counting = asyncio.create_task(count_threads())
    try:
        async with asyncio.timeout(240):
            await crowd.come(count)
            assert await asyncio.to_thread(streams, server) == count
            await say(1, "to-everybody")
            await crowd.hear("to-everybody")
            await say(2, "and-again")
            await crowd.hear("and-again")
    finally:
        counting.cancel()
        await crowd.leave()
    assert 0 < most < THREADS
    await wait_for(lambda: asyncio.to_thread(lambda: streams(server) == 0), "the streams are gone")
    assert "Traceback" not in server.log()


@pytest.mark.embedded
@pytest.mark.parametrize(("kind", "of_stream"), [("daphne", False), ("uvicorn", True)])
async def test_listeners_hold_no_threads_even_behind_a_synchronous_middleware(
    start_server: StartServer, kind: ServerKind, of_stream: bool, fresh_room: str
) -> None:
    await many(await asyncio.to_thread(start_server, kind, env=HOST), fresh_room, 300, of_stream=of_stream)


@pytest.mark.embedded
@pytest.mark.chaos
@pytest.mark.parametrize("of_stream", [False, True])
@pytest.mark.parametrize("host", [{}, HOST], ids=["plain", "synchronous"])
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_a_thousand_listeners_hold_no_threads(
    start_server: StartServer, kind: ServerKind, host: dict[str, str], of_stream: bool, fresh_room: str
) -> None:
    await many(await asyncio.to_thread(start_server, kind, env=host), fresh_room, 1000, of_stream=of_stream)


class PlainServer(BusServer):
    """A server of Django's own application, without `bus_application`."""

    def _command(self) -> list[str]:
        application = "arqonbus_site.asgi:django_application"
        return [sys.executable, "-m", "uvicorn", application, "--host", self.host, "--port", str(self.port)]


@pytest.mark.embedded
async def test_events_also_come_without_the_application_of_the_bus(
    backends: Backends, storage: Storage, fresh_room: str
) -> None:
    server = PlainServer(storage, backends.new_path("server"), secret_key=backends.secret_key)
    try:
        await asyncio.to_thread(server.start)
        opened = await posted(server, f"channels/{fresh_room}:a/messages", {"payload": {}, "stream": {}})
        of = opened["stream"]["of"]
        log = Crowd(server, f"/api/v1/channels/{fresh_room}:a/events", "subscribed")
        run = Crowd(server, f"/api/v1/streams/{of}/events", "snapshot")
        for crowd in (log, run):
            await crowd.come(2)
        await posted(server, f"streams/{of}/append", {"n": 1, "delta": "a part"})
        await run.hear("a part")
        await posted(server, f"streams/{of}/end", {"n": 1})
        for crowd in (log, run):
            await crowd.hear("stream_end")
            await crowd.leave()
        await wait_for(lambda: asyncio.to_thread(lambda: streams(server) == 0), "the streams are gone")
        assert "Traceback" not in server.log()
    finally:
        server.kill()


# --- between the server and Django ----------------------------------------------------------------------------------------


class Peer:
    """The server's side of one request: what it sends to the application, and what it got."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages or ({"type": "http.request"},):
            self.inbox.put_nowait(message)
        self.got: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        self.got.append(message)

    def hang_up(self) -> None:
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def ask(self, http: Callable[..., Awaitable[None]], scope: dict[str, Any] = SCOPE) -> None:
        async with asyncio.timeout(20):
            await listening.serve(http, dict(scope), self.inbox.get, self.send)

    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)


async def two_events() -> AsyncGenerator[bytes]:
    yield b"one "
    yield b"two"


def django(
    *, instead: bytes | None = None, events: Callable[[], AsyncGenerator[bytes]] = two_events
) -> Callable[..., Awaitable[None]]:
    """An application as Django's, whose view answers with events. A middleware may answer ``instead``."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        body = listening.body_of(scope, events())
        headers = [(b"x-middleware", b"1")]
        await send({"type": "http.response.start", "status": 200 if instead is None else 403, "headers": headers})
        if instead is not None:
            await send({"type": "http.response.body", "body": instead})
            return
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    return application


async def test_the_events_go_out_with_the_head_of_djangos_answer() -> None:
    for path in (SCOPE["path"], "/api/v1/streams/arq_a/b/events", "/events"):
        # At a path that is not the bus's, Django sends the events itself.
        peer = Peer()
        await peer.ask(django(), {"type": "http", "path": path})
        assert [message["type"] for message in peer.got] == ["http.response.start"] + ["http.response.body"] * 3
        assert (peer.got[0]["status"], peer.got[0]["headers"]) == (200, [(b"x-middleware", b"1")])
        assert peer.body() == b"one two"
        assert [message.get("more_body", False) for message in peer.got[1:]] == [True, True, False]


class Kept:
    """Something that Django or a middleware keeps in its context."""


async def test_what_django_keeps_in_its_context_ends_with_django() -> None:
    kept: list[weakref.ref[Kept]] = []
    alive: list[bool] = []
    inside = contextvars.ContextVar[Kept]("inside")

    async def events() -> AsyncGenerator[bytes]:
        await asyncio.sleep(0)
        gc.collect()
        alive.append(kept[0]() is not None)
        yield b"one"

    async def application(scope: Any, receive: Any, send: Any) -> None:
        thing = Kept()
        kept.append(weakref.ref(thing))
        inside.set(thing)
        # Django listens for the end of the connection, too.
        listener = asyncio.create_task(_listen(receive))
        await django(events=events)(scope, receive, send)
        listener.cancel()

    peer = Peer()
    await peer.ask(application)
    assert (peer.body(), alive) == (b"one", [False])


async def _listen(receive: Any) -> None:
    while True:
        await receive()


async def test_the_answer_of_a_middleware_goes_out_instead() -> None:
    peer = Peer()
    await peer.ask(django(instead=b"not today"))
    assert (peer.got[0]["status"], peer.body()) == (403, b"not today")


async def test_who_hangs_up_ends_the_events_before_and_after_their_beginning() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    peer = Peer()
    asking = asyncio.create_task(peer.ask(django(events=endless)))
    await wait_for(lambda: peer.body() == b"one", "the first event is sent")
    peer.hang_up()
    await asking
    assert closed.is_set()

    early = Peer()
    early.hang_up()

    async def listens_too(scope: Any, receive: Any, send: Any) -> None:
        await django()(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    await early.ask(listens_too)
    assert early.got == []


async def test_a_cancelled_look_of_django_costs_no_message_of_the_server() -> None:
    """Django cancels its listener for the disconnect, which a server may take for one."""
    looks = 0

    async def receive() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        if looks == 1:
            return {"type": "http.request"}
        await asyncio.Event().wait()
        raise AssertionError

    async def cancels(scope: Any, own_receive: Any, send: Any) -> None:
        listener = asyncio.ensure_future(own_receive())
        await listener
        listener = asyncio.ensure_future(own_receive())
        await asyncio.sleep(0)
        listener.cancel()
        inner: list[dict[str, Any]] = [{"type": "http.request"}]

        async def given() -> dict[str, Any]:
            return inner.pop()

        await django()(scope, given, send)

    peer = Peer()
    async with asyncio.timeout(20):
        await listening.serve(cancels, dict(SCOPE), receive, peer.send)
    assert (peer.body(), looks) == (b"one two", 2)


async def test_a_failure_of_the_events_is_the_servers_to_handle() -> None:
    async def failing() -> AsyncGenerator[bytes]:
        yield b"one"
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await Peer().ask(django(events=failing))


async def test_places_for_opening_are_given_back_by_all_who_take_one(monkeypatch: pytest.MonkeyPatch) -> None:
    free = current().admission.opening

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert free._value == 7
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await Peer().ask(fails)
    assert free._value == 8
    goes_on = asyncio.Event()

    inside = 0

    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        nonlocal inside
        await receive()
        inside += 1
        await goes_on.wait()

    async def page(scope: Any, receive: Any, send: Any) -> None:
        """A page of the project at such a path, which answers for a long time."""
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await goes_on.wait()

    monkeypatch.setattr(listening, "LONGEST", 0.01)
    stuck = [asyncio.create_task(Peer().ask(hangs)) for _ in range(20)]
    await wait_for(lambda: inside == 20 and free._value == 8, "the stuck ones give their places back after a time")
    monkeypatch.undo()
    slow = [Peer({"type": "http.request", "body": b"x", "more_body": True}) for _ in range(20)]
    long = [asyncio.create_task(peer.ask(page)) for peer in [*(Peer() for _ in range(20)), *slow]]
    await wait_for(lambda: free._value == 8, "those who stream or still send their request hold no place")
    peer = Peer()
    await peer.ask(django())
    assert peer.body() == b"one two"
    for other in slow:
        other.inbox.put_nowait({"type": "http.request"})
    goes_on.set()
    await asyncio.gather(*long, *stuck)
    assert free._value == 8
