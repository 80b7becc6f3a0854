"""Publishing from Django code: on commit, never on rollback, from any thread, in sync and async form."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction

from bus import services
from bus.auth.permissions import Actor
from bus.models import Channel, Client, Message, Room
from bus.notify import dispatch
from bus.notify import messages as notifications
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import (
    Published,
    abroadcast_to_channel,
    abroadcast_to_room,
    apublish,
    apublish_all,
    asend_private,
    broadcast_to_channel,
    broadcast_to_room,
    publish,
    publish_all,
    send_private,
)
from tests.conftest import Connect
from tests.harness.client import WireClient
from tests.harness.server import BusServer

pytestmark = pytest.mark.django_db(transaction=True)

ANYONE = Actor(client_id="anyone")


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The frames of all notifications, which are still sent."""
    heard: list[Any] = []
    send = dispatch.notify

    def listening(notification: notifications.Notification) -> None:
        if isinstance(notification, notifications.Published):
            heard.extend(row.frame for row in notification.messages)
        elif isinstance(notification, notifications.EphemeralPublished):
            heard.extend(row.frame for row in notification.frames)
        send(notification)

    monkeypatch.setattr(dispatch, "notify", listening)
    return heard


def rolled_back(address: str, **options: Any) -> None:
    """Publish inside a transaction that does not come to be."""
    with transaction.atomic():
        publish(address, **options)
        transaction.set_rollback(True)


@pytest.mark.parametrize("durable", [True, False])
def test_100_rollbacks_send_nothing_and_100_commits_send_100(rung: list[Any], fresh_room: str, durable: bool) -> None:
    for number in range(100):
        rolled_back(f"{fresh_room}:a", message=f"never {number}", durable=durable)
    assert rung == []
    assert not Message.objects.filter(channel__room__name=fresh_room).exists()
    for number in range(100):
        with transaction.atomic():
            published = publish(f"{fresh_room}:a", message=f"always {number}", durable=durable)
            assert rung == rung[:number], "nothing is heard before the commit"
            assert published.seq == (number + 1 if durable else None)
    assert len(rung) == 100
    kept = Message.objects.filter(channel__room__name=fresh_room).order_by("seq")
    assert [message.as_dict()["message"] for message in kept] == [f"always {number}" for number in range(100)]
    assert [message.seq for message in kept] == list(range(1, 101))


def test_an_inner_rollback_takes_its_own_messages_only(rung: list[Any], fresh_room: str) -> None:
    with transaction.atomic():
        publish(f"{fresh_room}:a", message="outer")
        rolled_back(f"{fresh_room}:a", message="inner")
    assert [b"outer" in frame for frame in rung] == [True]


def test_outside_of_a_transaction_it_is_sent_at_once(
    rung: list[Any], fresh_room: str, caplog: pytest.LogCaptureFixture
) -> None:
    published = publish(f"{fresh_room}:a", {"n": 1}, message="now", type="note", id="m1", metadata={"trace": 5})
    assert published == Published("arq_m1", fresh_room, "a", 1)
    message = Message.objects.get(channel__room__name=fresh_room).as_dict()
    assert (message["id"], message["type"], message["from"]) == ("arq_m1", "note", "arqonbus_server")
    assert (message["payload"], message["message"], message["metadata"]) == ({"n": 1}, "now", {"trace": 5})
    assert len(rung) == 1
    again = publish(f"{fresh_room}:a", {"n": 1}, id="m1")
    assert (again.seq, again.duplicate) == (1, True)
    with pytest.raises(BusError, match="another channel"):
        publish(f"{fresh_room}:b", {"n": 1}, id="m1")
    assert len(rung) == 1
    with transaction.atomic():
        publish(f"{fresh_room}:b", {"n": 1}, id="m1", durable=False)
    assert [record.levelname for record in caplog.records if "another channel" in record.getMessage()] == ["ERROR"]


def test_the_helpers_address_channels_rooms_everybody_and_inboxes(rung: list[Any], fresh_room: str) -> None:
    Client.objects.create(client_id=f"bob-{fresh_room[-6:]}")
    bob = f"bob-{fresh_room[-6:]}"
    assert broadcast_to_channel(fresh_room, "a", {"n": 1}).channel == "a"
    assert broadcast_to_room(fresh_room, message="all").channel == "*"
    assert publish(fresh_room, message="all").seq == 2
    assert publish("*:*", message="everybody").room == "*"
    assert publish(f"pm:{bob}", message="psst").channel == bob
    private = send_private([bob, "nobody-here", bob], message="psst", id="p1")
    assert [(row.room, row.channel, row.id) for row in private] == [("pm", bob, "arq_p1")]
    assert {message.type for message in Message.objects.filter(channel__name=bob)} == {"private"}
    assert len(rung) == 6
    for nobody in (
        lambda: send_private("nobody-here", message="psst"),
        lambda: publish("pm:nobody-here", message="psst"),
    ):
        with pytest.raises(BusError) as caught:
            nobody()
        assert caught.value.code == "TARGET_NOT_FOUND"
        assert caught.value.details == [{"client_id": "nobody-here"}]


@pytest.mark.parametrize(
    ("address", "options", "code"),
    [
        ("a b:c", {}, "INVALID_NAME"),
        ("a:b:c", {}, "INVALID_NAME"),
        # As it comes from a setting or a column that nobody filled in, and as an address that was put together by hand.
        ("", {}, "INVALID_NAME"),
        (None, {}, "INVALID_NAME"),
        (Address("lab", ""), {}, "INVALID_NAME"),
        (Address("a b", "c"), {}, "INVALID_NAME"),
        (Address("lab:a", "*"), {}, "INVALID_NAME"),
        # A text in the place of the payload, as it is right for the Python client.
        ("lab:a", {"payload": "hello"}, "VALIDATION_ERROR"),
        ("lab:a", {"payload": [1]}, "VALIDATION_ERROR"),
        ("lab:a", {"payload": {"x": {1, 2}, "y": object()}}, "VALIDATION_ERROR"),
        ("*:*", {"actor": ANYONE}, "FORBIDDEN"),
        ("lab:a", {"actor": ANYONE, "type": "system"}, "FORBIDDEN"),
        ("integriguard:telemetry-stream", {"actor": ANYONE}, "FORBIDDEN"),
    ],
)
def test_what_cannot_be_is_an_error_and_makes_nothing(
    rung: list[Any], settings: Any, address: Any, options: dict[str, Any], code: str
) -> None:
    settings.DEBUG = True
    with pytest.raises(BusError) as caught:
        publish(address, options.pop("payload", {"x": 1}), **options)
    assert caught.value.code == code
    assert rung == []
    assert not Message.objects.exists()
    assert not Room.objects.filter(name__in=["", "a b", "lab:a"]).exists()


def test_an_ephemeral_channel_is_passed_on_at_commit_and_not_kept(rung: list[Any], fresh_room: str) -> None:
    publish(f"{fresh_room}:a", message="makes it")
    Channel.objects.filter(room__name=fresh_room, name="a").update(ephemeral=True)
    rung.clear()
    rolled_back(f"{fresh_room}:a", message="no")
    with transaction.atomic():
        assert publish(f"{fresh_room}:a", message="yes").seq is None
        assert rung == []
    assert len(rung) == 1
    assert Message.objects.filter(channel__room__name=fresh_room).count() == 1


def test_several_messages_are_published_in_their_order_or_not_at_all(rung: list[Any], fresh_room: str) -> None:
    first, second, third = publish_all(
        [(f"{fresh_room}:a", {"n": 1}), (f"{fresh_room}:b", {"n": 2}), (Address(fresh_room, "a"), {"n": 3})]
    )
    assert [(one.channel, one.seq) for one in (first, second, third)] == [("a", 1), ("b", 1), ("a", 2)]
    assert publish_all([]) == []
    with pytest.raises(BusError) as refused:
        publish_all([(f"{fresh_room}:a", {"n": 4}), ("no name:a", {"n": 5})])
    assert refused.value.code == "INVALID_NAME"
    assert refused.value.details[0]["index"] == 1
    assert Message.objects.filter(channel__room__name=fresh_room).count() == 3


async def test_the_async_forms_do_the_same(rung: list[Any], fresh_room: str) -> None:
    bob = f"bob-{fresh_room[-6:]}"
    await Client.objects.acreate(client_id=bob)
    assert (await apublish(f"{fresh_room}:a", message="1")).seq == 1
    assert (await abroadcast_to_channel(fresh_room, "a", message="2")).seq == 2
    assert (await abroadcast_to_room(fresh_room, message="3")).channel == "*"
    assert [row.channel for row in await asend_private(bob, message="4")] == [bob]
    assert [row.seq for row in await apublish_all([(f"{fresh_room}:a", {"n": 5})])] == [3]
    assert len(rung) == 5
    await sync_to_async(connections.close_all)()


def test_any_thread_may_publish(rung: list[Any], fresh_room: str) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(10):
                publish(f"{fresh_room}:a", message=f"{number}.{n}")
        except BaseException as problem:  # noqa: BLE001 - shown in the test's own thread
            problems.append(problem)
        finally:
            connection.close()

    publish(f"{fresh_room}:a", message="first")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    seqs = Message.objects.filter(channel__room__name=fresh_room).order_by("seq").values_list("seq", flat=True)
    assert list(seqs) == list(range(1, 42))
    assert len(rung) == 41


async def test_a_management_command_reaches_the_clients_of_a_running_server(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    client = await wire(shared_server, client_id=f"m-{secrets.token_hex(4)}", room=fresh_room, channel="a")
    script = f"""
from django.db import transaction
from bus.services import broadcast_to_channel, broadcast_to_room, send_private
broadcast_to_channel("{fresh_room}", "a", message="to the channel")
broadcast_to_room("{fresh_room}", message="to the room")
send_private("{client.client_id}", message="to you")
for n in range(100):
    with transaction.atomic():
        broadcast_to_channel("{fresh_room}", "a", message=f"rolled back {{n}}")
        transaction.set_rollback(True)
    with transaction.atomic():
        broadcast_to_channel("{fresh_room}", "a", message=f"committed {{n}}")
broadcast_to_channel("{fresh_room}", "a", message="the last")
"""
    await asyncio.to_thread(shared_server.manage, "shell", "--verbosity", "0", "-c", script)
    await _hears(client, "to the channel", "to the room", "to you", "the last")
    heard = [message["message"] for message in client.messages(f"{fresh_room}:a")]
    assert heard == ["to the channel", *(f"committed {n}" for n in range(100)), "the last"]


async def _hears(client: WireClient, *texts: str) -> None:
    for text in texts:
        frame = await client.expect(message=text)
        assert frame["from"] == "arqonbus_server"


async def test_code_inside_an_event_loop_may_use_the_sync_form_in_a_thread(rung: list[Any], fresh_room: str) -> None:
    published = await sync_to_async(publish)(f"{fresh_room}:a", message="1")
    assert published.seq == 1
    assert len(rung) == 1
    await sync_to_async(connections.close_all)()


@pytest.fixture
def commits_are_lost() -> Iterator[None]:
    """PostgreSQL ends the connection in the middle of each commit that keeps a message."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        cursor.execute(
            "CREATE CONSTRAINT TRIGGER lost AFTER INSERT ON bus_message DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION lose()"
        )
    yield
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION IF EXISTS lose() CASCADE")


@pytest.mark.cluster
@pytest.mark.parametrize("way", ["known channel", "new channel", "after the commit"])
def test_a_connection_that_is_lost_in_the_commit_leaves_the_outcome_unknown(
    rung: list[Any], fresh_room: str, request: pytest.FixtureRequest, way: str
) -> None:
    if way != "new channel":
        publish(f"{fresh_room}:a", message="first")
    request.getfixturevalue("commits_are_lost")
    before = len(rung)
    late = way == "after the commit"
    with pytest.raises(BusError) as caught, transaction.atomic() if late else nullcontext():
        publish(f"{fresh_room}:a", message="?", id="m1", durable=not late)
    assert (caught.value.code, caught.value.retry_after) == ("OUTCOME_UNKNOWN", 1.0)
    assert len(rung) == before
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION lose() CASCADE")
    again = publish(f"{fresh_room}:a", message="?", id="m1")
    assert (again.seq, again.duplicate) == (1 if way == "new channel" else 2, False)


@pytest.mark.embedded
@pytest.mark.django_db
def test_a_user_is_no_actor_and_the_error_names_what_makes_one_of_it(fresh_room: str) -> None:
    user: Any = get_user_model()(username="ann")
    address = f"{fresh_room}:users"
    for call in (
        lambda: publish(address, {"n": 1}, actor=user),
        lambda: services.ask(address, {"n": 1}, actor=user),
        lambda: services.mark(address, 1, actor=user),
        lambda: services.erase_message(address, seq=1, actor=user),
        lambda: services.claim_jobs(address, actor=user),
        lambda: services.decide("none", "approve", actor=user),
        lambda: services.stop_stream("none", actor=user),
    ):
        with pytest.raises(TypeError, match=r"bus\.auth\.identity\.from_user\(user\)"):
            call()
