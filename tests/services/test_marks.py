"""The rows of marks: forward only, one write for all moves of a row, and gone with their holders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bus import services
from bus.auth.permissions import Actor
from bus.models import Channel, Client, Mark, Node, Question, Room, new_epoch
from bus.protocol.errors import BusError, ErrorCode
from bus.services import marking, marks, sweeping
from bus.services.marks import Move
from tests.services.test_streams import in_another_thread

pytestmark = pytest.mark.django_db(transaction=True)

ADA = "user:1"


@pytest.fixture
def channel(fresh_room: str) -> Channel:
    """A channel with ten messages, as far as its head says."""
    return Channel.objects.create(room=Room.objects.create(name=fresh_room), name="lab", head=10)


def _seqs(answers: Sequence[Any]) -> list[Any]:
    return [answer.seq if isinstance(answer, marks.Marked) else answer.code for answer in answers]


def test_all_moves_of_a_mark_are_one_write(channel: Channel) -> None:
    marks.write([Move(ADA, channel.pk, 0)])
    with CaptureQueriesContext(connection) as queries:
        answers = marks.write([Move(ADA, channel.pk, seq) for seq in (3, 1, 11, 7, 5)])
    assert _seqs(answers) == [7, 7, ErrorCode.VALIDATION_ERROR, 7, 7]
    assert sum('INTO "bus_mark"' in query["sql"] for query in queries) == 1
    with CaptureQueriesContext(connection) as queries:
        assert _seqs(marks.write([Move(ADA, channel.pk, 4)])) == [7]
    assert not any('INTO "bus_mark"' in query["sql"] for query in queries)


def test_a_mark_goes_back_in_the_order_of_the_moves(channel: Channel) -> None:
    answers = marks.write([Move(ADA, channel.pk, 9), Move(ADA, channel.pk, 2, back=True), Move(ADA, channel.pk, 4)])
    assert _seqs(answers) == [4, 4, 4]
    assert _seqs(marks.write([Move(ADA, channel.pk, 1, back=True)])) == [1]


def test_who_begins_gets_a_mark_at_the_head_and_keeps_it(channel: Channel) -> None:
    (first,) = marks.write([Move(ADA, channel.pk, None)])
    assert isinstance(first, marks.Marked)
    assert (first.seq, first.unread) == (10, 0)
    Channel.objects.filter(pk=channel.pk).update(head=12)
    assert _seqs(marks.write([Move(ADA, channel.pk, None)])) == [10]
    assert services.unread(channel.address, holder=ADA) == 2


def test_who_begins_in_an_inbox_gets_what_it_was_asked_before(channel: Channel) -> None:
    def asked(seq: int, **fields: Any) -> None:
        row: dict[str, Any] = {"to": "bob", "deadline": timezone.now() + timedelta(hours=1), "client_id": "ada"}
        Question.objects.create(channel=channel, seq=seq, uid=f"q{seq}", **{**row, **fields})

    asked(2, state="answered")
    asked(3, deadline=timezone.now() - timedelta(hours=1))
    asked(4, to="")
    begin = partial(Move, channel_id=channel.pk, seq=None, begin=True)
    assert _seqs(marks.write([begin("user:2")])) == [10], "what is over, or asks any worker, is nothing to answer"
    asked(6)
    asked(8)
    first = marks.write([begin("user:3"), begin("user:4", floor=7), begin("user:2"), begin("user:5", seq=9)])
    assert _seqs(first) == [5, 7, 10, 5]
    assert _seqs(marks.write([begin("user:6", seq=1), begin("user:3", seq=9)])) == [1, 5]


def test_a_mark_of_an_earlier_epoch_counts_as_absent(channel: Channel) -> None:
    services.mark(channel.address, 8, holder=ADA)
    Channel.objects.filter(pk=channel.pk).update(head=3, epoch=new_epoch())
    assert services.unread(channel.address, holder=ADA) is None
    # It still says where its holder was, so that a replay tells of the hole.
    assert marking.begin(channel.address, holder=ADA).epoch == channel.epoch
    assert services.mark(channel.address, 1, holder=ADA).unread == 2


def test_marks_of_several_processes_only_go_forward(channel: Channel) -> None:
    together = threading.Barrier(4)

    def move(low: int) -> None:
        try:
            together.wait(10)
            for seq in range(low, 11, 4):
                marks.write([Move(ADA, channel.pk, seq)])
        finally:
            connection.close()

    threads = [threading.Thread(target=move, args=(low,)) for low in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Mark.objects.get().seq == 10


@pytest.mark.cluster
def test_a_mark_that_another_transaction_holds_is_unavailable_and_the_others_are_written(channel: Channel) -> None:
    node = Node.objects.create(id="n", host="h", pid=1, version="0")
    Client.objects.create(client_id="eve", node=node, connection_id="c1")
    moves = [Move(holder, channel.pk, 5) for holder in (ADA, "user:2", "user:3", "user:4", "client:eve")]
    marks.write([Move(ADA, channel.pk, 1), Move("user:2", channel.pk, 1)])

    def hold() -> None:
        services.mark(channel.address, 3, holder=ADA)
        services.mark(channel.address, 3, holder="user:3")
        Client.objects.select_for_update().get(client_id="eve")

    with in_another_thread(hold):
        held = ErrorCode.UNAVAILABLE
        assert _seqs(marks.write(moves)) == [held, 5, held, 5, held]
        with pytest.raises(BusError) as refused, transaction.atomic():
            services.mark(channel.address, 5, holder=ADA)
        assert refused.value.code == held
    assert _seqs(marks.write(moves)) == [5] * 5


def test_a_holder_has_a_bounded_number_of_marks(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MOST", 2)
    others = [Channel.objects.create(room=channel.room, name=f"n{n}") for n in range(3)]
    assert _seqs(marks.write([Move(ADA, other.pk, 0) for other in others[:2]])) == [0, 0]
    answers = marks.write([Move(ADA, channel.pk, 1), Move(ADA, others[0].pk, 0), Move("user:2", channel.pk, 1)])
    assert _seqs(answers) == [ErrorCode.LIMIT_REACHED, 0, 1]


def test_only_the_connection_that_has_an_id_moves_its_marks(channel: Channel) -> None:
    node = Node.objects.create(id="n", host="h", pid=1, version="0")
    client = Client.objects.create(client_id="ada", node=node, connection_id="c1")
    holder = marks.holder_of("", "ada")
    assert _seqs(marks.write([Move(holder, channel.pk, 1, connection_id="c1")])) == [1]
    client.refresh_from_db()
    assert client.marked
    assert _seqs(marks.write([Move(holder, channel.pk, 2, connection_id="c0")])) == [ErrorCode.TAKEN_OVER]
    # Django code needs no connection, but a client.
    assert services.mark(channel.address, 3, holder=holder).seq == 3
    with pytest.raises(BusError) as refused:
        services.mark(channel.address, 3, holder="client:nobody")
    assert refused.value.code == ErrorCode.CLIENT_NOT_FOUND


def test_a_registration_is_told_the_newest_marks_of_its_holder(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "TOLD", 2)
    names = ["a", "b", "c"]
    for name in names:
        other = Channel.objects.create(room=channel.room, name=name)
        marks.write([Move(ADA, other.pk, 0)])
    marks.write([Move("user:2", channel.pk, 1)])
    with CaptureQueriesContext(connection) as queries:
        kept = marks.kept_by([ADA, "user:2"])
    assert len(queries) == 1
    assert [set(kept[ADA]), set(kept["user:2"])] == [
        {f"{channel.room.name}:{name}" for name in names[1:]},
        {f"{channel.room.name}:lab"},
    ]


def test_a_log_with_a_mark_is_in_use(channel: Channel) -> None:
    long_ago = timezone.now() - timedelta(days=9)
    old = {"auto_created": True, "touched_at": long_ago, "created_at": long_ago}
    Channel.objects.filter(pk=channel.pk).update(**old)
    mine = Channel.objects.create(room=channel.room, name="mine", **old)
    services.mark(mine.address, 0, holder=ADA)
    assert sweeping.sweep_channels(60) == 1
    assert list(Channel.objects.filter(room=channel.room)) == [mine]


def test_a_mark_is_part_of_the_callers_transaction(channel: Channel) -> None:
    with transaction.atomic():
        services.mark(channel.address, 5, holder=ADA)
        transaction.set_rollback(True)
    assert not Mark.objects.exists()


def test_the_rights_are_those_of_the_history(channel: Channel) -> None:
    Room.objects.update(private=True)
    stranger = Actor(principal="user:9", name="nine")
    verbs: list[Callable[[], object]] = [
        lambda: services.unread(channel.address, actor=stranger),
        lambda: marking.begin(channel.address, actor=stranger),
        lambda: services.mark(channel.address, 1, actor=stranger),
    ]
    for verb in verbs:
        with pytest.raises(BusError) as refused:
            verb()
        assert refused.value.code == ErrorCode.CHANNEL_NOT_FOUND


def test_to_read_a_mark_makes_no_inbox() -> None:
    with pytest.raises(BusError) as caught:
        marking.read("pm:nobody-yet", holder="user:1")
    assert caught.value.code == "CHANNEL_NOT_FOUND"
    assert not Channel.objects.filter(name="nobody-yet").exists()
