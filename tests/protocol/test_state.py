"""The states of a connection: which steps there are, and what is known of a connection that has ended."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bus.protocol.state import STEPS, Ended, IllegalStep, Lifecycle, State

pytestmark = pytest.mark.pure

#: The usual life of a client.
REGISTRATION = [State.CONNECTED, State.CLAIMING, State.JOINING, State.REGISTERED]


def after(*states: State) -> Lifecycle:
    made = Lifecycle()
    for state in states:
        made.step(state)
    return made


class LifecycleMachine(RuleBasedStateMachine):
    """Tries every step at every place, and keeps the way that was gone beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.lifecycle = Lifecycle()
        self.way = [State.CONNECTING]

    @rule(to=st.sampled_from(State))
    def step(self, to: State) -> None:
        before = self.way[-1]
        if to in STEPS[before]:
            self.lifecycle.step(to)
            self.way.append(to)
            return
        late = before in (State.CLOSING, State.CLOSED) and to not in (State.CLOSING, State.CLOSED)
        with pytest.raises(Ended if late else IllegalStep):
            self.lifecycle.step(to)

    @invariant()
    def it_stands_where_its_last_step_led(self) -> None:
        assert self.lifecycle.state is self.way[-1]

    @invariant()
    def an_end_is_final(self) -> None:
        ended = [state in (State.CLOSING, State.CLOSED) for state in self.way]
        assert ended == sorted(ended)
        assert self.lifecycle.ending == ended[-1]
        assert self.way.count(State.CLOSED) <= 1

    @invariant()
    def it_remembers_a_claim(self) -> None:
        assert self.lifecycle.claimed == (State.CLAIMING in self.way)

    @invariant()
    def it_remembers_that_its_client_was_known(self) -> None:
        assert self.lifecycle.known == bool({State.REGISTERED, State.SERVED} & set(self.way))
        assert self.lifecycle.registered == (self.lifecycle.known and not self.lifecycle.ending)

    @invariant()
    def nobody_registers_without_a_claim(self) -> None:
        if State.REGISTERED in self.way:
            assert [state for state in self.way if state in REGISTRATION[2:]] == REGISTRATION[2:]
            assert self.lifecycle.claimed


TestLifecycle = LifecycleMachine.TestCase


def test_every_state_has_its_steps_and_can_end() -> None:
    assert STEPS.keys() == set(State)
    assert all(State.CLOSED in steps for state, steps in STEPS.items() if state is not State.CLOSED)


def test_a_registration_goes_step_by_step() -> None:
    made = after(*REGISTRATION)
    assert (made.registered, made.claimed, made.ending) == (True, True, False)


def test_a_claim_that_was_refused_may_be_made_again() -> None:
    assert after(*REGISTRATION[:2], *REGISTRATION[1:]).registered


def test_who_is_served_without_registration_has_no_claim() -> None:
    assert after(State.SERVED).registered
    assert not after(State.CONNECTED, State.SERVED).claimed


def test_what_comes_after_the_end_is_no_fault_of_the_program() -> None:
    made = after(*REGISTRATION[:2], State.CLOSING)
    with pytest.raises(Ended):
        made.step(State.JOINING)
    assert (made.state, made.reached) == (State.CLOSING, State.CLAIMING)


def test_a_missing_step_is_named() -> None:
    with pytest.raises(IllegalStep, match="from CONNECTING to REGISTERED"):
        Lifecycle().step(State.REGISTERED)
