"""Which channels came after the positions of a follower."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bus.directory.channels import ChannelRef
from bus.protocol.names import Address
from bus.services.observing import Found, came_later

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _found(number: int, name: str, minutes: float) -> Found:
    ref = ChannelRef(number, Address("lab", name), "e", ephemeral=False, private=False, presence=True)
    return Found(ref, NOW + timedelta(minutes=minutes))


def test_a_channel_without_a_position_came_later_if_it_is_younger_than_all_that_have_one() -> None:
    found = [_found(1, "old", -10), _found(2, "hidden", -5), _found(3, "last", 0), _found(4, "new", 1)]
    assert came_later(found, {"old", "last"}, {1, 3}) == {4}
    assert came_later(found, {"old", "last"}, {1}) == {2, 4}
    assert came_later(found, {}, set()) == set()
    # They followed the room when it had no channel, or their logs are gone.
    assert came_later(found, {"*"}, set()) == {1, 2, 3, 4}


def test_a_channel_of_a_slow_transaction_came_later() -> None:
    assert came_later([_found(2, "slow", -0.5), _found(3, "last", 0)], {"last"}, {3}) == {2}
