"""One question looks at a bounded number of rows, however much there is that its asker may not see (each list, each door)."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from django.db import connection
from django.test import Client as Browser
from django.utils import timezone

from bus.auth.permissions import Actor, table
from bus.commands import Context
from bus.commands.base import find
from bus.models import AccessToken, Channel, Client, Grant, Membership, Node, Room
from bus.protocol.errors import BusError
from bus.protocol.names import DEFAULT_ADDRESS, Address
from bus.services import history, rooms
from bus.services.history import Question
from bus.services.statuses import Said
from tests.harness.rows import RowsRead

HIDDEN = 3_100
#: What one question may read: two steps, memberships of those shown, and some change.
MOST_ROWS, MOST_QUERIES = 1_500, 20
SECRET = "hidden"

pytestmark = pytest.mark.django_db


class Inline:
    """What commands ask of a process, done at once."""

    started_at = datetime.now(UTC)

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    ask = run_writer = run

    async def join(
        self,
        address: Address,
        since: int | str | None,
        epoch: str | None,
        *,
        parts: bool | None = None,
        last: int | None = None,
    ) -> Any:
        raise NotImplementedError

    async def follow(self, room: str, positions: Mapping[str, tuple[int, str | None]]) -> Any:
        raise NotImplementedError

    async def unfollow(self, room: str) -> list[str]:
        raise NotImplementedError

    async def begin(self, begun: Any) -> None:
        raise NotImplementedError

    async def leave(self, address: Address) -> list[str]:
        raise NotImplementedError

    async def mark(self, address: Address, seq: int, *, back: bool, epoch: str | None, begin: bool) -> Any:
        raise NotImplementedError

    async def claim(self, address: Address, most: int, wait: float, have: tuple[str, ...] | None) -> Any:
        raise NotImplementedError

    async def work(self, operation: Any) -> Any:
        raise NotImplementedError

    async def decide(self, function: Callable[[], Any]) -> Any:
        raise NotImplementedError

    async def await_decision(self, uid: str, wait: float) -> Any:
        raise NotImplementedError

    async def set_status(self, said: Said) -> Any:
        raise NotImplementedError

    def recent(self, address: Address, limit: int) -> None:
        """Nothing is in memory."""


@pytest.fixture
def hidden(request: pytest.FixtureRequest) -> Iterator[Actor]:
    """3,100 of everything that the caller may not see, before the little that it may.

    `private`: in a private room. `banned`: in a public one, by a rule for each channel or for presence.
    """
    private = request.param == "private"
    node = Node.objects.create(id="n1", host="here", pid=1, version="0")
    now = timezone.now()
    Room.objects.bulk_create(Room(name=f"a-{SECRET}-{n:04}", private=True) for n in range(HIDDEN))
    vault = Room.objects.create(name=f"b-{SECRET}" if private else "b-open", private=private)
    Channel.objects.bulk_create(Channel(room=vault, name=f"{SECRET}-{n:04}", head=1) for n in range(HIDDEN))
    if not private:
        for action in ("join", "history", "presence"):
            Grant.objects.create(subject="everyone", action=action, pattern=f"b-open:{SECRET}-*", allow=False)
    open_ = Room.objects.create(name="z-open")
    shown = Channel.objects.create(room=open_, name="talk", head=0)
    hall = Channel.objects.filter(room=vault).first()
    assert hall is not None
    names = [f"a-{SECRET}-{n:04}" for n in range(HIDDEN)] + ["z-ada"]
    Client.objects.bulk_create(
        Client(client_id=name, node=node, connection_id=name, connected_at=now) for name in names
    )
    people = list(Client.objects.order_by("client_id"))
    Membership.objects.bulk_create(
        Membership(client=person, channel=shown if person.client_id == "z-ada" else hall) for person in people
    )
    token, _ = AccessToken.issue("me")
    # As in a process that has heard of the rules: without this the transaction that made them asks for them again and again.
    table()._changing.clear()
    table().refresh()
    with connection.cursor() as cursor:
        # As a database does by itself within a minute; without, PostgreSQL plans with what it knew of the tests before.
        cursor.execute("ANALYZE")
    yield Actor(principal=f"token:{token.pk}", name="me", token="me")
    table().forget()


both = pytest.mark.parametrize("hidden", ["private", "banned"], indirect=True)


def command(actor: Actor, name: str, **parameters: Any) -> dict[str, Any]:
    """The result of a command of a socket."""
    found = find(name)
    context = Context(actor, DEFAULT_ADDRESS, None, None, Inline())
    running = found.run(context, found.read(parameters, {}))
    try:
        running.send(None)  # type: ignore[attr-defined] # a coroutine that waits for nothing
    except StopIteration as done:
        built: dict[str, Any] = msgspec.to_builtins(done.value.result)
        return built
    raise AssertionError("It waits.")


def over_socket(name: str, rows: str, cursor: str, after: str, **parameters: Any) -> Callable[..., Any]:
    def ask(actor: Actor, secret: str, place: str | None) -> tuple[list[Any], str | None]:
        result = command(actor, name, **parameters, **({after: place} if place else {}))
        return result[rows], result[cursor]

    return ask


def over_rest(path: str) -> Callable[..., Any]:
    def ask(actor: Actor, secret: str, place: str | None) -> tuple[list[Any], str | None]:
        headers = {"Authorization": f"Bearer {secret}"}
        answer = Browser(headers=headers).get(place or f"/api/v1/{path}", HTTP_HOST="localhost")
        assert answer.status_code == 200, answer.content
        body = json.loads(answer.content)
        return body["results"], body["next"]

    return ask


LISTS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "status, clients": (over_socket("status", "clients", "next", "after", limit=1), {"z-ada"}),
    "status, channels": (
        over_socket("status", "channels", "next_channel", "after_channel", limit=1),
        {"z-open:talk"},
    ),
    "list_channels": (over_socket("list_channels", "channels", "next", "after", limit=1, all=True), {"z-open:talk"}),
    "GET /clients": (over_rest("clients?limit=1"), {"z-ada"}),
    "GET /clients, search": (over_rest("clients?limit=1&search=a"), {"z-ada"}),
    "GET /channels": (over_rest("channels?limit=1"), {"z-open:talk"}),
    "GET /channels, search": (over_rest("channels?limit=1&search=t"), {"z-open:talk"}),
    "GET /rooms": (over_rest("rooms?limit=1"), {"z-open"}),
}


def name_of(row: dict[str, Any]) -> str:
    if "client_id" in row:
        return str(row["client_id"])
    return f"{row['room']}:{row['channel']}" if "channel" in row else str(row["room"])


@both
def test_each_page_of_each_list_reads_a_bounded_number_of_rows(hidden: Actor) -> None:
    token, secret = AccessToken.issue("rest")
    actor = Actor(principal=f"token:{token.pk}", name="rest", token="rest")
    for name, (ask, wanted) in LISTS.items():
        found: list[str] = []
        place: str | None = None
        pages = 0
        while pages == 0 or place is not None:
            with RowsRead() as read:
                rows, place = ask(actor, secret, place)
            assert read.rows <= MOST_ROWS, (name, read.statements)
            assert len(read.statements) <= MOST_QUERIES, name
            found += [name_of(row) for row in rows]
            pages += 1
            # A cursor may stand at what its bearer may not know of; it does not say so.
            assert SECRET not in (place or "").split("cursor=")[-1], name
            assert SECRET not in _decoded(place), name
        assert not [one for one in found if SECRET in one], name
        assert len(found) == len(set(found)), name
        assert wanted <= set(found), name
        assert pages <= 2 + HIDDEN // 200, name


def _decoded(place: str | None) -> str:
    """What a REST cursor is made of."""
    text = (place or "").rpartition("cursor=")[2]
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("latin-1")
    except ValueError:
        return ""


@both
def test_other_questions_read_a_bounded_number_of_rows(hidden: Actor) -> None:
    admin = Actor(principal="token:77", name="root", admin=True)
    for name, parameters in (("status", {}), ("list_channels", {"all": True}), ("status", {"limit": 500})):
        with RowsRead() as read:
            command(admin, name, **parameters)
        assert read.rows <= 3 * MOST_ROWS, read.statements
        assert len(read.statements) <= 3 * MOST_QUERIES
    for address in (None, Address("z-open", "*"), Address("b-open", "*"), Address("b-open", f"{SECRET}-0001")):
        for text in (None, "x"):
            with RowsRead() as read, contextlib.suppress(BusError):
                assert history.page(hidden, Question(address, text=text)).messages == []
            assert read.rows <= history.MOST_CANDIDATES + 500, address
            assert len(read.statements) <= MOST_QUERIES, address
    with RowsRead() as read, contextlib.suppress(BusError):
        rooms.get(hidden, "b-open")
    assert read.rows <= rooms.MOST_CHANNELS + 10


def test_a_cursor_that_nobody_gave_out_is_refused() -> None:
    actor = Actor(principal="token:1")
    for name, field in (("list_channels", "after"), ("status", "after"), ("status", "after_channel")):
        with pytest.raises(BusError) as caught:
            command(actor, name, **{field: "~forged"})
        assert caught.value.code == "INVALID_NAME"
