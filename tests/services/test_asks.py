"""Questions from Django code: asked, answered by clients and by workers, and ended by their deadlines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from django.utils import timezone

from bus import log, services
from bus.auth.permissions import Actor, table
from bus.conf.settings import config
from bus.models import Channel, Client, Grant, Job, Message, Node, Question, Room, Stream
from bus.notify import dispatch
from bus.protocol.errors import BusError
from bus.services import asks, clients, work
from bus.services.sweeping import sweep_clients
from bus.services.work import Claim, Done, Reject, Worker
from tests.log.streams import opening, write
from tests.services.test_streams import ago, in_another_thread
from tests.services.test_work import RULE, connect, one, ref

pytestmark = pytest.mark.django_db(transaction=True)

ADA, BOB, EVE = (Actor(principal=f"user:{n}", client_id=name) for n, name in enumerate(("ada", "bob", "eve"), 1))
WORKER, GUEST = Worker("robot", "user:9"), Worker("guest")


@pytest.fixture(autouse=True)
def _no_rules_of_other_tests() -> Iterator[None]:
    table().forget()
    yield
    table().forget()


@pytest.fixture(autouse=True)
def node() -> Node:
    """A living process, to which Bob is connected. Ada and Eve are known."""
    made = Node.objects.create(id="n1", host="h", pid=1, version="1")
    Client.objects.create(client_id="bob", principal="user:2", node=made, connection_id="c1")
    for actor in (ADA, EVE):
        Client.objects.create(client_id=actor.client_id, principal=actor.principal)
    return made


@pytest.fixture
def jobs() -> Channel:
    room = Room.objects.create(name="jobs")
    Channel.objects.create(room=room, name="dead")
    return Channel.objects.create(room=room, name="new", work=RULE)


def refused(call: Any, *args: Any, **options: Any) -> tuple[str, Any]:
    """The code and the first detail of an error."""
    with pytest.raises(BusError) as caught:
        call(*args, **options)
    return caught.value.code, caught.value.details[0] if caught.value.details else None


def overdue(of: str) -> None:
    Question.objects.filter(uid=of).update(deadline=ago(1))


def answer(of: str, actor: Actor = ADA) -> Any:
    """The reply as its asker reads it."""
    found = services.question(of, actor=actor)
    assert found.state == "answered"
    return found.message


def test_a_question_and_its_answer() -> None:
    of = services.ask("bob", {"a": 1}, timeout=60, actor=ADA)
    assert services.question(of, actor=ADA).state == "open"
    services.reply(of, {"sum": 3}, actor=BOB)
    reply = answer(of)
    assert (reply["from"], reply["to_message"], reply["payload"], reply["channel"]) == ("bob", of, {"sum": 3}, "ada")
    assert refused(services.reply, of, {}, actor=BOB) == ("QUESTION_ENDED", {"message": of, "state": "answered"})
    assert refused(services.question, of, actor=BOB) == ("QUESTION_NOT_FOUND", {"message": of})


def test_a_killed_process_has_no_responders(node: Node) -> None:
    """The row of its client stays until the heartbeat is old; only then nobody is there."""
    Node.objects.filter(pk=node.pk).update(heartbeat_at=ago(config().node_timeout + 60))
    assert refused(services.ask, "bob", {}, actor=ADA) == ("NO_RESPONDER", {"to": "bob"})
    assert not Message.objects.exists()
    assert services.ask("bob", {}, durable=True, actor=ADA)


def test_a_reply_waits_for_the_askers_transaction() -> None:
    with transaction.atomic():
        of = services.ask("bob", {"a": 1}, actor=ADA)
        transaction.set_rollback(True)
    assert refused(services.reply, of, {}, actor=BOB)[0] == "QUESTION_NOT_FOUND"


def test_another_client_of_the_same_principal_may_answer() -> None:
    of = services.ask("bob", {}, actor=ADA)
    Client.objects.create(client_id="bobs-phone", principal="user:2")
    services.reply(of, {"by": "phone"}, actor=Actor(principal="user:2", client_id="bobs-phone"))
    assert answer(of)["from"] == "bobs-phone"


def test_of_a_reply_and_the_deadline_one_counts() -> None:
    late, soon = services.ask("bob", {}, actor=ADA), services.ask("bob", {}, actor=ADA)
    overdue(late)
    # The deadline counts before a sweep has seen it.
    assert refused(services.reply, late, {}, actor=BOB) == ("QUESTION_ENDED", {"message": late, "state": "timeout"})
    assert asks.look([]).overdue
    [expired] = asks.expire()
    assert (expired.client_id, expired.principal, expired.request_id) == ("ada", "user:1", None)
    assert (expired.error.code, expired.error.details) == (
        "ASK_TIMEOUT", [{"to": "bob", "correlation": late, "message": late}],
    )  # fmt: skip
    assert not asks.look([]).overdue
    assert asks.expire() == []
    services.reply(soon, {}, actor=BOB)
    keys = dict(Question.objects.values_list("uid", "pk"))
    assert asks.look(list(keys.values())).ended == {keys[late], keys[soon]}


def test_several_sweeps_end_a_question_once() -> None:
    for _ in range(20):
        overdue(services.ask("bob", {}, actor=ADA))
    begin = threading.Barrier(3)

    def sweep() -> int:
        begin.wait(30)
        try:
            return len(asks.expire())
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        assert sum(found.result(60) for found in [pool.submit(sweep) for _ in range(3)]) == 20


def test_of_many_replies_at_once_one_counts() -> None:
    of = services.ask("bob", {}, actor=ADA)
    begin = threading.Barrier(4)

    def reply(n: int) -> str:
        begin.wait(30)
        try:
            services.reply(of, {"n": n}, actor=BOB)
        except BusError as problem:
            return problem.code
        finally:
            connection.close()
        return "answered"

    with ThreadPoolExecutor(4) as pool:
        told = sorted(found.result(60) for found in [pool.submit(reply, n) for n in range(4)])
    assert told == ["QUESTION_ENDED"] * 3 + ["answered"]
    assert Message.objects.filter(type="reply").count() == 1


def test_a_client_has_a_limit_of_open_questions(settings: Any) -> None:
    settings.ARQONBUS = {"asks": 2}
    first, _ = [services.ask("bob", {}, actor=ADA) for _ in range(2)]
    assert refused(services.ask, "bob", {}, actor=ADA) == ("LIMIT_REACHED", {"limit": "asks", "value": 2})
    assert services.ask("bob", {}, actor=EVE)
    services.reply(first, {}, actor=BOB)
    assert services.ask("bob", {}, actor=ADA)
    for _ in range(3):
        assert services.ask("bob", {})  # The project's own code has no limit.


def test_who_may_not_write_neither_asks_nor_answers() -> None:
    of = services.ask("bob", {}, actor=ADA)
    Grant.objects.create(subject="everyone", action="publish", pattern="pm:*", allow=False)
    table().forget()
    assert refused(services.reply, of, {}, actor=BOB)[0] == "FORBIDDEN"
    assert refused(services.ask, "ada", {}, durable=True, actor=BOB)[0] == "FORBIDDEN"
    assert services.question(of, actor=ADA).state == "open"


def test_a_new_owner_of_an_id_gets_no_replies_of_the_old_one(node: Node) -> None:
    guest = Actor(client_id="guest")
    Client.objects.create(client_id="guest", node=node)
    of = services.ask("bob", {}, actor=guest)
    with transaction.atomic():
        assert asks.disown(["guest", "nobody"]) == set()
    assert refused(services.reply, of, {}, actor=BOB)[0] == "QUESTION_ENDED"


@pytest.mark.cluster
def test_a_claim_without_a_proof_waits_for_no_question(node: Node) -> None:
    of = services.ask("bob", {}, actor=Actor(client_id="guest"))
    with in_another_thread(lambda: Question.objects.select_for_update().get(uid=of)), transaction.atomic():
        # It is being answered at this moment, so the claim of the id is tried again.
        assert asks.disown(["guest"]) == {"guest"}
    with transaction.atomic():
        assert asks.disown(["guest"]) == set()


def leave_everything(node: Node, jobs: Channel) -> str:
    """The anonymous client `guest` asks Bob, takes a job, opens a stream and goes. Returns the id of its question."""
    client = connect(GUEST, node)
    services.publish("jobs:new", {"n": 1})
    assert one(Claim(ref(), 1, GUEST)).claims
    write(opening(Channel.objects.create(room=jobs.room, name="talk").id, owner="guest"))
    of = services.ask("bob", {}, durable=True, actor=Actor(client_id="guest"))
    Client.objects.filter(pk=client.pk).update(node=None, disconnected_at=ago(10**7))
    return of


@pytest.mark.parametrize("by", ["an admin", "the sweep"])
def test_the_next_owner_of_the_id_of_a_removed_client_gets_nothing_of_it(by: str, jobs: Channel, node: Node) -> None:
    of = leave_everything(node, jobs)
    if by == "an admin":
        clients.forget(ADA_ADMIN, "guest", door="admin")
    else:
        assert sweep_clients() == 1
    connect(GUEST, node)
    assert refused(services.reply, of, {}, actor=BOB) == ("QUESTION_ENDED", {"message": of, "state": "timeout"})
    assert one(Claim(ref(), 1, GUEST, have=())).claims == []
    assert Stream.objects.get().client_id == ""


@pytest.mark.cluster
@pytest.mark.parametrize("kind", [Question, Job, Stream])
def test_a_client_is_not_removed_while_something_of_it_changes(kind: Any, jobs: Channel, node: Node) -> None:
    leave_everything(node, jobs)
    with in_another_thread(lambda: kind.objects.select_for_update().get()):
        assert refused(clients.forget, ADA_ADMIN, "guest", door="admin")[0] == "UNAVAILABLE"
        assert sweep_clients() == 0
    assert Question.objects.get().state == "open"
    assert sweep_clients() == 1
    assert not Client.objects.filter(client_id="guest").exists()


def test_the_retention_keeps_the_message_of_an_open_question() -> None:
    of = services.ask("bob", {}, durable=True, actor=ADA)
    Channel.objects.filter(name="bob").update(retention_count=2)
    for n in range(3):
        services.send_private("bob", {"n": n})
    keep = {"default_count": 0, "default_age": 0, "window": 60}
    assert log.prune(**keep) == 0
    services.reply(of, {}, actor=BOB)
    assert log.prune(**keep) == 2


def test_ended_questions_are_forgotten() -> None:
    ended, fresh, still = [services.ask("bob", {}, actor=ADA) for _ in range(3)]
    for of in (ended, fresh):
        services.reply(of, {}, actor=BOB)
    Question.objects.filter(uid=ended).update(ended_at=timezone.now() - timedelta(days=2))
    assert asks.forget(86400, 100) == 1
    assert set(Question.objects.values_list("uid", flat=True)) == {fresh, still}


# --- work channels --------------------------------------------------------------------------------------------------------


def test_the_result_of_a_job_is_the_reply(jobs: Channel, node: Node) -> None:
    connect(WORKER, node)
    of = services.ask("jobs:new", {"a": 1}, timeout=60, correlation="c", actor=ADA)
    (claimed,) = one(Claim(ref(), 1, WORKER)).claims
    frame = msgspec.json.decode(claimed.message)
    assert (frame["ask"]["timeout"], frame["reply_to"], frame["correlation"]) == (60, "ada", "c")
    done = Done(claimed.claim, b'{"sum":3}', WORKER)
    assert one(done).replied is True
    reply = answer(of)
    assert (reply["from"], reply["payload"], reply["correlation"]) == ("robot", {"sum": 3}, "c")
    assert one(done).replied is True
    assert Message.objects.filter(type="reply").count() == 1


def test_a_result_that_comes_too_late_counts_for_the_job_alone(jobs: Channel, node: Node) -> None:
    connect(WORKER, node)
    of = services.ask("jobs:new", {"a": 1}, actor=ADA)
    (claimed,) = one(Claim(ref(), 1, WORKER)).claims
    overdue(of)
    done = Done(claimed.claim, b"3", WORKER)
    assert (one(done).replied, one(done).replied) == (False, False)
    [expired] = asks.expire()
    assert expired.error.details[0]["to"] == "jobs:new"


def test_a_job_that_nobody_can_do_answers_with_an_error(jobs: Channel, node: Node) -> None:
    connect(WORKER, node)
    first, second = [services.ask("jobs:new", {"n": n}, actor=ADA) for n in range(2)]
    (claimed,) = one(Claim(ref(), 1, WORKER)).claims
    one(Reject(claimed.claim, "It is broken.", WORKER))
    assert (answer(first)["error"], answer(first)["payload"]) == ("It is broken.", {})
    work.discard(ADA_ADMIN, ref().address, Question.objects.get(uid=second).seq)
    assert answer(second)["error"] == "The job was discarded."


def test_a_plain_channel_is_not_asked(jobs: Channel) -> None:
    assert refused(services.ask, "jobs:dead", {}, actor=ADA)[1]["field"] == "ask"
    assert refused(services.ask, "bob", {}, timeout=0, actor=ADA)[1]["field"] == "ask"
    assert not Message.objects.exists()


ADA_ADMIN = Actor(principal="user:1", client_id="ada", admin=True)


def test_a_channel_that_goes_tells_of_its_open_questions_in_parts(
    jobs: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asks, "SWEPT", 2)
    told: list[int] = []
    monkeypatch.setattr(dispatch, "notify_on_commit", lambda part: told.append(len(part.questions)))
    for _ in range(3):
        services.ask("jobs:new", {}, actor=ADA)
    with transaction.atomic():
        asks.end_in(jobs)
    assert (told, Question.objects.count()) == ([2, 1], 0)
