"""The system check names gates that can never run, and the helper for tests of a project's gates."""

from __future__ import annotations

from typing import Any

import pytest

from bus import gates
from bus.auth.permissions import Actor
from bus.checks.bus import check_gates
from bus.gates import GateMessage, Refuse
from bus.protocol.names import Address
from bus.services import publish
from bus.testing import assert_refused

ALICE = Actor(principal="user:7", name="alice", client_id="alice")


def good(message: GateMessage, actor: Actor) -> None:
    raise Refuse("TOO_LOW", "Bid 12 or more.")


async def waits(message: GateMessage, actor: Actor) -> None:
    """A gate that would never be awaited."""


def lacks(message: GateMessage) -> None:
    """A gate without the actor."""


@pytest.mark.parametrize(
    ("pattern", "function", "said"),
    [("shop:bids", waits, "asynchronous"), ("shop:*", lacks, "two arguments"), ("shop:bids:x", good, "no pattern")],
)
def test_a_gate_that_cannot_run_is_named(pattern: str, function: Any, said: str) -> None:
    with gates.only((pattern, function), ("*", good)):
        (problem,) = check_gates()
    assert problem.id == "bus.E015"
    assert function.__name__ in problem.msg
    assert said in problem.msg


def test_a_gate_that_comes_too_late_is_refused() -> None:
    with gates.only():
        gates.before("shop:bids")(good)
        assert gates.gates_of(Address("shop", "bids"))
        with pytest.raises(RuntimeError, match="too late"):
            gates.before("shop:bids")(good)


@pytest.mark.parametrize("code", ["", "too low", "X" * 65])
def test_a_code_of_a_refusal_has_the_form_of_the_buss(code: str) -> None:
    with pytest.raises(ValueError, match="capital letters"):
        Refuse(code, "No.")


@pytest.mark.django_db
def test_a_project_asserts_what_its_gates_refuse() -> None:
    with gates.only(("shop:bids", good)):
        with assert_refused("TOO_LOW") as refusal:
            publish("shop:bids", {"n": 1}, actor=ALICE)
        assert refusal.message == "Bid 12 or more."
        with pytest.raises(AssertionError, match="refused with TOO_LOW"), assert_refused("OTHER"):
            publish("shop:bids", {"n": 1}, actor=ALICE)
        with pytest.raises(AssertionError, match="nothing was refused"), assert_refused("TOO_LOW"):
            publish("shop:other", {"n": 1}, actor=ALICE)
