"""Helpers for tests of projects that use the bus: clients on the real consumer, without a server, and ``assert_published``.

::

    pytest_plugins = ["bus.pytest_plugin"]           # conftest.py: the fixture ``live_bus``

    @pytest.mark.django_db(transaction=True)
    async def test_orders_are_published(live_bus):
        shop = await live_bus.connect(client_id="shop", room="shop:orders")
        await Order.objects.acreate(state="new")
        message = await shop.expect("model", payload={...})

    def test_view(client, db):
        with assert_published("shop:orders", message="new order"):
            client.post("/orders/")

The clients use ``BusConsumer`` through ASGI, in the event loop of the test. Registration, permissions, the log and the
fan-out are those of a server. The bus uses the database from several threads, so the test must be transactional. SQLite
needs a file (``DATABASES["default"]["TEST"] = {"NAME": …}``).
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.test import override_settings

from .consumers import BusConsumer
from .handlers.rehearsal import run_handlers as run_handlers
from .models import Message
from .node import current
from .node.upkeep.sigterm import SIGNALS
from .protocol.errors import BusError, ErrorCode
from .protocol.names import WHOLE, parse_address

#: Seconds that ``expect`` waits by default.
TIMEOUT = 5.0
_ORIGIN = "http://testserver"


class TestClient:
    """One socket on the bus's consumer. :meth:`LiveBus.connect` returns it."""

    __test__ = False  # pytest: this is no test case

    def __init__(self, application: Any, scope: dict[str, Any]) -> None:
        self._to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._arrived = asyncio.Event()
        self._open: list[dict[str, Any]] = []
        #: Every received frame, oldest first.
        self.frames: list[dict[str, Any]] = []
        #: The payload of ``registered``: client_id, role, channels …
        self.registered: dict[str, Any] = {}
        #: The close code after the server has closed the connection, else None.
        self.close_code: int | None = None
        self._to_server.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.ensure_future(application(scope, self._to_server.get, self._from_server))
        self._task.add_done_callback(lambda _: self._arrived.set())

    @property
    def client_id(self) -> str:
        """The id that the server gave or confirmed."""
        return str(self.registered.get("client_id", ""))

    async def _from_server(self, event: dict[str, Any]) -> None:
        if event["type"] == "websocket.close":
            self.close_code = event.get("code", 1000)
            self._to_server.put_nowait({"type": "websocket.disconnect", "code": self.close_code})
        elif event["type"] == "websocket.send":
            frame = json.loads(event.get("text") or event["bytes"])
            self.frames.append(frame)
            self._open.append(frame)
        self._arrived.set()

    async def send(self, frame: Mapping[str, Any] | str) -> None:
        """Send a frame: an object, or an unchanged text."""
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self._to_server.put_nowait({"type": "websocket.receive", "text": text})

    async def expect(
        self, type: str | None = None, event: str | None = None, *, timeout: float = TIMEOUT, **fields: Any
    ) -> dict[str, Any]:
        """Return the first unread frame that matches: its ``type``, ``payload.event``, and other top-level fields.

        Raises ``AssertionError`` with the received frames after ``timeout`` seconds, or if the connection ends before.
        """
        wanted = {"type": type, "event": event, **fields}
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for frame in self._open:
                        if _matches(frame, type, event, fields):
                            self._open.remove(frame)
                            return frame
                    if self._task.done() or self.close_code is not None:
                        if self._task.done() and not self._task.cancelled() and self._task.exception():
                            raise AssertionError("the consumer failed") from self._task.exception()
                        raise AssertionError(f"closed with {self.close_code} before {_shown(wanted)}; {self._rest()}")
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise AssertionError(f"no {_shown(wanted)} within {timeout:g} s; {self._rest()}") from None

    async def expect_nothing(self, type: str | None = None, event: str | None = None, **fields: Any) -> None:
        """Assert that no matching frame is unread. This is no sleep: the server sends all frames before its pong.

        Publish with ``ack`` before (as :meth:`publish` does), so that the message would be here. Raises ``AssertionError``.
        """
        await self.command("ping")
        unwanted = [frame for frame in self._open if _matches(frame, type, event, fields)]
        assert not unwanted, f"nothing was expected, but this came: {unwanted}"

    async def publish(self, address: str, message: Any = None, **fields: Any) -> dict[str, Any]:
        """Publish to ``room:channel`` and return the ack. Raises ``AssertionError`` with the error."""
        frame: dict[str, Any] = {
            "type": "event",
            "id": f"arq_{uuid.uuid4().hex}",
            "room": address,
            "ack": True,
            **fields,
        }
        if message is not None:
            frame["message"] = message
        await self.send(frame)
        answer = await self._answer(frame["id"])
        assert answer["type"] == "ack", f"refused: {answer['error']}"
        return answer

    async def command(self, command: str, **parameters: Any) -> dict[str, Any]:
        """Run a command and return its result. Raises ``AssertionError`` with the error; see :meth:`refused`."""
        answer = await self._call(command, parameters)
        assert answer["status"] == "success", f"{command} was refused: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def refused(self, command: str, **parameters: Any) -> dict[str, Any]:
        """Run a command that the server must refuse, and return the ``error``. Raises ``AssertionError`` if it does not."""
        answer = await self._call(command, parameters)
        assert answer["status"] == "error", f"{command} was not refused: {answer['result']}"
        error: dict[str, Any] = answer["error"]
        return error

    async def join(self, address: str, **parameters: Any) -> dict[str, Any]:
        """Join a channel and return the result."""
        return await self.command("join_channel", channel=address, **parameters)

    async def close(self) -> None:
        """Disconnect, and wait until the server has noticed it."""
        if not self._task.done():
            self._to_server.put_nowait({"type": "websocket.disconnect", "code": 1000})
            await asyncio.wait([self._task], timeout=TIMEOUT)

    async def _call(self, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
        request_id = f"arq_{uuid.uuid4().hex}"
        await self.send({"type": "command", "id": request_id, "command": command, "parameters": parameters})
        return await self._answer(request_id)

    async def _answer(self, request_id: str) -> dict[str, Any]:
        return await self.expect(request_id=request_id)

    def _rest(self) -> str:
        return f"not taken yet: {self._open[-6:]}"


class LiveBus:
    """The bus inside a test, in the test's event loop. See :func:`live_bus`."""

    def __init__(self, application: Any = None) -> None:
        self._application = application or BusConsumer.as_asgi()
        self._clients: list[TestClient] = []

    async def connect(
        self,
        client_id: str | None = None,
        *,
        path: str = "/",
        user: Any = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        register: bool = True,
        **registration: Any,
    ) -> TestClient:
        """Connect and register a client. ``register=False`` only connects. ``registration`` are the fields of its frame.

        ``user`` connects with the session of a Django user, and ``token`` with an access token. Raises ``AssertionError`` with
        the reason if the bus refuses.
        """
        given = {"host": "testserver", "origin": _ORIGIN, **(headers or {})}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        if user is not None:
            key = await sync_to_async(_session_of)(user)
            given["cookie"] = f"{settings.SESSION_COOKIE_NAME}={key}"
        address, _, query = path.partition("?")
        scope = {
            "type": "websocket",
            "path": address,
            "raw_path": address.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 0),
            "server": ("testserver", 80),
            "scheme": "ws",
            "subprotocols": [],
            "asgi": {"version": "3.0"},
        }
        client = TestClient(self._application, scope)
        self._clients.append(client)
        await client.expect("system", "welcome")
        if register:
            identity = {"client_id": client_id} if client_id else {}
            await client.send({"type": "register", **identity, **registration})
            client.registered = (await client.expect("system", "registered"))["payload"]
        return client

    async def close(self) -> None:
        """Disconnect all clients, stop the node of this event loop, and close the database connection of its thread."""
        await asyncio.gather(*(client.close() for client in self._clients))
        await current().stop()
        # The thread of `sync_to_async` keeps its connection, and with it the test's database, for ever.
        await sync_to_async(connections.close_all)()


@asynccontextmanager
async def live_bus(application: Any = None, *, anonymous: bool = True) -> AsyncIterator[LiveBus]:
    """Run the bus inside a test. ``application`` serves the sockets; the default is the bus's consumer.

    With ``anonymous``, clients without a user or token may connect, as in development (test runners turn DEBUG off). False
    applies your settings. The test must use a transactional database (``@pytest.mark.django_db(transaction=True)``,
    ``TransactionTestCase``), since threads do not see the rows of an open transaction. The fixture requests one. Raises
    ``ImproperlyConfigured`` with advice if the database cannot work in threads.
    """
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        raise ImproperlyConfigured(
            "The bus uses threads, and SQLite in memory does not support them. Give the tests a file: "
            'DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "test.sqlite3"}.'
        )
    values = dict(getattr(settings, "ARQONBUS", {}))
    if anonymous and not hasattr(settings, "ARQONBUS_ANONYMOUS"):
        values["anonymous"] = True
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    with override_settings(ARQONBUS=values):
        bus = LiveBus(application)
        try:
            yield bus
        finally:
            await bus.close()
            for number, handler in before.items():
                signal.signal(number, handler)


class Publications(list[dict[str, Any]]):
    """The messages published within ``assert_published``, in their delivered form."""


@contextmanager
def assert_published(
    address: str, *, count: int | None = None, type: str | None = None, **fields: Any
) -> Iterator[Publications]:
    """Assert that the block publishes to ``address`` (``room:channel``, ``room:*`` or ``pm:<client_id>``).

    ``count`` is the exact number of messages (0: none). Without it, at least one is needed. ``type`` and ``fields`` (``message``,
    ``payload``, ``metadata``, ``from_`` …) are compared with the delivered frames. Messages in the log count, also inside an open
    transaction, so it works in a plain ``TestCase``. Messages of a rollback or to an ephemeral channel do not count. Raises
    ``AssertionError`` with the published messages. Asynchronous tests use :func:`aassert_published`.
    """
    before = _newest()
    found = Publications()
    yield found
    _judge(found, before, address, count, type, fields)


@contextmanager
def assert_refused(code: str) -> Iterator[BusError]:
    """Assert that a gate refuses what the block publishes, with the ``code`` of its ``Refuse``.

    The block calls ``publish`` with an ``actor``. Yields the error, whose ``message`` has the gate's text after the block. Raises
    ``AssertionError`` if nothing was refused, or with another code; other errors pass.
    """
    found = BusError(ErrorCode.REFUSED)
    try:
        yield found
    except BusError as problem:
        if problem.code != ErrorCode.REFUSED:
            raise
        found.message, found.details = problem.message, problem.details
        codes = [detail.get("code") for detail in problem.details]
        assert codes == [code], f"refused with {codes[0]}, expected was {code}"
        return
    raise AssertionError(f"nothing was refused; {code} was expected")


@asynccontextmanager
async def aassert_published(
    address: str, *, count: int | None = None, type: str | None = None, **fields: Any
) -> AsyncIterator[Publications]:
    """The same as :func:`assert_published`, for asynchronous tests."""
    before = await sync_to_async(_newest)()
    found = Publications()
    yield found
    await sync_to_async(_judge)(found, before, address, count, type, fields)


def _newest() -> int:
    return Message.objects.order_by("-id").values_list("id", flat=True).first() or 0


def _judge(
    found: Publications, before: int, address: str, count: int | None, type: str | None, fields: dict[str, Any]
) -> None:
    where = parse_address(address if ":" in address else f"{address}:{WHOLE}")
    assert where is not None, f"{address!r} is not an address"
    fields = {"from" if name == "from_" else name: value for name, value in fields.items()}
    rows = Message.objects.filter(id__gt=before).select_related("channel__room").order_by("id")
    everything = [(row.channel.address, row.as_dict()) for row in rows]
    found.extend(frame for place, frame in everything if place == where and _matches(frame, type, None, fields))
    wanted = f"{'a message' if count is None else f'{count} messages'} at {address}"
    if type or fields:
        wanted += f" with {_shown({'type': type, **fields})}"
    assert len(found) == count if count is not None else found, f"expected {wanted}; published was: " + (
        ", ".join(f"{place}: {frame}" for place, frame in everything) or "nothing"
    )


def _session_of(user: Any) -> str:
    """Return the key of a session of ``user``."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def _matches(frame: dict[str, Any], type: str | None, event: str | None, fields: Mapping[str, Any]) -> bool:
    payload = frame.get("payload")
    return (
        (type is None or frame.get("type") == type)
        and (event is None or (isinstance(payload, dict) and payload.get("event") == event))
        and all(frame.get(name) == value for name, value in fields.items())
    )


def _shown(wanted: Mapping[str, Any]) -> str:
    return "frame with " + (
        ", ".join(f"{key}={value!r}" for key, value in wanted.items() if value is not None) or "anything"
    )
