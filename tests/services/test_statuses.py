"""Statuses in the database: of connected clients, of agents without a connection, and their ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from bus.auth.permissions import Actor
from bus.models import Channel, Client, Membership, Node, Room
from bus.protocol.errors import BusError, ErrorCode
from bus.services import clients, nodes, statuses
from bus.services.connections import Release, apply
from bus.services.statuses import NewStatus, Said

pytestmark = pytest.mark.django_db(transaction=True)

AGENT = Actor(principal="token:1", name="agent", token="agent")
OTHER = Actor(principal="token:2", name="other", token="other")


@pytest.fixture
def channel(fresh_room: str) -> Channel:
    return Channel.objects.create(room=Room.objects.create(name=fresh_room), name="lab")


@pytest.fixture
def connected(channel: Channel) -> Client:
    """A connected client of the channel."""
    node = Node.objects.create(id="n1", host="h", pid=1, version="0")
    client = Client.objects.create(client_id="ada", node=node, connection_id="c1", principal="token:9")
    Membership.objects.create(client=client, channel=channel)
    return client


def _listed(actor: Actor) -> dict[str, str | None]:
    """The clients that the actor sees, each with the word of its status."""
    rows, _ = clients.list_clients(actor, limit=50)
    return {row.client_id: row.status.status if row.status else None for row in rows}


def _say(client: Client, *words: str, connection_id: str = "c1") -> list[object]:
    return list(statuses.write([NewStatus(client.client_id, connection_id, Said(word), []) for word in words]))


def test_the_newest_status_of_a_client_is_its_only_write(connected: Client) -> None:
    answers = statuses.write(
        [NewStatus("ada", "c1", Said(word), [connected.memberships.get().channel_id]) for word in ("one", "two")]
    )
    for answer in answers:
        assert isinstance(answer, statuses.Written)
        assert answer.status is not None
        assert answer.status.status == "two"
        assert list(answer.participants.values()) == [1]
    assert _listed(AGENT) == {"ada": "two"}
    _say(connected, "")
    statuses.write([NewStatus("ada", "c1", Said(), [])])
    assert Client.objects.filter(status__isnull=True).count() == 1


def test_a_connection_without_its_id_sets_no_status(connected: Client) -> None:
    (answer,) = _say(connected, "lost", connection_id="c0")
    assert isinstance(answer, BusError)
    assert answer.code == ErrorCode.TAKEN_OVER
    assert _listed(AGENT) == {"ada": None}


def test_a_status_ends_with_the_connection_and_with_the_process(connected: Client) -> None:
    _say(connected, "busy")
    apply([Release("ada", "c1", timezone.now(), [])])
    connected.refresh_from_db()
    assert (connected.status, connected.status_until, connected.node) == (None, None, None)
    Client.objects.update(node="n1", connection_id="c2")
    _say(connected, "busy", connection_id="c2")
    nodes.stopped("n1")
    connected.refresh_from_db()
    assert connected.status is None


def test_an_agent_without_a_connection_stands_in_its_channel_while_its_status_lasts(channel: Channel) -> None:
    said = Said("working", task="t", ttl=60)
    assert statuses.set_status(AGENT, "agent", said, channel=channel.address).status is not None
    assert _listed(OTHER) == {"agent": "working"}
    row = clients.get(OTHER, "agent")
    assert (row.channels, row.connected_at) == ([str(channel.address)], None)
    # It moves, and it ends.
    hall = Channel.objects.create(room=channel.room, name="hall")
    statuses.set_status(AGENT, "agent", said, channel=hall.address)
    assert clients.get(OTHER, "agent").channels == [str(hall.address)]
    Client.objects.update(status_until=timezone.now() - timedelta(seconds=1))
    assert _listed(OTHER) == {}
    assert statuses.any_overdue()
    assert statuses.end_overdue() == 1
    assert not statuses.any_overdue()
    assert not Membership.objects.exists()
    assert statuses.set_status(AGENT, "agent", Said()).status is None


def test_a_private_channel_hides_the_agent(channel: Channel) -> None:
    statuses.set_status(AGENT, "agent", Said("working", ttl=60), channel=channel.address)
    Room.objects.update(private=True)
    assert _listed(OTHER) == {}
    assert _listed(AGENT) == {"agent": "working"}
    with pytest.raises(BusError) as refused:
        statuses.set_status(OTHER, "other", Said("here", ttl=60), channel=channel.address)
    assert refused.value.code == ErrorCode.CHANNEL_NOT_FOUND


def test_only_the_owner_of_an_id_sets_its_status(connected: Client) -> None:
    for actor, code in ((AGENT, ErrorCode.CLIENT_ID_IN_USE), (Actor(), ErrorCode.FORBIDDEN)):
        with pytest.raises(BusError) as refused:
            statuses.set_status(actor, "ada", Said("mine", ttl=60))
        assert refused.value.code == code
    owner = Actor(principal="token:9", name="ada", token="ada")
    assert statuses.set_status(owner, "ada", Said("mine", ttl=60)).status is not None
    # It stays in the channels of its connection.
    assert clients.get(owner, "ada").channels == [str(connected.memberships.get().channel)]


def test_a_page_of_clients_with_much_to_say_is_short(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MOST_SAID", 3000)
    node = Node.objects.create(id="n1", host="h", pid=1, version="0")
    card = {"name": "x" * 100, "description": "x" * 500, "skills": []}
    for n in range(9):
        made = Client.objects.create(client_id=f"c{n}", node=node, connection_id=f"c{n}", card=card)
        Membership.objects.create(client=made, channel=channel)
    rows, more = clients.list_clients(OTHER, limit=50)
    seen = [row.client_id for row in rows]
    assert 0 < len(seen) < 9
    while more is not None:
        rows, more = clients.list_clients(OTHER, limit=50, after=more)
        seen += [row.client_id for row in rows]
    assert seen == [f"c{n}" for n in range(9)]
