"""A server of the project with live pages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.harness.backends import Backends, Storage
from tests.harness.server import BusServer, ServerKind

SITE = {"DJANGO_SETTINGS_MODULE": "tests.live.site.settings"}


class LiveServer(BusServer):
    """A server of the site."""

    def change(self, **what: Any) -> None:
        """Change rows (`views.churn`)."""
        assert self.request("POST", "/churn", what)[0] == 200

    async def achange(self, **what: Any) -> None:
        """As `change`."""
        await asyncio.to_thread(self.change, **what)

    def rows(self) -> dict[str, str]:
        """The rows of the table, by key."""
        found: dict[str, str] = self.get_json("/rows.json")
        return found

    def rendered(self) -> int:
        """How many messages this process has rendered."""
        text = self.get("/metrics")[1].decode()
        (line,) = (line for line in text.splitlines() if line.startswith("arqonbus_fragments_rendered_total"))
        return int(float(line.rpartition(" ")[2]))


def make_table(storage: Storage) -> None:
    """Make the table of the rows, which has no migration."""
    key = "integer PRIMARY KEY AUTOINCREMENT" if storage.sqlite_path else "bigserial PRIMARY KEY"
    storage.execute(f"CREATE TABLE live_row (id {key}, text varchar(200) NOT NULL)")


def serve(
    backends: Backends, storage: Storage, kind: ServerKind = "daphne", env: Mapping[str, str] | None = None
) -> LiveServer:
    """A server of the site that is ready."""
    server = LiveServer(
        storage, backends.new_path("server"), secret_key=backends.secret_key, kind=kind, env={**SITE, **(env or {})}
    )
    server.start()
    return server


@pytest.fixture(scope="module")
def site(backends: Backends) -> Iterator[LiveServer]:
    """One server for the tests of a module that do not hurt it."""
    storage = backends.new_storage()
    make_table(storage)
    server = serve(backends, storage)
    yield server
    server.kill()
    backends.drop_storage(storage)


@pytest.fixture
def own_site(backends: Backends, storage: Storage) -> Iterator[LiveServer]:
    """A server of the test's own, which may be restarted."""
    make_table(storage)
    server = serve(backends, storage)
    yield server
    server.kill()
