"""Operations of one transaction that meet at the same jobs: nothing acknowledged is undone, and no job is claimed twice."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bus import services
from bus.directory.channels import find
from bus.models import Channel, Job, Node, Room
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import claim_tokens, work
from bus.services.work import Claim, Done, Operation, Reject, Release, Renew, Worker
from bus.shapes import Claims, Finished
from tests.services.test_streams import ago
from tests.services.test_work import ADA, BOB, NEW, channel, claim, connect, node, one, put, ref, token

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["channel", "node"]

#: The same agent without its socket.
ADA_REST = ADA._replace(rest=True)


def expire(channel: Channel) -> None:
    """Take all claimed jobs of a channel from their workers."""
    Job.objects.filter(channel=channel, state="claimed").update(hold_until=ago(1), lease_until=ago(1))
    work.sweep()


@pytest.mark.parametrize("age", [0, 60])
def test_a_late_result_and_a_claim_of_its_channel_in_one_group(channel: Channel, node: Node, age: int) -> None:
    put(2)
    mine = token()
    expire(channel)
    Job.objects.filter(seq=1).update(due_at=ago(age))
    done, claimed = work.apply([Done(mine, b'{"a":1}', ADA), Claim(ref(), 1, BOB)]).answers
    assert isinstance(done, Finished)
    job = Job.objects.get(seq=1)
    assert (job.state, job.result, job.client_id, job.attempt) == ("done", '{"a":1}', "ada", 1)
    # The claim gets the other job, whichever was due first.
    assert [msgspec.json.decode(one.message)["seq"] for one in claimed.claims] == [2]
    assert claimed.ready == 0


def test_claims_whose_answers_were_lost_are_those_that_the_group_leaves(channel: Channel) -> None:
    put(3)
    first, second, third = claim(most=3).claims
    group: list[Operation] = [
        Done(first.claim, None, ADA),
        Release(second.claim, 60, None, ADA, unused=False),
        Claim(ref(), 5, ADA, ()),
        Claim(ref(), 5, ADA, ()),
    ]
    _, _, answer, again = work.apply(group).answers
    assert [one.claim for one in answer.claims] == [third.claim]
    # The job stands in one answer alone.
    assert again.claims == []


def test_a_repeated_result_in_one_group_has_the_answer_of_the_first(channel: Channel) -> None:
    services.ask(NEW, {"a": 1}, timeout=100)
    mine = token()
    answers = work.apply([Done(mine, b"{}", ADA), Done(mine, b"{}", ADA)]).answers
    assert [answer.replied for answer in answers] == [True, True]
    assert one(Done(mine, b"{}", ADA)) == answers[0]


def test_an_agent_with_a_socket_does_not_get_its_jobs_of_rest(channel: Channel) -> None:
    put(2)
    over_rest, over_socket = claim(ADA_REST).claims[0].claim, claim(ADA).claims[0].claim
    assert [one.claim for one in claim(ADA, have=()).claims] == [over_socket]
    assert [one.claim for one in claim(ADA_REST, have=()).claims] == [over_rest]


def test_anonymous_callers_of_rest_do_not_get_the_jobs_of_each_other(channel: Channel) -> None:
    put(2)
    shared = Worker("anonymous-0123456789ab", rest=True)
    first = token(shared)
    assert first not in [one.claim for one in claim(shared, 2, have=()).claims]


def test_a_claim_of_a_connection_that_lost_its_id_is_refused(channel: Channel, node: Node) -> None:
    put(2)
    row = connect(BOB, node)
    row.connection_id = "new"
    row.save()
    with pytest.raises(BusError, match="TAKEN_OVER"):
        claim(BOB, connection_id="old")
    with pytest.raises(BusError, match="TAKEN_OVER"):
        claim(Worker("nobody"), connection_id="old")
    assert not Job.objects.filter(state="claimed").exists()
    assert len(claim(BOB, connection_id="new").claims) == 1
    # A principal's ids stay its own.
    assert len(claim(ADA, connection_id="old").claims) == 1


def test_claims_that_nobody_has_cost_no_signature(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the next key"
    put(2)
    signed: list[int] = []
    sign = claim_tokens._signature

    def counted(key: str, job: int, number: int, worker: Worker) -> str:
        signed.append(job)
        return sign(key, job, number, worker)

    monkeypatch.setattr(claim_tokens, "_signature", counted)
    wrong = tuple(f"arq_clm_{n}_1_0123456789abcdef" for n in range(1000))
    (mine,) = claim(have=wrong).claims
    # That of the answer.
    assert len(signed) == 1
    # A claim that was signed with an earlier key is known too.
    old = f"{mine.claim.rpartition('_')[0]}_{sign(settings.SECRET_KEY_FALLBACKS[0], signed[0], 1, ADA)}"
    assert len(claim(have=(old,)).claims) == 1
    assert claim(have=(*wrong, old)).claims != [mine]


# --- any groups against a plain model -----------------------------------------------------------------------------------

WORKERS = (ADA, ADA_REST, BOB)
#: What is done, by which worker, with which of the claims that were given out, and whether a claim says what it has.
STEP = st.tuples(
    st.sampled_from(["claim", "claim", "claim", "done", "done", "release", "unused", "renew", "reject"]),
    st.integers(0, len(WORKERS) - 1),
    st.integers(0, 30),
    st.sampled_from(["", "", "all", "none"]),
)
GROUPS = st.lists(st.tuples(st.booleans(), st.lists(STEP, min_size=1, max_size=6)), min_size=2, max_size=8)


class Model:
    """What the callers know: the claims that they got, and the jobs of which they heard that they are done."""

    def __init__(self) -> None:
        room = Room.objects.create(name=secrets.token_hex(8))
        self.rule = {"lease": 30.0, "attempts": 4, "hold": 3600.0, "dead": None}
        self.channel = Channel.objects.create(room=room, name="new", work=self.rule)
        self.address = Address(room.name, "new")
        found = find(self.address)
        assert found is not None
        self.ref = found
        #: The worker of each claim, in the order of the claims, and its job.
        self.given: dict[str, tuple[Worker, int]] = {}
        self.done: dict[int, tuple[Finished, str]] = {}

    def operation(self, step: tuple[str, int, int, str]) -> Any:
        """Return the operation of a step. A claim is ended by its own worker."""
        what, who, which, having = step
        if what == "claim" or not self.given:
            worker = WORKERS[who]
            known = tuple(one for one, (holder, _) in self.given.items() if holder == worker)
            return Claim(self.ref, 1 + which % 3, worker, {"": None, "all": known, "none": ()}[having])
        mine = list(self.given)[-1 - which % len(self.given)]
        worker, _ = self.given[mine]
        made: dict[str, Any] = {
            "done": Done(mine, str(len(self.done)).encode(), worker),
            "release": Release(mine, 0.0, "no", worker),
            "unused": Release(mine, 0.0, None, worker, unused=True),
            "renew": Renew(mine, worker),
            "reject": Reject(mine, "never", worker),
        }
        return made[what]

    def carry_out(self, operations: list[Any]) -> None:
        """Carry out a group, and compare its answers and the jobs with what the callers know."""
        answers = work.apply(operations).answers
        out: list[int] = []
        for operation, answer in zip(operations, answers, strict=True):
            if isinstance(answer, Finished):
                assert isinstance(operation, Done)
                assert operation.result is not None
                first, _ = self.done.setdefault(answer.seq, (answer, operation.result.decode()))
                assert answer == first
            elif isinstance(answer, Claims):
                assert isinstance(operation, Claim)
                out += [self.claimed(operation, one) for one in answer.claims]
            else:
                assert not isinstance(answer, BusError) or answer.code == "CLAIM_LOST"
        assert len(out) == len(set(out)), "a job went to two claims of one group"
        jobs = {job.seq: job for job in Job.objects.filter(channel=self.channel)}
        for seq, (_, result) in self.done.items():
            assert (jobs[seq].state, jobs[seq].result) == ("done", result)
        live = {job.seq: job.claims for job in jobs.values() if job.state == "claimed"}
        for operation, answer in zip(operations, answers, strict=True):
            for claimed in answer.claims if isinstance(answer, Claims) else ():
                named = claim_tokens.read(claimed.claim, operation.worker)
                assert named is not None
                assert live.get(self.given[claimed.claim][1]) == named.number, "a claim was given out that is over"

    def claimed(self, operation: Claim, one: Any) -> int:
        """Note a claim that was answered, and return its job."""
        seq: int = msgspec.json.decode(one.message)["seq"]
        if one.claim in self.given:
            # Once more, for its own worker, which asked for it.
            assert self.given[one.claim] == (operation.worker, seq)
            assert operation.have == ()
        self.given[one.claim] = (operation.worker, seq)
        return seq


def test_any_groups_keep_what_was_acknowledged_and_give_no_job_twice() -> None:
    examples = 30 if connection.vendor == "sqlite" else 8
    # To look for smaller examples of a failure would take minutes.
    phases = [Phase.generate]
    some = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)
    some(given(groups=GROUPS)(try_groups))()


def try_groups(groups: list[tuple[bool, list[Any]]]) -> None:
    """Carry out the groups, each perhaps after all claims expired."""
    Node.objects.update_or_create(id="n1", defaults={"host": "h", "pid": 1, "version": "1", "started_at": ago(86_400)})
    model = Model()
    for _ in range(4):
        services.publish(model.address, {})
    for expires, steps in groups:
        if expires:
            expire(model.channel)
        model.carry_out([model.operation(step) for step in steps])
