"""The contract as a small model, driven at random by hypothesis against a real server: join, leave, publish, cut, resume, prune.

The model is a list of messages, and for each client the set of seqs it must have been given: all of the others' messages while
it is a member, all that it missed when it comes back, and exactly what is left where the retention was quicker than it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.harness.backends import Backends, Storage
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer

Result = TypeVar("Result")
ROOM = itertools.count()
CLIENTS = ("ann", "bob", "cyd")
KEEP = 5
#: Steps of one example that start a process, which takes a second.
DEAR = 2


class Seat:
    """One client of the model."""

    def __init__(self) -> None:
        self.wire: WireClient | None = None
        self.last: WireClient | None = None
        self.member = False
        self.due: list[int] = []
        """The seqs that the living connection must have been given since it connected, in order."""


class BusModel(RuleBasedStateMachine):
    """`server`, `storage` and `loop` are set by the test."""

    server: BusServer
    storage: Storage
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.room = f"model{next(ROOM)}"
        self.senders: list[str] = []
        """Who sent seq 1, 2, 3 …"""
        self.pruned = 0
        self.dear = 0
        self.seats = {name: Seat() for name in CLIENTS}

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    @property
    def address(self) -> str:
        return f"{self.room}:hall"

    def missed(self, seat: Seat, since: int) -> list[int]:
        return list(range(max(since, self.pruned) + 1, len(self.senders) + 1))

    @initialize()
    def everybody_comes(self) -> None:
        for name, seat in self.seats.items():
            seat.wire = self.wait(
                WireClient.connect(self.server.url, client_id=f"{name}-{self.room}", room=f"{self.room}:door")
            )
        # The log is there from the beginning, with a retention of its own.
        wire = self.seats["ann"].wire
        assert wire is not None
        self.wait(wire.join(self.room, "hall"))
        self.wait(wire.leave(self.room, "hall"))

    @rule(name=st.sampled_from(CLIENTS), since=st.one_of(st.none(), st.integers(0, 12)))
    def join(self, name: str, since: int | None) -> None:
        seat = self.seats[name]
        if seat.wire is None or seat.member:
            return
        fields = {} if since is None else {"since": since}
        result = self.wait(seat.wire.join(self.room, "hall", **fields))
        head = len(self.senders)
        assert result["seq"] == head
        if since is not None:
            reaches = self.pruned <= since <= head
            assert result["recovered"] is reaches
            if not reaches:
                assert result["first_seq"] == self.pruned + 1
                since = self.pruned
            seat.due += self.missed(seat, since)
        seat.member = True

    @rule(name=st.sampled_from(CLIENTS))
    def leave(self, name: str) -> None:
        seat = self.seats[name]
        if seat.wire is None:
            return
        if seat.member:
            self.wait(seat.wire.leave(self.room, "hall"))
            seat.member = False
        else:
            with pytest.raises(WireError, match="NOT_A_MEMBER"):
                self.wait(seat.wire.leave(self.room, "hall"))

    @rule(name=st.sampled_from(CLIENTS), count=st.integers(1, 4), echo=st.booleans())
    def publish(self, name: str, count: int, echo: bool) -> None:
        seat = self.seats[name]
        if seat.wire is None:
            return
        for _ in range(count):
            ack = self.wait(seat.wire.publish("x", room=self.room, channel="hall", ack=True, echo=echo or None))
            self.senders.append(name)
            assert ack["seq"] == len(self.senders)
            for other, there in self.seats.items():
                if there.wire is not None and there.member and (other != name or echo):
                    there.due.append(ack["seq"])

    @rule(name=st.sampled_from(CLIENTS))
    def cut(self, name: str) -> None:
        seat = self.seats[name]
        if seat.wire is not None:
            self.arrived(seat)
            self.wait(seat.wire.cut())
            seat.last, seat.wire = seat.wire, None

    @rule(name=st.sampled_from(CLIENTS))
    def come_back(self, name: str) -> None:
        seat = self.seats[name]
        if seat.wire is not None or seat.last is None:
            return
        known = seat.last.positions.get(self.address)
        seat.wire = self.wait(seat.last.reconnect())
        seat.due = []
        told = seat.wire.registered["channels"].get(self.address)
        assert (told is not None) is seat.member
        if told is None or known is None:
            return
        since = known["seq"]
        assert told["seq"] == len(self.senders)
        assert told["recovered"] is (since >= self.pruned)
        if not told["recovered"]:
            assert told["first_seq"] == self.pruned + 1
            since = self.pruned
        seat.due = self.missed(seat, since)

    @precondition(lambda self: self.dear < DEAR and len(self.senders) > self.pruned + KEEP)
    @rule()
    def prune(self) -> None:
        """Keep the last few. (The server remembers one message only, so that memory does not reach back further.)"""
        self.dear += 1
        self.server.manage("prune_history", "--count", str(KEEP))
        self.pruned = len(self.senders) - KEEP

    @rule()
    def layer_is_lost(self) -> None:
        if self.storage.redis is not None:
            self.storage.redis.flush()

    @precondition(lambda self: self.dear < DEAR and self.senders)
    @rule()
    def restart(self) -> None:
        """The process is restarted in order; everybody is cut and has to come back."""
        self.dear += 1
        for seat in self.seats.values():
            if seat.wire is not None:
                self.arrived(seat)
        self.server.restart(graceful=True)
        for name, seat in self.seats.items():
            if seat.wire is not None:
                self.wait(seat.wire.wait_closed())
                seat.last, seat.wire = seat.wire, None
                self.come_back(name)

    def arrived(self, seat: Seat) -> None:
        """What is due has come, in order and once."""
        wire = seat.wire
        assert wire is not None
        # Not the last seq: who joins again from an earlier one is given it for the second time.
        self.wait(wire.wait_messages(self.address, len(seat.due)))
        self.wait(wire.ping())
        assert [frame["seq"] for frame in wire.messages(self.address)] == seat.due

    @invariant()
    def everybody_has_what_is_due(self) -> None:
        for seat in self.seats.values():
            if seat.wire is not None:
                self.arrived(seat)

    def teardown(self) -> None:
        for seat in self.seats.values():
            if seat.wire is not None:
                self.wait(seat.wire.close())


def run_examples(backends: Backends, examples: int, *, derandomize: bool) -> None:
    storage = backends.new_storage()
    server = BusServer(storage, backends.new_path("server"), secret_key=backends.secret_key, env={"ARQONBUS_RING": "1"})
    server.start()
    chosen = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=derandomize,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        with asyncio.Runner() as runner:
            BusModel.server, BusModel.storage, BusModel.loop = server, storage, runner.get_loop()
            run_state_machine_as_test(BusModel, settings=chosen)
    finally:
        server.kill()
        backends.drop_storage(storage)


@pytest.mark.cluster  # Here the layer can be lost; over many examples it runs with both.
def test_the_server_agrees_with_a_small_model_of_the_contract(backends: Backends) -> None:
    run_examples(backends, 5, derandomize=True)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_the_server_agrees_with_the_model_over_many_examples(backends: Backends) -> None:
    run_examples(backends, 60, derandomize=False)
