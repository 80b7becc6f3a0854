"""What is forgotten with time, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models.signals import post_delete
from django.utils import timezone
from pytest_django.fixtures import Settings

from bus.auth.permissions import Actor
from bus.models import Channel, Client, Counter, Message, Node, Room
from bus.services import publish, send_private, totals
from bus.services.sweeping import TURN, Walk, sweep_channels, sweep_clients, sweep_inboxes, sweep_rooms, take_turn

pytestmark = pytest.mark.django_db


def gone(name: str, hours: float, **fields: object) -> Client:
    """A client that went some hours ago, and got a letter."""
    client = Client.objects.create(
        client_id=name, disconnected_at=timezone.now() - timedelta(hours=hours), **{"node": None, **fields}
    )
    send_private(name, message="psst")
    return client


def age() -> None:
    """An hour goes by in which nothing happens."""
    then = timezone.now() - timedelta(hours=1)
    Channel.objects.update(touched_at=then, created_at=then)
    Room.objects.update(created_at=then)


def test_a_stranger_who_can_no_longer_prove_who_it_was_is_forgotten_with_its_letters(settings: Settings) -> None:
    settings.ARQONBUS = {"resume_window": 3600.0}
    gone("long-gone", 2)
    gone("gone", 0.5)
    gone("somebody", 2, principal="user:3")
    gone("here", 2, node=Node.objects.create(id="n1", host="here", pid=1, version="1"))
    assert sweep_clients() == 1
    assert sweep_clients() == 0
    left = {"gone", "somebody", "here"}
    assert set(Client.objects.values_list("client_id", flat=True)) == left
    assert set(Channel.objects.filter(kind=Channel.Kind.INBOX).values_list("name", flat=True)) == left
    assert set(Message.objects.values_list("channel__name", flat=True)) == left


def test_an_inbox_goes_when_its_client_is_gone_for_good_and_not_before() -> None:
    gone("somebody", 2, principal="user:3")
    gone("made-up", 2, generated=True).delete()
    assert sweep_inboxes(300) == 0, "somebody wrote to it just now"
    age()
    assert sweep_inboxes(300) == 1
    assert list(Channel.objects.filter(kind=Channel.Kind.INBOX).values_list("name", flat=True)) == ["somebody"]


@pytest.fixture
def another_process() -> Iterator[None]:
    """While the first of two inboxes or rooms is removed, somebody writes to the second one."""

    def to_inbox(instance: Channel, **_: object) -> None:
        if instance.name == "first":
            Client.objects.create(client_id="second")
            send_private("second", message="to you")

    def to_room(instance: Room, **_: object) -> None:
        if instance.name == "room-first":
            publish("room-second:new", message="to all")

    post_delete.connect(to_inbox, sender=Channel)
    post_delete.connect(to_room, sender=Room)
    yield
    post_delete.disconnect(to_inbox, sender=Channel)
    post_delete.disconnect(to_room, sender=Room)


def test_what_comes_to_life_while_others_are_swept_is_kept_with_its_messages(another_process: None) -> None:
    for name in ("first", "second"):
        gone(name, 2).delete()
        room = Room.objects.create(name=f"room-{name}", auto_created=True)
        Channel.objects.create(room=room, name="*", kind=Channel.Kind.ROOM)
    age()
    assert sweep_inboxes(300) == 1
    sweep_rooms(300)
    assert set(Room.objects.values_list("name", flat=True)) == {"pm", "room-second"}
    kept = Message.objects.order_by("id").values_list("channel__name", "frame")
    assert [(name, json.loads(frame)["message"]) for name, frame in kept] == [
        ("second", "psst"), ("second", "to you"), ("new", "to all"),
    ]  # fmt: skip


def test_a_room_made_by_writing_to_all_of_it_goes_once_its_messages_are_gone() -> None:
    maker = Actor(principal="user:3", name="maker")
    publish("x17", {"n": 1}, actor=maker)
    publish("x18", {"n": 1}, actor=maker)
    age()
    assert sweep_channels(300) == 0, "its messages are kept"
    Message.objects.filter(channel__room__name="x17").delete()
    before = totals.stats().total_messages
    assert sweep_rooms(300) == 1
    assert list(Room.objects.values_list("name", flat=True)) == ["x18"]
    assert totals.stats().total_messages == before


def test_sweeps_go_through_the_table_piece_by_piece() -> None:
    room = Room.objects.create(name="walked")
    made = [Channel.objects.create(room=room, name=f"c{n}", auto_created=n != 3) for n in range(7)]
    wanted = Channel.objects.filter(room=room, auto_created=True)
    walk, turns = Walk(rows=3), []
    for _ in range(4):
        turns.append([channel.name for channel in walk.among(wanted, most=2)])
        while not walk.done:
            turns[-1] += [channel.name for channel in walk.among(wanted, most=2)]
    everything = [channel.name for channel in made if channel.auto_created]
    # Each turn looks at three rows of the whole table, and the turn behind the last row begins anew.
    assert [name for turn in turns if turn for name in turn][: len(everything)] == everything
    assert max(map(len, turns)) == 3
    assert Walk().among(wanted, most=2) == made[:2]


def test_one_process_sweeps_for_all_until_it_stops() -> None:
    first = take_turn(0, 60.0)
    assert first
    assert take_turn(0, 60.0) == 0
    second = take_turn(first, 60.0)
    assert second >= first
    assert take_turn(first - 1, 60.0) == 0
    Counter.objects.filter(name=TURN).update(value=second - 91_000)
    assert take_turn(0, 60.0), "nobody swept for one and a half intervals"
    Counter.objects.filter(name=TURN).update(value=second + 3_600_000)
    assert take_turn(0, 60.0), "the clock of the process that noted it was wrong"


def test_the_figures_of_a_large_bus_are_read_now_and_then() -> None:
    rows = iter([(1,), (2,), (3,)])
    sizes = iter([totals.FEW - 1, totals.FEW * 100, 0])
    reused = totals._Reused(lambda: (next(rows), next(sizes)))
    assert [reused() for _ in range(4)] == [(1,), (2,), (2,), (2,)]
