"""Pages of history come from a read replica, and show everything that a reader knows of however far the replica lags behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.db import connection, connections
from django.db.utils import load_backend
from pytest_django.fixtures import Settings

from bus.auth.permissions import SYSTEM
from bus.models import Channel, new_epoch
from bus.monitoring import metrics
from bus.protocol.names import Address
from bus.services import history, publish, replica
from bus.services.erasing import erase_message
from tests.harness.backends import Backends
from tests.harness.postgres import PostgresServer
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ALIAS, PLACE = "history", Address("replicated", "a")


class Replica(Protocol):
    """A second database that follows the first one, as far as a test lets it."""

    def catch_up(self) -> None:
        """Let it have everything that was committed."""

    def hold(self) -> None:
        """Let it get nothing more until the next :meth:`catch_up`."""

    def vanish(self) -> None:
        """Let it answer no more."""


class SqliteCopy:
    """A copy of the database file, with a controlled lag."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = {**connections.databases["default"], "NAME": str(path)}

    def catch_up(self) -> None:
        with sqlite3.connect(self.path) as target:
            connection.ensure_connection()
            connection.connection.backup(target)

    def hold(self) -> None:
        pass

    def vanish(self) -> None:
        self.path.unlink()
        self.path.mkdir()


class PostgresStandby:
    """A standby with streaming replication."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        place = {"HOST": "127.0.0.1", "PORT": str(server.port)}
        options = {**connections.databases["default"]["OPTIONS"], "target_session_attrs": "any"}
        del options["pool"]
        self.settings = {**connections.databases["default"], **place, "OPTIONS": options}

    def catch_up(self) -> None:
        # It is paused already where nothing was held, and resumes then.
        self._server.execute("SELECT pg_wal_replay_resume()")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_lsn()")
            (position,) = cursor.fetchone()
        asked = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        wait_until(lambda: self._server.execute(asked) == [(True,)], "the standby has everything")

    def hold(self) -> None:
        self._server.execute("SELECT pg_wal_replay_pause()")
        paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
        wait_until(lambda: self._server.execute(paused) == [(True,)], "the standby pauses")

    def vanish(self) -> None:
        self._server.kill()


@pytest.fixture
def second(backends: Backends, tmp_path: Path, settings: Settings) -> Iterator[Replica]:
    """The replica, which is named in the settings."""
    made: Any
    server = None
    if connection.vendor == "postgresql":
        server = backends.postgres.replica(backends.new_path("standby"))
        made = PostgresStandby(server)
    else:
        made = SqliteCopy(tmp_path / "copy.sqlite3")
    # Django lets a test use the alias `default` only. The wrapper's own name is seen nowhere else.
    connections[ALIAS] = load_backend(made.settings["ENGINE"]).DatabaseWrapper(made.settings, "default")
    settings.ARQONBUS = {"history_database": ALIAS}
    replica._Away.until = 0.0
    try:
        yield made
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        replica._Away.until = 0.0
        if server is not None:
            server.kill()


def read(**wanted: Any) -> tuple[list[str | None], str]:
    """The texts of a page, and the database that they came from."""
    before = {name: metrics.history_pages.labels(name)._value.get() for name in ("replica", "primary")}
    found = history.page(SYSTEM, history.Question(PLACE, descending=False, **wanted)).messages
    (came,) = [name for name, count in before.items() if metrics.history_pages.labels(name)._value.get() > count]
    return [json.loads(message.frame).get("message") for message in found], came


def test_a_page_shows_all_that_was_written_before_it(second: Replica, caplog: pytest.LogCaptureFixture) -> None:
    publish(str(PLACE), message="one")
    publish(str(PLACE), message="two")
    second.catch_up()
    assert read() == (["one", "two"], "replica")
    second.hold()
    publish(str(PLACE), message="three")
    assert read() == (["one", "two", "three"], "primary")
    assert read(before=3) == (["one", "two"], "replica"), "an older page needs no newer messages"
    second.catch_up()
    assert read() == (["one", "two", "three"], "replica")
    second.hold()
    erase_message(PLACE, seq=1)
    assert read(before=3) == ([None, "two"], "primary"), "an erased message is not shown again"
    second.catch_up()
    assert read(before=3) == ([None, "two"], "replica")
    second.hold()
    Channel.objects.update(epoch=new_epoch())
    assert read()[1] == "primary", "the log is another one"
    second.catch_up()
    second.vanish()
    connections[ALIAS].close()
    for _ in range(2):
        assert read() == ([None, "two", "three"], "primary")
    assert [record.__dict__.get("event") for record in caplog.records].count("replica_away") == 1, (
        "once, and then a pause"
    )


def test_without_a_replica_pages_come_from_the_database(settings: Settings) -> None:
    settings.ARQONBUS = {}
    publish(str(PLACE), message="one")
    assert [
        json.loads(message.frame)["message"] for message in history.page(SYSTEM, history.Question(PLACE)).messages
    ] == ["one"]
