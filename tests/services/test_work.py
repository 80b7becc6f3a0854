"""Leased work: claims, their ends, the sweep, and what operators do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bus import log, services
from bus.auth.permissions import SYSTEM, Actor, table
from bus.directory.channels import ChannelRef, find
from bus.models import AuditEntry, Channel, Client, Job, Message, Node, Room
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import archive, channels, work, work_sweep
from bus.services.work import Claim, Done, Outcome, Reject, Release, Renew, Worker
from bus.shapes import Claims
from tests.services.test_streams import ago, claim_as_guest, in_another_thread

pytestmark = pytest.mark.django_db(transaction=True)

NEW, DEAD = Address("jobs", "new"), Address("jobs", "dead")
RULE = {"lease": 30.0, "attempts": 2, "hold": 3600.0, "dead": "jobs:dead"}
ADA, BOB, REST = Worker("ada", "user:1"), Worker("bob"), Worker("robot", "user:3", rest=True)


@pytest.fixture
def channel() -> Channel:
    room = Room.objects.create(name="jobs")
    Channel.objects.create(room=room, name="dead")
    return Channel.objects.create(room=room, name="new", work=RULE)


@pytest.fixture(autouse=True)
def _no_rules_of_other_tests() -> Iterator[None]:
    table().forget()
    yield
    table().forget()


@pytest.fixture
def node() -> Node:
    """A process that has served for a day."""
    return Node.objects.create(id="n1", host="h", pid=1, version="1", started_at=ago(86_400))


def connect(worker: Worker, node: Node | None) -> Client:
    return Client.objects.create(
        client_id=worker.client_id, principal=worker.principal, node=node, disconnected_at=None if node else ago(11)
    )


def ref() -> ChannelRef:
    found = find(NEW)
    assert found is not None
    return found


def put(count: int = 1, **options: Any) -> list[int]:
    """Publish jobs. Return their seqs."""
    return [services.publish(NEW, {"n": n}, **options).seq or 0 for n in range(count)]


def one(operation: Any) -> Any:
    """Carry out one operation. Return its answer, and raise its error."""
    (answer,) = work.apply([operation]).answers
    if isinstance(answer, BusError):
        raise answer
    return answer


def claim(worker: Worker = ADA, most: int = 1, **options: Any) -> Claims:
    answer: Claims = one(Claim(ref(), most, worker, **options))
    return answer


def token(worker: Worker = ADA) -> str:
    (found,) = claim(worker).claims
    return found.claim


def lost(operation: Any) -> tuple[str, str | None]:
    """Why a claim is lost, and to whom."""
    with pytest.raises(BusError, match="CLAIM_LOST") as refused:
        one(operation)
    (detail,) = refused.value.details
    return detail["why"], detail["by"]


def states() -> list[str]:
    return list(Job.objects.order_by("seq").values_list("state", flat=True))


def changes(outcome: Outcome) -> list[tuple[str, int]]:
    return [(change.what, change.seq) for change in outcome.changes]


def frames(channel: str) -> list[Any]:
    return [row.as_dict() for row in Message.objects.filter(channel__name=channel).order_by("seq")]


# --- claims ---------------------------------------------------------------------------------------------------------------


def test_each_job_goes_to_one_worker_in_the_order_of_the_log(channel: Channel) -> None:
    put(3)
    outcome = work.apply([Claim(ref(), 2, ADA), Claim(ref(), 2, BOB), Claim(ref(), 1, REST)])
    first, second, third = outcome.answers
    numbers = [[msgspec.json.decode(c.message)["payload"]["n"] for c in answer.claims] for answer in outcome.answers]
    assert numbers == [[0, 1], [2], []]
    assert (first.ready, second.ready, third.ready) == (0, 0, 0)
    assert (first.claims[0].attempt, first.claims[0].lease, first.claims[0].hold) == (1, 30.0, 3600.0)
    assert changes(outcome) == [("claimed", 1), ("claimed", 2), ("claimed", 3)]
    assert (outcome.changes[2].by, outcome.ready) == ("bob", {})
    assert claim(BOB).claims == []
    # The message is the one that members get, to the byte.
    assert bytes(second.claims[0].message).decode() == Message.objects.get(seq=3).frame


def test_a_result_ends_a_job_and_a_repeated_one_has_the_same_answer(channel: Channel) -> None:
    put(2)
    mine = token()
    first = one(Done(mine, b'{"sum":3}', ADA))
    assert (first.seq, first.state, first.replied) == (1, "done", False)
    assert one(Done(mine, b"4", ADA)) == first
    assert Job.objects.get(seq=1).result == '{"sum":3}'
    assert states() == ["done", "ready"]
    for late in (Release(mine, 0, None, ADA), Reject(mine, None, ADA), Renew(mine, ADA)):
        assert lost(late) == ("done", None)


def test_a_job_that_is_released_is_out_again_until_its_last_attempt_and_then_dead(channel: Channel) -> None:
    put(2, id=None)
    mine = token()
    outcome = work.apply([Release(mine, 0, "no disk\x00", ADA)])
    assert (outcome.answers[0].state, changes(outcome)) == ("ready", [("returned", 1)])
    assert outcome.ready == {channel.id: 1}
    assert lost(Done(mine, None, ADA)) == ("expired", None)
    # It waits behind the others.
    other = token(BOB)
    again = token(BOB)
    assert lost(Renew(mine, ADA)) == ("taken", "bob")
    assert lost(Done(mine, None, ADA)) == ("taken", "bob")
    assert one(Release(again, 0, "still none", BOB)).state == "dead"
    assert lost(Done(again, None, BOB)) == ("cancelled", None)
    assert one(Done(other, None, BOB)).seq == 2
    (letter,) = frames("dead")
    assert (letter["payload"], letter["from"]) == ({"n": 0}, "arqonbus_server")
    told = letter["metadata"]["dead"]
    errors = [(e["attempt"], e["by"], e["error"], e["why"]) for e in told.pop("errors")]
    assert errors == [(1, "ada", "no disk", "released"), (2, "bob", "still none", "released")]
    assert told == {
        "room": "jobs", "channel": "new", "seq": 1, "id": Job.objects.get(seq=1).uid, "from": "arqonbus_server", "attempts": 2,
    }  # fmt: skip


def test_a_rejected_job_is_dead_at_once(channel: Channel) -> None:
    put()
    assert one(Reject(token(), "nobody can", ADA)).state == "dead"
    assert (states(), len(frames("dead"))) == (["dead"], 1)


def test_a_claim_that_nobody_heard_of_counts_as_no_attempt_and_keeps_its_place(channel: Channel) -> None:
    put(2)
    for _ in range(3):
        one(Release(token(), 0, None, ADA, unused=True))
    (again,) = claim().claims
    assert (again.attempt, msgspec.json.decode(again.message)["seq"]) == (1, 1)


def test_delayed_jobs_wait_for_their_time(channel: Channel) -> None:
    put(1, deliver_at=timezone.now() + timedelta(hours=1))
    put(1, deliver_at=timezone.now() - timedelta(hours=1))
    put()
    (early,) = claim().claims
    assert msgspec.json.decode(early.message)["seq"] == 2
    assert work.ready_now([channel.id, channel.id + 1000]) == {channel.id: 1}
    one(Release(early.claim, 60, None, ADA))
    assert len(claim(most=5).claims) == 1
    shown = work.overview(SYSTEM, NEW)
    assert (shown.ready, shown.delayed, shown.claimed_count, shown.oldest) == (0, 2, 1, None)


def test_nobody_else_can_use_a_claim(channel: Channel) -> None:
    put()
    mine = token()
    for worker in (BOB, Worker("ada"), Worker("ada", "user:2")):
        for operation in (Renew, lambda t, w: Done(t, None, w), lambda t, w: Release(t, 0, None, w)):
            with pytest.raises(BusError, match="CLAIM_NOT_FOUND"):
                one(operation(mine, worker))
    for wrong in ("", "x", "arq_clm_1_1_", mine[:-1], mine + "0", mine.replace("_1_", "_2_"), "arq_clm_²_1_x", "_" * 4):
        with pytest.raises(BusError, match="CLAIM_NOT_FOUND"):
            one(Done(wrong, None, ADA))
    # The same principal may, under another client id and over REST.
    assert one(Done(mine, None, Worker("ada-2", "user:1", rest=True))).state == "done"


def test_who_comes_back_gets_the_claims_whose_answers_were_lost(channel: Channel) -> None:
    put(4)
    known, unheard = claim(most=2).claims
    put(1)
    answer = claim(most=2, have=(known.claim, "nonsense"))
    assert answer.claims[0].claim == unheard.claim
    assert [one.attempt for one in answer.claims] == [1, 1]
    assert [msgspec.json.decode(one.message)["seq"] for one in answer.claims] == [2, 3]
    assert claim(BOB, have=()).claims[0].claim != known.claim


def test_a_client_has_no_more_jobs_than_its_limit(channel: Channel, settings: Any) -> None:
    settings.ARQONBUS = {**settings.ARQONBUS, "claims": 2}
    put(5)
    assert len(claim(most=5).claims) == 2
    with pytest.raises(BusError, match="LIMIT_REACHED") as refused:
        claim()
    assert refused.value.details == [{"limit": "claims", "value": 2}]
    assert len(claim(BOB).claims) == 1


def test_the_messages_of_a_claim_fit_into_about_one_frame(channel: Channel, settings: Any) -> None:
    settings.ARQONBUS = {**settings.ARQONBUS, "frame_bytes": 2000}
    for _ in range(3):
        services.publish(NEW, {"text": "x" * 1200})
    answer = claim(most=3)
    assert (len(answer.claims), answer.ready) == (1, 2)
    assert states() == ["claimed", "ready", "ready"]


def test_a_job_without_its_message_is_discarded(channel: Channel) -> None:
    put(2)
    Message.objects.filter(seq=1).delete()
    assert len(claim(most=2).claims) == 1
    assert states() == ["discarded", "claimed"]


def test_the_job_is_decided_on_under_the_lock_of_the_channel(channel: Channel) -> None:
    plain = find(DEAD)
    Channel.objects.filter(name="dead").update(work=RULE)
    services.publish(DEAD, {"n": 1})
    assert plain is not None
    assert Job.objects.filter(channel_id=plain.id).count() == 1


def test_a_message_cannot_grow_in_a_work_channel(channel: Channel) -> None:
    with pytest.raises(BusError, match="stream"):
        services.open_stream(NEW)


def test_a_plain_channel_has_no_work(channel: Channel) -> None:
    other = find(DEAD)
    assert other is not None
    with pytest.raises(BusError, match="This channel has no work"):
        one(Claim(other, 1, ADA))
    for call in (work.overview, lambda actor, address: work.retry(actor, address, 1)):
        with pytest.raises(BusError, match="This channel has no work"):
            call(SYSTEM, DEAD)


# --- the sweep ------------------------------------------------------------------------------------------------------------


def age(**moments: float) -> None:
    """Make all jobs older: each named time is this many seconds ago."""
    Job.objects.update(**{name: ago(seconds) for name, seconds in moments.items()})


def test_the_job_of_a_worker_that_is_gone_is_out_again_after_the_grace(channel: Channel, node: Node) -> None:
    put()
    mine = token()
    ada = connect(ADA, node)
    assert work.sweep() == Outcome([], [], {})
    Client.objects.update(node=None, disconnected_at=ago(5))
    age(claimed_at=60)
    assert work.sweep() == Outcome([], [], {})
    gone_at = Job.objects.get().gone_at
    assert gone_at is not None
    assert abs((gone_at - ago(5)).total_seconds()) < 3
    # It comes back in time, and keeps its job.
    ada.node = node
    ada.save()
    age(gone_at=60)
    assert work.sweep() == Outcome([], [], {})
    assert Job.objects.get().gone_at is None
    # It does not come back.
    Client.objects.update(node=None, disconnected_at=ago(30))
    outcome = work.sweep()
    assert (changes(outcome), outcome.ready) == ([("returned", 1)], {channel.id: 1})
    # Nobody took it meanwhile.
    assert one(Done(mine, b"1", ADA)).state == "done"
    assert [(e["why"], e["error"]) for e in Job.objects.get().errors] == [("expired", "The worker is gone.")]


def test_the_worker_of_a_dead_process_is_gone_since_the_last_heartbeat(channel: Channel, node: Node) -> None:
    put()
    token()
    killed = Node.objects.create(id="n2", host="h", pid=2, version="1", heartbeat_at=ago(60), started_at=ago(86_400))
    connect(ADA, killed)
    age(claimed_at=90)
    work.sweep()
    gone_at = Job.objects.get().gone_at
    assert gone_at is not None
    # Not a minute ago: after an outage of the database every heartbeat is old, and a living process needs a moment.
    assert abs((gone_at - ago(5)).total_seconds()) < 3


def test_a_worker_without_a_socket_renews_its_lease_itself(channel: Channel, node: Node) -> None:
    put()
    mine = token(REST)
    until = Job.objects.get().lease_until
    assert until is not None
    assert abs((until - timezone.now()).total_seconds() - 30) < 10
    age(lease_until=1)
    assert one(Renew(mine, REST)).lease == 30
    assert work.sweep() == Outcome([], [], {})
    age(lease_until=1)
    assert changes(work.sweep()) == [("returned", 1)]
    assert lost(Renew(mine, REST)) == ("expired", None)


def test_nobody_holds_a_job_for_ever(channel: Channel, node: Node) -> None:
    put(2)
    mine, other = token(), token(REST)
    connect(ADA, node)
    age(hold_until=1)
    assert lost(Renew(other, REST)) == ("expired", None)
    assert changes(work.sweep()) == [("returned", 1)]
    assert lost(Renew(mine, ADA)) == ("expired", None)


def test_graces_count_only_while_a_process_serves(channel: Channel, node: Node) -> None:
    put(2)
    token(), token(REST)
    age(gone_at=3600, lease_until=3600, hold_until=-3600)
    Node.objects.update(started_at=ago(1))
    assert work.sweep() == Outcome([], [], {})
    Node.objects.all().delete()
    assert work.sweep() == Outcome([], [], {})
    age(hold_until=1)
    assert len(work.sweep().changes) == 2


def test_who_gets_an_id_without_a_proof_does_not_get_the_jobs(channel: Channel, node: Node) -> None:
    guest = Worker("guest")
    put()
    mine = token(guest)
    claim_as_guest(channel)
    assert claim(guest, have=()).claims == []
    assert changes(work.sweep()) == [("returned", 1)]
    assert claim(guest).claims[0].claim != mine


def test_poison_dies_and_its_letter_says_so(channel: Channel, node: Node) -> None:
    put()
    for _ in range(2):
        token(REST)
        age(lease_until=1)
        work.sweep()
    assert states() == ["dead"]
    assert [e["why"] for e in frames("dead")[0]["metadata"]["dead"]["errors"]] == ["expired", "expired"]


@pytest.mark.cluster
def test_a_locked_job_holds_up_nobody_but_itself(channel: Channel, node: Node) -> None:
    put(3)
    mine, other = token(REST), token(REST)
    age(lease_until=1)
    with in_another_thread(lambda: Job.objects.select_for_update().get(seq=1)):
        assert changes(work.sweep()) == [("returned", 2)]
        answers = work.apply([Done(mine, None, REST), Done(other, None, REST), Claim(ref(), 1, BOB)]).answers
        assert answers[0].code == "UNAVAILABLE"
        assert (answers[1].state, len(answers[2].claims)) == ("done", 1)
    assert one(Done(mine, None, REST)).state == "done"


@pytest.mark.cluster
def test_an_operator_does_not_wait_for_a_locked_job(channel: Channel) -> None:
    put()
    with in_another_thread(lambda: Job.objects.select_for_update().get()):
        with pytest.raises(BusError, match="UNAVAILABLE"):
            work.discard(SYSTEM, NEW, 1)
        with transaction.atomic(), pytest.raises(BusError, match="UNAVAILABLE"):
            work.retry(SYSTEM, NEW, 1)
    assert work.discard(SYSTEM, NEW, 1).state == "discarded"


@pytest.mark.cluster
def test_a_locked_channel_of_dead_letters_lets_the_job_be_as_it_is(channel: Channel, node: Node) -> None:
    put(2)
    mine, other = token(REST), token(REST)
    with in_another_thread(lambda: Channel.objects.select_for_update().get(name="dead")):
        answers = work.apply([Reject(mine, "no", REST), Done(other, None, REST)]).answers
        assert (answers[0].code, answers[1].state) == ("UNAVAILABLE", "done")
        assert states() == ["claimed", "done"]
    assert one(Reject(mine, "no", REST)).state == "dead"


@pytest.mark.cluster
def test_a_group_that_meets_a_lock_still_does_what_needs_none(channel: Channel, node: Node) -> None:
    services.publish_all([(NEW, {})] * 40)
    tokens = [found.claim for found in claim(REST, 40).claims]
    group = [Reject(one, "no", REST) if n % 2 else Done(one, None, REST) for n, one in enumerate(tokens[:20])]
    with in_another_thread(lambda: Channel.objects.select_for_update().get(name="dead")):
        answers = work.apply([Reject(one, "no", REST) for one in tokens[20:]]).answers
        assert [answer.code for answer in answers] == ["UNAVAILABLE"] * 20
        refused = [isinstance(answer, BusError) for answer in work.apply(group).answers]
        assert refused == [False, True] * 10
        # The sweep leaves the jobs that would die with a letter, and takes the others.
        Job.objects.filter(state="claimed").update(attempt=2, hold_until=ago(1))
        Job.objects.filter(seq__in=(22, 39)).update(attempt=1)
        assert changes(work.sweep()) == [("returned", 22), ("returned", 39)]
    assert len(changes(work.sweep())) == 28


@pytest.mark.cluster
def test_processes_sweep_different_jobs(channel: Channel, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_sweep, "SWEPT", 1)
    put(2)
    claim(REST, 2)
    age(lease_until=1)
    with in_another_thread(lambda: Job.objects.select_for_update().get(seq=1)):
        assert changes(work.sweep()) == [("returned", 2)]


def test_a_full_sweep_goes_on_at_once(channel: Channel, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_sweep, "SWEPT", 2)
    put(5)
    claim(ADA, 5)
    connect(ADA, None)
    age(claimed_at=11)
    swept = []
    while (outcome := work.sweep()).more:
        swept.append(len(outcome.changes))
    assert sum(swept) + len(outcome.changes) == 5
    assert states() == ["ready"] * 5


def test_a_group_of_dead_letters_costs_no_query_more_than_one(channel: Channel, django_assert_num_queries: Any) -> None:
    put(12)
    tokens = [found.claim for found in claim(ADA, 12).claims]
    with CaptureQueriesContext(connection) as alone:
        work.apply([Reject(tokens[0], "no", ADA), Reject(tokens[1], "no", ADA)])
    with django_assert_num_queries(len(alone)):
        work.apply([Reject(one, "no", ADA) for one in tokens[2:]])
    assert [frame["metadata"]["dead"]["seq"] for frame in frames("dead")] == list(range(1, 13))


def test_a_dead_letter_that_cannot_be_published_leaves_a_line(
    channel: Channel, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    put(2)
    Channel.objects.filter(name="dead").update(ephemeral=True)
    assert one(Reject(token(), "no", ADA)).state == "dead"
    Channel.objects.filter(name="dead").delete()
    assert one(Reject(token(), "no", ADA)).state == "dead"
    assert [record.seq for record in caplog.records if getattr(record, "event", "") == "dead_letter_lost"] == [1]  # type: ignore[attr-defined]
    # The missing channel was made anew.
    assert len(frames("dead")) == 1


def test_two_threads_never_get_the_same_job(channel: Channel) -> None:
    put(60)
    names = [Worker(f"w{n}") for n in range(4)]
    begin = threading.Barrier(len(names))

    def work_through(worker: Worker) -> list[int]:
        found: list[int] = []
        begin.wait(10)
        try:
            while claims := claim(worker, most=3).claims:
                ends = [Done(claimed.claim, None, worker) for claimed in claims]
                found += [answer.seq for answer in work.apply(ends).answers]
        finally:
            connection.close()
        return found

    with ThreadPoolExecutor(len(names)) as pool:
        seqs = [seq for some in pool.map(work_through, names) for seq in some]
    assert sorted(seqs) == list(range(1, 61))


# --- operators ------------------------------------------------------------------------------------------------------------

ROOT = Actor(principal="user:9", name="root", client_id="root", admin=True)


def test_an_operator_retries_and_discards(channel: Channel) -> None:
    put(3)
    one(Reject(token(), "no", ADA))
    running = token(BOB)
    assert work.retry(ROOT, NEW, 1).state == "ready"
    assert work.discard(ROOT, NEW, 2).state == "discarded"
    assert work.discard(ROOT, NEW, 2).state == "discarded"
    assert lost(Done(running, None, BOB)) == ("cancelled", None)
    assert [c.attempt for c in claim(most=5).claims] == [1, 1]
    for seq, what in ((1, "A worker has the job"), (9, "no job")):
        with pytest.raises(BusError, match="VALIDATION_ERROR") as refused:
            work.retry(ROOT, NEW, seq)
        assert what in str(refused.value.details)
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["retry_job", "discard_job", "discard_job"]


def test_an_overview_names_workers_only_to_those_who_may_see_members(channel: Channel) -> None:
    put(3)
    one(Reject(token(), "no", ADA))
    token(BOB)
    shown = work.overview(ROOT, NEW)
    assert (shown.ready, shown.claimed[0].by, shown.dead[0].errors[0].by, shown.manage) == (1, "bob", "ada", True)
    stranger = Actor(principal="user:2", client_id="eve", scopes=frozenset({"join"}))
    shown = work.overview(stranger, NEW)
    assert (shown.claimed[0].by, shown.dead[0].errors[0].by, shown.manage) == (None, None, False)
    for call in (work.retry, work.discard):
        with pytest.raises(BusError, match="FORBIDDEN"):
            call(stranger, NEW, 1)
    with pytest.raises(BusError, match="FORBIDDEN"):
        work.overview(Actor(scopes=frozenset()), NEW)


def test_an_overview_fits_into_one_frame(channel: Channel) -> None:
    services.publish_all([(NEW, {})] * 100)
    failure = {"attempt": 1, "by": "x" * 64, "error": "\u00e9" * 2000, "at": "2026-01-01T00:00:00Z", "why": "released"}
    newest = {**failure, "attempt": 20}
    Job.objects.update(state="dead", errors=[*[failure] * 19, newest], ended_at=timezone.now())
    shown = work.overview(ROOT, NEW)
    assert [[error.attempt for error in job.errors] for job in shown.dead] == [[20]] * 100
    assert len(msgspec.json.encode(shown)) < 2**18


# --- what keeps and what removes jobs ---------------------------------------------------------------------------------------


def test_the_retention_keeps_what_somebody_may_still_do(channel: Channel) -> None:
    Channel.objects.filter(pk=channel.pk).update(retention_count=1)
    put(5)
    keep = {"default_count": 0, "default_age": 0, "window": 60}
    assert log.prune(**keep) == 0
    one(Done(token(), None, ADA))
    one(Reject(token(), "no", ADA))
    one(Done(token(), None, ADA))
    # The second job is dead, and an operator may retry it.
    assert log.prune(**keep) == 1
    work.discard(SYSTEM, NEW, 2)
    assert log.prune(**keep) == 2
    assert [frame["seq"] for frame in frames("new")] == [4, 5]


def test_jobs_that_ended_long_ago_are_forgotten(channel: Channel) -> None:
    put(4)
    first, second = token(), token()
    one(Done(first, None, ADA))
    one(Reject(second, "no", ADA))
    work.discard(SYSTEM, NEW, 3)
    age(ended_at=61)
    assert log.forget_jobs(60, 1) == 1
    assert log.forget_jobs(60, 10) == 1
    assert states() == ["dead", "ready"]
    assert lost(Done(first, None, ADA)) == ("cancelled", None)


def test_a_channel_loses_its_work_only_when_nothing_is_left_to_do(channel: Channel) -> None:
    put(2)
    one(Reject(token(), "no", ADA))
    with pytest.raises(BusError, match="VALIDATION_ERROR"):
        channels.update_channel(SYSTEM, NEW, {"work": None}, door="rest")
    one(Done(token(), None, ADA))
    channels.update_channel(SYSTEM, NEW, {"work": None}, door="rest")
    assert not Job.objects.exists()
    put()
    # Old messages never become jobs.
    channels.update_channel(SYSTEM, NEW, {"work": RULE}, door="rest")
    assert not Job.objects.exists()
    put()
    channels.delete_channel(SYSTEM, NEW)
    assert not Job.objects.exists()


def test_imported_messages_are_no_jobs(channel: Channel) -> None:
    put(2)
    exported = list(archive.lines(channel))
    channels.delete_channel(SYSTEM, NEW)
    channels.create_channel(SYSTEM, NEW, work=RULE)
    assert sum(archive.take_in(SYSTEM, [(n, line.encode()) for n, line in enumerate(exported, 1)], door="command")) == 2
    assert (len(frames("new")), Job.objects.count()) == (2, 0)
    put()
    assert len(claim(most=5).claims) == 1
