"""Fixtures that every test may use. How the back end is chosen: tests/harness/plugin.py."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.harness.backends import Backends, Storage
from tests.harness.browser import launching
from tests.harness.client import Dialect, WireClient
from tests.harness.postgres import PostgresServer
from tests.harness.redis import RedisServer
from tests.harness.server import BusServer, ServerKind


@pytest.fixture
def redis_server(backends: Backends) -> Iterator[RedisServer]:
    """A running Redis that belongs to the test, to be killed, frozen or flushed."""
    server = backends.new_redis()
    yield server
    backends.release(server)


@pytest.fixture
def postgres_server(backends: Backends) -> Iterator[PostgresServer]:
    """A running, empty PostgreSQL that belongs to the test, to be killed, frozen or stopped."""
    server = backends.new_postgres()
    yield server
    backends.release(server)


@pytest.fixture
def storage(backends: Backends) -> Iterator[Storage]:
    """A migrated and seeded database (and a Redis, with the cluster back end) for the servers of one test."""
    made = backends.new_storage()
    yield made
    backends.drop_storage(made)


@pytest.fixture
def fresh_room() -> str:
    """A room name that no other test uses."""
    return f"room-{secrets.token_hex(6)}"


@pytest.fixture
def name() -> Callable[[str], str]:
    """Client ids of this test: `name("alice")` is the same for the whole test, and no other test's."""
    suffix = secrets.token_hex(4)
    return lambda base: f"{base}-{suffix}"


@pytest.fixture(params=["v0", "v1"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Each test that takes it runs in both dialects."""
    chosen: Dialect = request.param
    return chosen


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    backends: Backends,
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Let Django's own test database be a file on SQLite.

    In-memory SQLite shared between threads locks whole tables and ignores the busy time-out, which no
    deployment does; a file behaves as the real thing.
    """
    from django.conf import settings

    default = settings.DATABASES["default"]
    if default["ENGINE"].endswith("sqlite3"):
        default.setdefault("TEST", {})["NAME"] = str(backends.new_path("test").with_suffix(".sqlite3"))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """End the connections that ended threads left behind: PostgreSQL drops no database that somebody uses."""
    yield
    from django.db import connection

    gc.collect()
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(autouse=True)
def _empty_channel_layers() -> Iterator[None]:
    """Drop the process's channel layers after each test: they hold on to the test's event loop."""
    yield
    from channels.layers import channel_layers

    channel_layers.backends.clear()


class StartServer(Protocol):
    """Starts a server on free ports and waits until it is ready; ended at the end of the test."""

    def __call__(
        self,
        kind: ServerKind = "daphne",
        *,
        storage: Storage | None = None,
        env: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        wait: bool = True,
    ) -> BusServer: ...


@pytest.fixture
def start_server(backends: Backends, storage: Storage) -> Iterator[StartServer]:
    """Start servers of one test. They share the test's `storage`, so two of them are a cluster.

    `env` are settings as text (`{"ARQONBUS_RATE_LIMIT": "5"}`), `arguments` are added to the command line.
    With `wait=False` the server need not become ready.
    """
    with _servers(backends, storage) as start:
        yield start


@contextlib.contextmanager
def _servers(backends: Backends, own_storage: Storage) -> Iterator[StartServer]:
    started: list[BusServer] = []

    def start(
        kind: ServerKind = "daphne",
        *,
        storage: Storage | None = None,
        env: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        wait: bool = True,
    ) -> BusServer:
        server = BusServer(
            storage or own_storage,
            backends.new_path("server"),
            secret_key=backends.secret_key,
            kind=kind,
            env=env,
            arguments=arguments,
        )
        started.append(server)
        if wait:
            server.start()
        else:
            server.spawn()
        return server

    try:
        yield start
    finally:
        for server in started:
            server.kill()


@pytest.fixture(scope="session")
def shared_server(backends: Backends) -> Iterator[BusServer]:
    """One daphne process for all tests that neither hurt it nor need settings of their own.

    Tests take a room of their own (`fresh_room`) and clients with generated ids, so that they do not meet.
    """
    storage = backends.new_storage()
    with _servers(backends, storage) as start:
        # A machine that runs several tests at once may need longer for 16 MiB than publishers are let to wait.
        yield start(env={"ARQONBUS_STORE_TIMEOUT": "10"})
    backends.drop_storage(storage)


@pytest.fixture(scope="session")
def admin_token(shared_server: BusServer) -> str:
    """An admin's access token for the session's server."""
    return shared_server.create_token("tests", admin=True)


@pytest.fixture(scope="session")
def superuser(shared_server: BusServer) -> str:
    """The name of a Django superuser of the session's server, with the password PASSWORD."""
    shared_server.create_superuser("web-root")
    return "web-root"


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium of the system for all tests of the session's event loop; each makes contexts of its own."""
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(**launching())
        yield made
        await made.close()


@pytest.fixture
def own_postgres_storage(backends: Backends) -> Iterator[Storage]:
    """Like `storage`, on a PostgreSQL server that belongs to the test and may be stopped. Cluster only."""
    made = backends.new_storage(own_postgres=True)
    yield made
    backends.drop_storage(made)


class Connect(Protocol):
    """Connects a wire client; closed at the end of the test."""

    async def __call__(self, server: BusServer | str, **options: Any) -> WireClient: ...


@pytest.fixture
async def wire() -> AsyncIterator[Connect]:
    """Connect wire clients: `await wire(server, client_id=…, room=…, dialect="v1", …)`; closed afterwards.

    `server` is a BusServer or a URL; the options are those of `WireClient.connect`.
    """
    clients: list[WireClient] = []

    async def connect(server: BusServer | str, **options: Any) -> WireClient:
        client = await WireClient.connect(server if isinstance(server, str) else server.url, **options)
        clients.append(client)
        return client

    yield connect
    await asyncio.gather(*(client.close() for client in clients))
