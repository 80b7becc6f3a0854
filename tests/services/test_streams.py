"""Streams: stop, adoption, snapshots, and the end of those whose owners are gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bus import log
from bus.auth.permissions import SYSTEM, Actor, table
from bus.conf.settings import config
from bus.log import StreamState
from bus.models import AuditEntry, Channel, Client, Grant, Node, Room, Stream, StreamPart, StreamSteer
from bus.protocol.errors import BusError
from bus.protocol.names import INBOX_ROOM
from bus.services import channels, ownership, streams
from bus.services.claims import Claim, Claimed
from bus.services.held import ChannelHeld
from tests.harness.waiting import wait_until
from tests.log.streams import bench, effect_of, frames, kept, message, opening, part, refusal, steer, write

pytestmark = pytest.mark.django_db(transaction=True)

ADA = Actor(principal="user:1", client_id="ada")
EVE = Actor(principal="user:2", client_id="eve")


@pytest.fixture
def channel() -> Channel:
    return bench()


@pytest.fixture(autouse=True)
def _no_rules_of_other_tests() -> Iterator[None]:
    table().forget()
    yield
    table().forget()


@pytest.fixture
def connected() -> Client:
    """Ada's connection."""
    node = Node.objects.create(id="n1", host="h", pid=1, version="1", started_at=ago(86_400))
    return Client.objects.create(client_id="ada", principal="user:1", node=node, connection_id="c1")


def open_for_ada(channel: Channel, of: str = "arq_a1", *texts: str, rest: bool = False) -> StreamState:
    """A stream of Ada with these parts."""
    write(opening(channel.id, of, principal="user:1", rest=rest))
    for n, text in enumerate(texts, 1):
        write(by_ada(channel, n, text, of=of))
    return stream(of)


def by_ada(channel: Channel, n: int, content: Any = None, **options: Any) -> log.Entry:
    """A part of Ada."""
    return part(channel.id, n, content, principal="user:1", **options)


def stream(of: str = "arq_a1") -> StreamState:
    """A stream as the database has it."""
    state = streams.state_of(of)
    assert state is not None
    return state


@contextmanager
def in_another_thread(hold: Callable[[], object]) -> Iterator[None]:
    """Do something in a transaction of another connection, which is open until the block ends."""
    held, over = threading.Event(), threading.Event()

    def work() -> None:
        try:
            with transaction.atomic():
                hold()
                held.set()
                assert over.wait(30)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        done = other.submit(work)
        try:
            assert held.wait(10)
            yield
        finally:
            over.set()
            done.result(10)


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


# --- snapshots ----------------------------------------------------------------------------------------------------------


def test_a_snapshot_has_everything_so_far_and_after_the_end(channel: Channel) -> None:
    state = open_for_ada(channel, "arq_a1", 'He"', "llo…")
    assert streams.snapshot(state.id) == log.Snapshot(state, 'He\\"llo…'.encode())
    write(by_ada(channel, 3, "!", end="complete", payload=b'{"x":"message"}'))
    assert streams.snapshot(state.id) == log.Snapshot(stream(), 'He\\"llo…!'.encode())
    assert streams.snapshot(state.id + 1) is None


def test_a_snapshot_of_parts_is_their_list(channel: Channel) -> None:
    write(opening(channel.id, mode="parts"))
    empty = streams.snapshot(stream().id)
    assert empty is not None
    assert empty.data == b""
    write(part(channel.id, 1, {"a": 1}), part(channel.id, 2, {"b": [2]}))
    write(part(channel.id, 3, {"c": 3}))
    before = streams.snapshot(stream().id)
    assert before is not None
    assert before.data == b'{"a":1},{"b":[2]},{"c":3}'
    write(part(channel.id, 3, end="complete"))
    after = streams.snapshot(stream().id)
    assert after is not None
    assert after.data == before.data


def test_open_streams_are_found_by_channel_and_what_moved_by_time(channel: Channel) -> None:
    other = Channel.objects.create(room=channel.room, name="other")
    write(opening(channel.id), opening(channel.id, "arq_a2"), opening(other.id, "arq_b"))
    write(part(channel.id, 0, of="arq_a2", end="complete"))
    assert [state.uid for state in streams.open_in([channel.id, other.id])] == ["arq_a1", "arq_b"]
    Stream.objects.update(touched_at=ago(60))
    Stream.objects.filter(state="complete").update(ended_at=ago(60))
    moment = ago(5)
    assert streams.moved_since(moment) == []
    write(part(channel.id, 1, "a"), part(other.id, 0, of="arq_b", end="aborted"))
    assert [(state.uid, state.state) for state in streams.moved_since(moment)] == [
        ("arq_a1", "open"),
        ("arq_b", "aborted"),
    ]


# --- stop ---------------------------------------------------------------------------------------------------------------


def test_a_stop_waits_for_an_owner_that_is_there_and_its_end_is_stopped(channel: Channel, connected: Client) -> None:
    open_for_ada(channel, "arq_a1", "a")
    stopped = streams.request_stop(EVE, "arq_a1")
    assert (stopped.ended, stopped.state) == (None, stream())
    assert (stopped.state.state, stopped.state.stopping) == ("open", True)
    (appended,) = write(by_ada(channel, 2, "b"))
    assert effect_of(appended).stream.stopping
    (ended,) = write(by_ada(channel, 2, end="complete"))
    assert (effect_of(ended).stream.state, effect_of(ended).stream.stopping) == ("stopped", False)
    assert frames(channel)[-1]["stream"]["state"] == "stopped"
    # The owner says complete again: that is the same end.
    (again,) = write(by_ada(channel, 2, end="complete"))
    assert (again.duplicate, again.seq) == (True, ended.seq)
    assert streams.request_stop(EVE, "arq_a1").state.state == "stopped"


def test_a_stop_without_an_owner_ends_the_stream_at_once(channel: Channel) -> None:
    open_for_ada(channel, "arq_a1", "a", "b")
    write(steer(channel.id, "arq_s1"))
    stopped = streams.request_stop(EVE, "arq_a1")
    assert stopped.ended is not None
    assert (stopped.state, stopped.state.state) == (stream(), "stopped")
    end = frames(channel)[-1]
    assert (end["message"], end["from"], end["untaken"]) == ("ab", "ada", ["arq_s1"])


def test_an_owner_over_rest_counts_as_there_for_a_while(channel: Channel) -> None:
    open_for_ada(channel, "arq_a1", "a", rest=True)
    assert streams.request_stop(EVE, "arq_a1").ended is None
    Stream.objects.update(touched_at=ago(config().stream_rest_grace + 1))
    assert streams.request_stop(EVE, "arq_a1").ended is not None


def test_a_stop_needs_the_right_to_publish(channel: Channel) -> None:
    open_for_ada(channel)
    Grant.objects.create(subject="everyone", action="publish", pattern="lab:*", allow=False)
    with pytest.raises(BusError, match="FORBIDDEN"):
        streams.request_stop(EVE, "arq_a1")
    Grant.objects.create(subject="everyone", action="join", pattern="lab:*", allow=False)
    for of in ("arq_a1", "arq_unknown"):
        with pytest.raises(BusError, match="STREAM_NOT_FOUND"):
            streams.request_stop(EVE, of)
    assert not stream().stopping


@pytest.mark.cluster
def test_a_callers_transaction_keeps_its_patience_and_locks_in_the_order_of_the_log(channel: Channel) -> None:
    open_for_ada(channel)
    open_for_ada(channel, "arq_a2")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '7s'")
        streams.adopt(ADA, "arq_a2")
        assert streams.request_stop(EVE, "arq_a1").ended is not None
        with pytest.raises(BusError, match="STREAM_ENDED"):
            streams.adopt(ADA, "arq_a1")
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)
    # The channel's row is wanted first: while somebody holds it, the caller's transaction locks no stream.
    held = in_another_thread(lambda: Channel.objects.select_for_update().get())
    with held, transaction.atomic(), pytest.raises(BusError, match="UNAVAILABLE"):
        streams.adopt(ADA, "arq_a2")
    assert stream("arq_a2").attempt == 2


# --- adoption -----------------------------------------------------------------------------------------------------------


def test_an_adopted_stream_goes_on_and_its_old_owner_is_refused(channel: Channel) -> None:
    open_for_ada(channel, "arq_a1", "a")
    state, token = streams.adopt(Actor(principal="user:1", client_id="worker"), "arq_a1")
    assert (state, state.attempt, state.have, state.client_id) == (stream(), 2, 1, "worker")
    assert token not in Stream.objects.get().token_digest
    lost, without, wrong, good = write(
        by_ada(channel, 2, "x"),
        by_ada(channel, 2, "x", owner="worker"),
        by_ada(channel, 2, "x", owner="worker", token=token[::-1]),
        by_ada(channel, 2, "b", owner="worker", token=token),
    )
    assert [refusal(entry) for entry in (lost, without, wrong, good)] == ["STREAM_LOST"] * 3 + [None]
    second, again = streams.adopt(ADA, "arq_a1")
    assert (second.attempt, again != token) == (3, True)
    old, new = write(
        by_ada(channel, 3, "x", owner="worker", token=token, end="complete"), by_ada(channel, 3, "c", token=again)
    )
    assert (refusal(old), refusal(new), kept()) == ("STREAM_LOST", None, [(1, 1, "a"), (2, 2, "b"), (3, 3, "c")])


def test_an_adoption_that_starts_over_keeps_the_steers(channel: Channel) -> None:
    open_for_ada(channel, "arq_a1", "dead", "text")
    write(steer(channel.id, "arq_s1"))
    state, token = streams.adopt(ADA, "arq_a1", keep=False)
    assert (state.have, state.steers, kept()) == (0, 1, [])
    write(by_ada(channel, 1, "new", token=token), by_ada(channel, 2, "!", token=token, end="complete"))
    end = frames(channel)[-1]
    assert (end["message"], end["stream"]["parts"], end["untaken"]) == ("new!", 2, ["arq_s1"])
    with pytest.raises(BusError, match="STREAM_ENDED"):
        streams.adopt(ADA, "arq_a1")


def test_only_the_same_identity_or_a_manager_adopts(channel: Channel) -> None:
    open_for_ada(channel)
    write(opening(channel.id, "arq_anonymous", owner="guest"))
    for stranger in (EVE, Actor(principal="user:2", client_id="ada"), Actor(client_id="ada")):
        with pytest.raises(BusError, match="FORBIDDEN"):
            streams.adopt(stranger, "arq_a1")
    with pytest.raises(BusError, match="FORBIDDEN"):
        streams.adopt(Actor(client_id="other-guest"), "arq_anonymous")
    assert streams.adopt(Actor(client_id="guest"), "arq_anonymous").state.attempt == 2
    assert not AuditEntry.objects.exists()
    admin = Actor(principal="user:9", client_id="root", admin=True)
    assert streams.adopt(admin, "arq_a1", door="rest").state.rest
    assert [(entry.action, entry.target) for entry in AuditEntry.objects.all()] == [("adopt_stream", "lab:bench")]


def claim_as_guest(channel: Channel) -> Any:
    """The answer to somebody who claims the id of the anonymous client `guest` without a proof."""
    Client.objects.get_or_create(client_id="guest", defaults={"resume_digest": "x", "disconnected_at": ago(1)})
    node, _ = Node.objects.get_or_create(id="n1", host="h", pid=1, version="1", defaults={"started_at": ago(86_400)})
    newcomer = Claim(
        client_id="guest", client_type="app", screen_name="", avatar="", personality={}, role="anonymous", principal="",
        generated=False, node_id=node.id, connection_id="c2", channel_id=channel.id, last_activity=timezone.now(),
        resume_token=None, new_token="t", new_epoch="e",
    )  # fmt: skip
    with transaction.atomic():
        (answer,) = ownership.claim([(0, newcomer)]).values()
    return answer


@pytest.mark.cluster
@pytest.mark.parametrize("private", [False, True], ids=["its stream", "a stream in its inbox"])
def test_a_claim_without_a_proof_waits_for_no_stream(channel: Channel, private: bool) -> None:
    place = inbox_of_guest() if private else channel
    write(opening(place.id, owner="ada" if private else "guest"))
    with in_another_thread(lambda: Stream.objects.select_for_update().get()):
        assert isinstance(claim_as_guest(channel), ChannelHeld)
        assert not Client.objects.filter(node="n1").exists()
    assert isinstance(claim_as_guest(channel), Claimed)


def inbox_of_guest() -> Channel:
    room = Room.objects.create(name=INBOX_ROOM)
    return Channel.objects.create(room=room, name="guest", kind=Channel.Kind.INBOX)


def test_who_gets_an_id_without_a_proof_gets_no_part_of_an_answer_in_the_inbox(channel: Channel) -> None:
    inbox = inbox_of_guest()
    write(opening(inbox.id, principal="user:1"), by_ada(inbox, 1, "secret"))
    answer = claim_as_guest(channel)
    (_, end) = frames(inbox)
    assert (end["message"], end["stream"]["state"]) == ("secret", "aborted")
    assert (answer.inbox.head, answer.inbox_floor, answer.withheld) == (2, 2, True)
    assert Client.objects.get(client_id="guest").inbox_floor == 2
    assert [refusal(entry) for entry in write(by_ada(inbox, 2, "more"))] == ["STREAM_ENDED"]


def test_a_caller_without_a_client_id_takes_no_part_in_a_stream_without_an_owner(channel: Channel) -> None:
    write(opening(inbox_of_guest().id, owner=""))
    with pytest.raises(BusError, match="STREAM_NOT_FOUND"):
        streams.request_stop(Actor(principal="user:2"), "arq_a1")


def test_who_gets_an_id_without_a_proof_gets_no_stream_with_it(channel: Channel) -> None:
    write(opening(channel.id, owner="guest"), part(channel.id, 1, "a", owner="guest"))
    answer = claim_as_guest(channel)
    assert isinstance(answer, Claimed)
    assert [refusal(entry) for entry in write(part(channel.id, 2, "b", owner="guest"))] == ["STREAM_LOST"]
    with pytest.raises(BusError, match="FORBIDDEN"):
        streams.adopt(Actor(client_id="guest"), "arq_a1")
    long_ago = ago(config().stream_grace + 1)
    Stream.objects.update(gone_at=long_ago, touched_at=long_ago)
    (ended,) = streams.end_overdue()
    assert effect_of(ended).stream.state == "aborted"
    assert frames(channel)[-1]["from"] == "arqonbus_server"


# --- the sweep ----------------------------------------------------------------------------------------------------------


def test_the_stream_of_a_gone_owner_is_aborted_after_the_grace(channel: Channel, connected: Client) -> None:
    open_for_ada(channel, "arq_a1", "what ", "is kept")
    assert streams.end_overdue() == []
    assert Stream.objects.get().gone_at is None
    left = ago(3)
    Client.objects.update(node=None, disconnected_at=left)
    Stream.objects.update(touched_at=ago(10))
    assert streams.end_overdue() == []
    assert Stream.objects.get().gone_at == left
    # Back within the grace: the owner goes on.
    Client.objects.update(node="n1", disconnected_at=None)
    assert streams.end_overdue() == []
    assert Stream.objects.get().gone_at is None
    Client.objects.update(node=None, disconnected_at=ago(config().stream_grace + 1))
    Stream.objects.update(touched_at=ago(config().stream_grace + 2))
    (ended,) = streams.end_overdue()
    assert effect_of(ended).stream == stream()
    end = frames(channel)[-1]
    assert (end["stream"]["state"], end["message"], end["id"]) == ("aborted", "what is kept", "arq_a1_end")
    assert streams.end_overdue() == []
    # The owner that comes back later learns what the server did.
    assert [refusal(entry) for entry in write(by_ada(channel, 2, end="complete"), by_ada(channel, 3, "!"))] == [
        "STREAM_ENDED", "STREAM_ENDED",
    ]  # fmt: skip


def test_who_appends_is_there_though_no_sweep_has_seen_it_connected(channel: Channel, connected: Client) -> None:
    """Where the process is killed again and again, each first sweep comes before the owner is back."""
    open_for_ada(channel)
    Client.objects.update(node=None, disconnected_at=ago(1))
    Stream.objects.update(gone_at=ago(config().stream_grace + 60), touched_at=ago(2))
    assert streams.end_overdue() == []
    Stream.objects.update(touched_at=ago(config().stream_grace + 1))
    assert len(streams.end_overdue()) == 1


@pytest.mark.parametrize("rest", [False, True], ids=["on a socket", "over REST"])
def test_while_no_process_was_up_no_owner_is_missed(channel: Channel, connected: Client, rest: bool) -> None:
    """A stop may last longer than the grace: owners get the grace anew, from the start of the first process."""
    open_for_ada(channel, rest=rest)
    Client.objects.update(node=None, disconnected_at=ago(config().stream_idle + 60))
    Stream.objects.update(gone_at=ago(config().stream_idle + 60), touched_at=ago(config().stream_idle + 60))
    Node.objects.update(started_at=ago(5))
    assert streams.end_overdue() == []
    Node.objects.update(started_at=ago((config().stream_rest_grace if rest else config().stream_grace) + 1))
    assert len(streams.end_overdue()) == 1


def test_a_crashed_process_has_no_owners(channel: Channel, connected: Client) -> None:
    open_for_ada(channel)
    Node.objects.update(heartbeat_at=ago(config().node_timeout + 60))
    streams.end_overdue()
    assert Stream.objects.get().gone_at is not None


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"rest": True, "touched_at": "stream_rest_grace"}, "aborted"),
        ({"touched_at": "stream_idle"}, "aborted"),
        ({"opened_at": "stream_idle"}, "aborted"),
        ({"stop_requested_at": "stream_grace"}, "stopped"),
    ],
    ids=["an owner over REST", "an idle owner", "an owner that never ends", "a stop that nobody follows"],
)
def test_what_is_overdue_ends(channel: Channel, connected: Client, change: dict[str, Any], state: str) -> None:
    open_for_ada(channel, "arq_a1", "a")
    open_for_ada(channel, "arq_other", "b")
    for seconds, ends in ((-5, 0), (5, 1)):
        moments = {
            field: ago(getattr(config(), value) * (streams.LONGEST if field == "opened_at" else 1) + seconds)
            if isinstance(value, str)
            else value
            for field, value in change.items()
        }
        Stream.objects.filter(uid="arq_a1").update(**moments)
        assert len(streams.end_overdue()) == ends
    assert (stream().state, stream("arq_other").state) == (state, "open")


def test_many_gone_owners_are_noted_in_few_transactions(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHANGED", 10)
    write(*(opening(channel.id, f"arq_{n}", owner=f"guest-{n}") for n in range(25)))
    left = {f"guest-{n}": ago(n + 1) for n in range(25)}
    Client.objects.bulk_create(Client(client_id=name, disconnected_at=at) for name, at in left.items())
    Stream.objects.update(touched_at=ago(60))
    with CaptureQueriesContext(connection) as asked:
        assert streams.end_overdue() == []
    assert dict(Stream.objects.values_list("client_id", "gone_at")) == left
    assert len([query for query in asked if query["sql"].startswith("UPDATE")]) == 3


@pytest.mark.cluster
def test_a_process_ends_other_streams_than_those_that_another_one_ends(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SWEPT", 2)
    write(*(opening(channel.id, f"arq_{n}", rest=True) for n in range(5)))
    Stream.objects.update(touched_at=ago(config().stream_rest_grace + 5))
    with in_another_thread(lambda: list(Stream.objects.order_by("id").select_for_update()[:2])):
        assert [effect_of(entry).of for entry in streams.end_overdue()] == ["arq_2", "arq_3"]
    assert [effect_of(entry).of for entry in streams.end_overdue()] == ["arq_0", "arq_1"]


# --- retention and removal ----------------------------------------------------------------------------------------------


def test_the_retention_keeps_the_opening_of_an_open_stream_and_what_follows(channel: Channel) -> None:
    write(*(message(channel.id, f"arq_m{n}") for n in range(5)))
    open_for_ada(channel, "arq_a1", "a")
    write(*(message(channel.id, f"arq_n{n}") for n in range(5)))
    log.prune(default_count=2, default_age=0, window=60)
    assert [frame["seq"] for frame in frames(channel)] == [6, 7, 8, 9, 10, 11]
    write(by_ada(channel, 1, end="complete"))
    assert log.prune(default_count=2, default_age=0, window=60) == 5
    # The row of a stream goes with its opening.
    assert ([frame["seq"] for frame in frames(channel)], Stream.objects.count()) == ([11, 12], 0)


def test_the_row_of_an_ended_stream_stays_as_long_as_its_opening(channel: Channel) -> None:
    open_for_ada(channel, "arq_a1", "a")
    write(by_ada(channel, 1, end="complete"), message(channel.id, "arq_m"))
    log.prune(default_count=3, default_age=0, window=60)
    assert Stream.objects.count() == 1


def test_a_removed_channel_takes_its_streams_along(channel: Channel) -> None:
    open_for_ada(channel, "arq_a1", "a")
    write(steer(channel.id, "arq_s1"))
    channels.delete_channel(SYSTEM, channel.address)
    assert [model.objects.count() for model in (Stream, StreamPart, StreamSteer)] == [0, 0, 0]


@pytest.mark.cluster
def test_a_part_on_its_way_does_not_keep_a_channel_from_its_removal(channel: Channel) -> None:
    open_for_ada(channel, "arq_a1", "a")

    def delete() -> None:
        try:
            channels.delete_channel(SYSTEM, channel.address)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        with in_another_thread(lambda: write(by_ada(channel, 2, "b"))):
            deletion = other.submit(delete)
            wait_until(somebody_waits, "the deletion waits for a lock")
        deletion.result(10)
    assert [model.objects.count() for model in (Channel, Stream, StreamPart)] == [0, 0, 0]


def somebody_waits() -> bool:
    """Whether a transaction of this database waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
