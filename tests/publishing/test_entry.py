"""Step 2 without a database or a socket: the entries that a message becomes."""

from __future__ import annotations

import json
from itertools import count

import pytest

from bus.directory.channels import ChannelRef, inbox_ref
from bus.log import Entry
from bus.protocol import frames
from bus.protocol.inbound import KIND_PRIVATE, KIND_PUBLISH, Inbound
from bus.protocol.names import Address
from bus.publishing.entry import Uids, entries, random_uid

pytestmark = pytest.mark.pure

HALL = ChannelRef(7, Address("lab", "hall"), "epoch", ephemeral=False, private=False, presence=True)
BOB, CAROL, ALICE = (inbox_ref(number, name, "epoch") for number, name in enumerate(("bob", "carol", "alice"), 10))


def numbered() -> str:
    """Ids that a test can foresee."""
    return f"arq_{next(_numbers)}"


_numbers = count()


def test_one_log_makes_one_entry() -> None:
    connection = object()
    inbound = Inbound(KIND_PUBLISH, "tick", "m1", payload=b'{"n":1}', message=b'"hi"')
    (entry,) = entries(inbound, (HALL,), "alice", numbered, owner="user:alice", exclude=connection, done=print)
    assert (entry.channel_id, entry.context, entry.uid, entry.type, entry.sender) == (
        7,
        HALL,
        "arq_m1",
        "tick",
        "alice",
    )
    assert (entry.key, entry.request_id, entry.owner) == ("alice/m1", "m1", "user:alice")
    assert (entry.exclude, entry.done) == (connection, print)
    frame = json.loads(frames.finish_message(entry.head, entry.tail, b"2026-01-01T00:00:00.000Z", 3))
    assert frame == {
        "version": "1.0",
        "id": "arq_m1",
        "type": "tick",
        "room": "lab",
        "channel": "hall",
        "from": "alice",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "seq": 3,
        "payload": {"n": 1},
        "message": "hi",
    }


def test_an_ephemeral_channel_has_keys_too() -> None:
    passing = ChannelRef(8, Address("lab", "cursor"), "epoch", ephemeral=True, private=False, presence=True)
    (entry,) = entries(Inbound(KIND_PUBLISH, "event", "m1"), (passing,), "alice", numbered)
    assert entry.key == "alice/m1"


def test_without_an_id_each_copy_gets_one_and_no_key() -> None:
    made = entries(Inbound(KIND_PRIVATE, "private"), (BOB, CAROL), "alice", numbered)
    assert len({entry.uid for entry in made}) == 2
    assert [entry.key for entry in made] == [None, None]


def test_the_copies_of_a_private_message_share_their_bytes_and_have_keys_of_their_own() -> None:
    made = entries(Inbound(KIND_PUBLISH, "event", "m1", payload=b'{"n":1}'), (BOB, CAROL), "alice", numbered)
    assert made[0].tail is made[1].tail
    assert [entry.key for entry in made] == ["alice/m1>bob", "alice/m1>carol"]
    # In an inbox an event is a private message.
    assert [entry.type for entry in made] == ["private", "private"]
    assert b'"room":"pm","channel":"carol","from":"alice"' in made[1].head


@pytest.mark.parametrize(("echo", "excluded"), [(False, [True, False]), (True, [False, False])])
def test_a_sender_hears_itself_if_it_asked_to_or_named_itself(echo: bool, excluded: list[bool]) -> None:
    connection = object()
    made: list[Entry] = entries(
        Inbound(KIND_PRIVATE, "private", echo=echo), (BOB, ALICE), "alice", numbered, exclude=connection
    )
    assert [entry.exclude is connection for entry in made] == excluded
    # A channel that is called like the sender is no inbox of it.
    named = ChannelRef(9, Address("lab", "alice"), "epoch", ephemeral=False, private=False, presence=True)
    (entry,) = entries(Inbound(KIND_PUBLISH, "event"), (named,), "alice", numbered, exclude=connection)
    assert entry.exclude is connection


def test_uids_are_arq_ids_and_never_the_same() -> None:
    one, other = Uids(), Uids()
    made = [*(one() for _ in range(100)), *(other() for _ in range(100)), *(random_uid() for _ in range(100))]
    assert len(set(made)) == 300
    assert all(uid.startswith("arq_") and len(uid) <= 36 for uid in made)
