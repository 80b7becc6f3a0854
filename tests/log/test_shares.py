"""Whose messages wait: the queue of the log is not for whoever fills it first."""

from __future__ import annotations

from collections import deque

import pytest

from bus.log import Entry
from bus.log.held import Held
from bus.log.shares import Shares

pytestmark = pytest.mark.pure

LIMIT, BYTES = 1000, 100_000


def entry(owner: str, size: int = 10) -> Entry:
    return Entry(7, b"h" * size, b"", uid="u", type="event", sender="s", owner=owner)


class Queue:
    """A queue as the writer keeps it."""

    def __init__(self) -> None:
        self.shares = Shares(LIMIT, BYTES)
        self.waiting: deque[Entry] = deque()

    def offer(self, one: Entry) -> bool:
        size = sum(len(waiting.head) for waiting in self.waiting)
        if len(self.waiting) >= LIMIT // 2 or size >= BYTES // 2:
            if self.shares.refuses(one, self.waiting, len(self.waiting), size):
                return False
            self.shares.came(one)
        self.waiting.append(one)
        return True

    def fill(self, owner: str, size: int = 10) -> int:
        taken = 0
        while self.offer(entry(owner, size)):
            taken += 1
        return taken


def test_who_is_alone_has_the_whole_queue() -> None:
    assert Queue().fill("user:1") == LIMIT
    assert Queue().fill("user:1", size=1000) == BYTES // 1000


def test_beside_others_half_of_it_is_kept_for_them() -> None:
    queue = Queue()
    assert queue.offer(entry("user:2"))
    assert queue.fill("user:1") == LIMIT // 2
    assert all(queue.offer(entry("user:2")) for _ in range(100))
    assert not queue.offer(entry("user:1"))


@pytest.mark.parametrize("size", [10, 1000])
def test_a_full_queue_still_takes_those_who_have_little_in_it(size: int) -> None:
    queue = Queue()
    queue.fill("user:1", size)
    assert all(queue.offer(entry(f"user:{n}")) for n in range(2, 300))
    assert not queue.offer(entry("user:1", size))


def test_what_waits_is_bounded_however_many_they_are() -> None:
    queue = Queue()
    taken = sum(queue.offer(entry(f"user:{n}")) for n in range(5000))
    assert taken == 2 * LIMIT


def test_the_addresses_of_one_network_are_one_sender() -> None:
    queue = Queue()
    queue.offer(entry("user:2"))
    taken = sum(queue.offer(entry(f"2001:db8::{n:x}")) for n in range(1, 900))
    assert taken == LIMIT // 2


def test_what_leaves_makes_room_again() -> None:
    queue = Queue()
    queue.offer(entry("user:2"))
    queue.fill("user:1")
    for _ in range(10):
        queue.shares.went(queue.waiting.popleft())
    # One of the ten was the other one's.
    assert sum(queue.offer(entry("user:1")) for _ in range(20)) == 20 or len(queue.waiting) <= LIMIT


def test_a_locked_channel_is_shared_likewise() -> None:
    held = Held(LIMIT, BYTES)
    held.add(entry("user:2"))
    taken = 0
    while not held.refuses(one := entry("user:1")):
        held.add(one)
        taken += 1
    assert taken == LIMIT // 2
    assert not held.refuses(entry("user:3"))
    gone, _ = held.take(LIMIT, BYTES)
    assert len(gone) == LIMIT // 2 + 1
    assert not held.refuses(entry("user:1"))
