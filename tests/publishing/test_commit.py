"""Step 3 without a database: repeats of messages that no log keeps. The log's own part is tested in tests/log."""

from __future__ import annotations

import pytest
from django.apps import apps

from bus.directory.channels import ChannelRef
from bus.log import Entry, Passed
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.publishing import commit

pytestmark = pytest.mark.pure

STAMP = b"2026-01-01T00:00:00.000Z"


def entry(key: str | None, channel_id: int = 7, *, ephemeral: bool = True) -> Entry:
    """A message from alice to a channel."""
    ref = ChannelRef(channel_id, Address("lab", f"c{channel_id}"), "e", ephemeral, private=False, presence=True)
    return Entry(channel_id, b'{"id":"u"', b',"payload":{}}', "u", "event", "alice", key, context=ref)


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch) -> Passed:
    """The ids that the process remembers: none yet."""
    fresh = Passed()
    monkeypatch.setattr(apps.get_app_config("bus"), "passed", fresh)
    return fresh


def test_an_ephemeral_message_gets_its_frame_and_a_repeat_is_a_duplicate() -> None:
    ids = Passed()
    first, again, nameless = entry("alice/1"), entry("alice/1"), entry(None)
    for one in (first, again, nameless):
        commit.pass_by(one, ids, STAMP)
    assert first.frame == nameless.frame == b'{"id":"u","timestamp":"2026-01-01T00:00:00.000Z","payload":{}}'
    assert [one.duplicate for one in (first, again, nameless)] == [False, True, False]
    with pytest.raises(BusError, match="another channel"):
        commit.pass_by(entry("alice/1", 8), ids, STAMP)


def test_repeats_are_foreseen_before_anything_is_written(ids: Passed) -> None:
    ids.admit("alice/old", 7)
    batch = [entry("alice/1"), entry("alice/1"), entry("alice/old"), entry("alice/kept", ephemeral=False), entry(None)]
    commit.foresee_repeats(batch)
    assert [one.duplicate for one in batch] == [False, True, True, False, False]
    # Nothing is remembered: the caller may still roll back.
    assert ids.channel_of("alice/1") is None


@pytest.mark.parametrize("keys", [("alice/1", "alice/1"), ("alice/2", "alice/old")])
def test_an_id_that_went_to_another_channel_is_refused(ids: Passed, keys: tuple[str, str]) -> None:
    ids.admit("alice/old", 7)
    with pytest.raises(BusError, match="another channel"):
        commit.foresee_repeats([entry(keys[0], 7), entry(keys[1], 8)])
