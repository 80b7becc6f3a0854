"""Claims of client ids: a group does what its claims do one after another, and two processes never share an id."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.models import Channel, Client, Counter, Membership, Node, Room, digest
from bus.protocol.errors import Closing
from bus.protocol.names import INBOX_ROOM
from bus.services import channels, connections
from bus.services.claims import Claim, Claimed
from bus.services.proofs import resume_token
from tests.harness.waiting import wait_until

MADE_UP = "client-0123456789abcdef"
#: Ids with and without a row, and with and without an inbox.
NAMES = ["ada", "guest", "gone", "stands", "letters", MADE_UP, "new-1", "new-2", "new-3", "näh'\\"]
CLAIMS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["", "", "user:1", "user:2"]),
        st.sampled_from([None, None, "right", "wrong"]),
        st.sampled_from(["c1", "c1", "c2", "deleted"]),
    ),
    min_size=2,
    max_size=12,
)


class World:
    """Clients of every kind, two channels and an inbox."""

    def __init__(self) -> None:
        now = timezone.now()
        self.node = Node.objects.create(id="n1", host="h", pid=1, version="1")
        room = Room.objects.create(name="claims")
        self.channels = {name: Channel.objects.create(room=room, name=name).pk for name in ("c1", "c2")}
        pm, _ = Room.objects.get_or_create(name=INBOX_ROOM)
        for name, head in (("letters", 3), ("gone", 2)):
            Channel.objects.create(room=pm, name=name, kind=Channel.Kind.INBOX, head=head)
        here: dict[str, Any] = {"node": self.node, "connected_at": now, "inbox_epoch": "told"}
        away: dict[str, Any] = {"disconnected_at": now - timedelta(seconds=5), "inbox_epoch": "told"}
        row = Client.objects.create
        row(client_id="ada", principal="user:1", connection_id="old-1", resume_digest=digest("right"), **here)
        row(client_id="guest", connection_id="old-2", resume_digest=digest("right"), claims=4, **here)
        row(client_id="gone", resume_digest=digest("right"), marked=True, inbox_floor=1, **away)
        # Stands among the members without a connection, as long as its status lasts.
        until = now + timedelta(seconds=600)
        stands = row(client_id="stands", principal="user:2", status={"status": "busy"}, status_until=until, **away)
        members = [("ada", "c1"), ("guest", "c1"), ("guest", "c2")]
        keys = dict(Client.objects.values_list("client_id", "pk"))
        Membership.objects.bulk_create(
            [
                *(Membership(client_id=keys[name], channel_id=self.channels[where]) for name, where in members),
                Membership(client_id=stands.pk, channel_id=self.channels["c1"]),
            ]
        )

    def claim(self, number: int, name: str, principal: str = "", token: str | None = None, where: str = "c1") -> Claim:
        """The claim of connection ``number``."""
        return Claim(
            node_id="n1",
            connection_id=f"connection-{number}",
            client_id=name,
            generated=False,
            client_type="app",
            screen_name="Äda" if number % 2 else "",
            avatar="",
            personality={"mood": ["\u2028", 1.5, None]} if number % 3 else {},
            role="user" if principal else "anonymous",
            principal=principal,
            resume_token=resume_token(name, principal) if token == "right" and name == MADE_UP else token,
            new_token=f"token-{number}",
            channel_id=self.channels.get(where, 10**6),
            last_activity=timezone.now(),
            new_epoch=f"e{number}",
            card={"name": "a", "skills": []} if number % 4 == 3 else None,
        )


@contextmanager
def undone() -> Iterator[None]:
    """What the block writes is rolled back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def told(answer: Any) -> Any:
    """An answer without the key of the row, which a rollback may not give back, and without a count of the moment."""
    if isinstance(answer, Claimed):
        return {**msgspec.structs.asdict(answer), "order": answer.order[1], "participants": None}
    return (answer.close_code, answer.error.code) if isinstance(answer, Closing) else answer


def rows() -> Any:
    """Everything that claims write, without keys and times of their own."""
    clients = {}
    for row in map(dict[str, Any], Client.objects.values()):
        del row["id"], row["last_activity"]
        proven = row.pop("proven_since") == row.pop("connected_at")
        clients[row.pop("client_id")] = {**row, "proven": proven}
    places = sorted(Membership.objects.values_list("client__client_id", "channel_id"))
    return clients, places, dict(Counter.objects.values_list("name", "value"))


@pytest.mark.django_db
def test_a_group_of_claims_does_what_they_do_one_after_another() -> None:
    world = World()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(CLAIMS)
    def check(wanted: list[tuple[str, str, str | None, str]]) -> None:
        claims = [world.claim(number, *one) for number, one in enumerate(wanted)]
        with undone():
            alone = [told(answer) for claim in claims for answer in connections.apply([claim])]
            rows_alone = rows()
        with undone():
            together = connections.apply(claims)
            assert [told(answer) for answer in together] == alone
            assert rows() == rows_alone
            # Members are counted without a join with all clients. Who only stands there is no participant.
            ids = list(world.channels.values())
            joined = {key: Membership.objects.filter(channel=key, client__node__isnull=False).count() for key in ids}
            assert channels.participants(ids) == {key: number for key, number in joined.items() if number}

    check()


@pytest.mark.django_db
def test_a_large_group_of_newcomers_is_complete() -> None:
    world = World()
    claims = [world.claim(number, f"one-of-many-{number}") for number in range(300)]
    answers = connections.apply(claims)
    keys = dict(Client.objects.filter(node="n1").values_list("client_id", "pk"))
    assert [answer.order for answer in answers] == [(keys[claim.client_id], 1) for claim in claims]
    assert {answer.participants for answer in answers} == {302}
    assert Counter.objects.get(name="connections").value == 300
    one = Client.objects.get(client_id="one-of-many-7")
    assert (one.personality, one.card, one.screen_name) == (
        {"mood": ["\u2028", 1.5, None]},
        {"name": "a", "skills": []},
        "Äda",
    )
    assert (one.last_activity, one.inbox_epoch, one.resume_digest) == (claims[7].last_activity, "e7", digest("token-7"))
    assert (one.status, one.status_until, one.disconnected_at, one.marked) == (None, None, None, False)


@pytest.mark.cluster
@pytest.mark.django_db(transaction=True)
def test_a_claim_that_another_process_overtakes_is_tried_again_alone() -> None:
    world = World()

    def apply() -> list[Any]:
        try:
            return connections.apply([world.claim(1, "new-1"), world.claim(2, "new-2"), world.claim(3, "new-3")])
        finally:
            connection.close()

    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(cursor.fetchone()[0])

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            Client.objects.create(client_id="new-2", node=world.node, connection_id="elsewhere")
            answers = other.submit(apply)
            wait_until(waits, "the insert waits for the other transaction")
        first, overtaken, last = answers.result(30)
    assert isinstance(first, Claimed)
    assert isinstance(last, Claimed)
    assert told(overtaken) == (4409, "CLIENT_ID_IN_USE")
    assert Client.objects.get(client_id="new-2").connection_id == "elsewhere"
