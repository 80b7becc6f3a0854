"""A PostgreSQL that is demoted while its sessions live on: what says that the server is the wrong one ends with its session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from django.db import DatabaseError, OperationalError
from psycopg import errors

from bus.db import faults as database
from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError
from tests.harness.postgres import PostgresServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for, wait_until


@pytest.mark.pure
@pytest.mark.parametrize(
    ("said", "useless"),
    [
        (errors.ReadOnlySqlTransaction, True),
        (errors.AdminShutdown, True),
        (errors.CannotConnectNow, True),
        (errors.IdleSessionTimeout, True),
        (errors.ConnectionFailure, True),
        (errors.ProtocolViolation, True),
        (errors.UniqueViolation, False),
        (errors.LockNotAvailable, False),
        (errors.QueryCanceled, False),
        (errors.SerializationFailure, False),
        (errors.DiskFull, False),
        (errors.UndefinedTable, False),
    ],
)
def test_an_error_of_the_session_is_told_from_one_of_the_statement(said: type[Exception], useless: bool) -> None:
    wrapped = DatabaseError("x")
    wrapped.__cause__ = said("x")
    assert database.of_no_use(said("x")) is database.of_no_use(wrapped) is useless
    assert database.of_no_use(OperationalError("no state of its own")) is database.of_no_use(None) is False


def demote_sessions(postgres: PostgresServer, name: str) -> None:
    """Sessions of now can only read from now on, those made later can write: the old server behind the address, and the new."""
    postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = off')
    postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    postgres.execute("SELECT pg_reload_conf()")


def demote(postgres: PostgresServer, name: str) -> None:
    """No session can write."""
    postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    postgres.execute("SELECT pg_reload_conf()")


def promote(postgres: PostgresServer, name: str) -> None:
    """It is the primary again; sessions stay as they are."""
    postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
    postgres.execute("SELECT pg_reload_conf()")
    wait_until(lambda: postgres.execute("SHOW transaction_read_only") == [("off",)], "the setting is reloaded")
    postgres.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


async def outcome(client: WireClient, text: str) -> str:
    """What a publisher is told."""
    try:
        await client.publish(text, room="lab", channel="bench", ack=True, timeout=30)
    except WireError as error:
        return error.code
    return "ack"


def rest(server: BusServer, text: str) -> int:
    """The status of a publish over REST."""
    return server.request("POST", "/api/v1/channels/lab:bench/messages", {"message": text})[0]


@pytest.mark.cluster
async def test_after_a_switchover_every_door_writes_again_though_old_sessions_live_on(
    start_server: StartServer, own_postgres_storage: Storage, wire: Connect
) -> None:
    storage = own_postgres_storage
    postgres, name = storage.postgres, storage.database
    assert isinstance(postgres, PostgresServer)
    assert name is not None
    server = await asyncio.to_thread(start_server, storage=storage)
    member = await wire(server, room="lab:bench")
    publisher = await wire(server, room="lab:door")
    # Sessions in every thread and in the pool.
    assert await outcome(publisher, "before") == "ack"
    assert set(await asyncio.gather(*(asyncio.to_thread(rest, server, "before") for _ in range(6)))) == {201}
    await publisher.request("history", room="lab", channel="bench", after=0)
    await asyncio.to_thread(demote_sessions, postgres, name)
    # The first attempt finds it out and is made again on a session to the right server, so that nobody hears of it.
    assert await outcome(publisher, "after") == "ack"
    # A request is not repeated by the server: one for each session from before may be told to come again.
    told = [await asyncio.to_thread(rest, server, "after") for _ in range(4)]
    assert told[1:] == [201] * 3, told
    assert told[0] in (201, 503)
    await wire(server, room="lab:bench", client_id="newcomer")
    await member.expect(message="after")
    assert await asyncio.to_thread(server.ready)

    def old_sessions() -> int:
        rows = postgres.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_start < (SELECT pg_conf_load_time())",
            name,
        )
        return int(str(rows[0][0]))

    # Those that only read lead to the old server as well: what they would read there is old.
    await publisher.request("history", room="lab", channel="bench", after=0)
    await wait_for(
        lambda: asyncio.to_thread(lambda: old_sessions() == 0), "no session from before is left", deadline=20
    )


@pytest.mark.cluster
async def test_where_nothing_can_be_written_ready_says_so_and_the_log_what_to_do(
    start_server: StartServer, own_postgres_storage: Storage, wire: Connect
) -> None:
    storage = own_postgres_storage
    postgres, name = storage.postgres, storage.database
    assert isinstance(postgres, PostgresServer)
    assert name is not None
    # What is told is what the database says, and not that a busy machine took longer than it may.
    env = {"ARQONBUS_STORE_TIMEOUT": "20"}
    server = await asyncio.to_thread(start_server, storage=storage, env=env)
    publisher = await wire(server, room="lab:door")
    assert await outcome(publisher, "before") == "ack"
    steps: list[Callable[[PostgresServer, str], None]] = [demote, promote]
    for step in steps:
        await asyncio.to_thread(step, postgres, name)
        wanted = step is promote
        await wait_for(
            lambda wanted=wanted: asyncio.to_thread(lambda: server.ready() is wanted),  # type: ignore[misc]
            f"/ready after {step.__name__}",
        )
        await wait_for(
            lambda wanted=wanted: _told(publisher, "ack" if wanted else "UNAVAILABLE"),  # type: ignore[misc]
            f"publishers after {step.__name__}",
        )
    lost = [line for line in server.log().splitlines() if "store_lost" in line]
    assert any("Point DATABASE_URL to the primary" in line for line in lost), lost
    assert "Traceback" not in server.log()


async def _told(publisher: WireClient, wanted: str) -> bool:
    return await outcome(publisher, "?") == wanted
