"""Step 1 without a database or a socket: where a message goes, and who may send it."""

from __future__ import annotations

import pytest

from bus.auth.permissions import SYSTEM, Actor
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.inbound import KIND_COMMAND, KIND_PRIVATE, KIND_PUBLISH, Inbound
from bus.protocol.names import EVERYONE, Address, inbox
from bus.protocol.routing import Route
from bus.publishing.plan import INBOXES, at, route, sender_of

pytestmark = pytest.mark.pure

INITIAL = Address("lab", "bench")
ALICE = Actor(principal="user:alice", name="alice", client_id="alice")


def event(room: str | None = None, channel: str | None = None, *to: str, type: str = "event") -> Inbound:
    """A message as the protocol reads it."""
    return Inbound(KIND_PUBLISH, type, room=room, channel=channel, to=list(to))


@pytest.mark.parametrize(
    ("inbound", "expected"),
    [
        (event(), Route(INITIAL)),
        (event(None, "talk"), Route(Address("lab", "talk"))),
        (event("science"), Route(Address("science", "*"))),
        # A channel "pm" leads to the inboxes in `to`; a room "lab:pm" names a channel like any other.
        (event("lab", "pm", "bob", "carol"), Route(INBOXES, ["bob", "carol"])),
        (event("lab:pm"), Route(Address("lab", "pm"))),
        (event("pm:bob"), Route(INBOXES, ["bob"])),
        (event("pm", "bob"), Route(INBOXES, ["bob"])),
        (event("pm:bob", None, "carol"), Route(INBOXES, ["carol"])),
        # Only `pm` makes an event private: elsewhere `to` means nothing.
        (event("lab", "talk", "bob"), Route(Address("lab", "talk"))),
        (Inbound(KIND_PRIVATE, "private", to=["bob"], room="lab", channel="talk"), Route(INBOXES, ["bob"])),
    ],
)
def test_a_message_goes_to_one_address_or_to_inboxes(inbound: Inbound, expected: Route) -> None:
    assert route(inbound, ALICE, INITIAL) == expected


@pytest.mark.parametrize(
    ("inbound", "code", "field"),
    [
        (event("lab", "pm"), ErrorCode.VALIDATION_ERROR, "to"),
        (Inbound(KIND_PRIVATE, "private"), ErrorCode.VALIDATION_ERROR, "to"),
        (event("a b"), ErrorCode.INVALID_NAME, "room"),
        (Inbound(KIND_COMMAND, "command"), ErrorCode.UNKNOWN_TYPE, "type"),
        (event("lab", type="system"), ErrorCode.FORBIDDEN, None),
        (event("*"), ErrorCode.FORBIDDEN, None),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_looked_up(
    inbound: Inbound, code: ErrorCode, field: str | None
) -> None:
    with pytest.raises(BusError) as caught:
        route(inbound, ALICE, INITIAL)
    assert caught.value.code == code
    assert [fault["field"] for fault in caught.value.details] == ([field] if field else [])


def test_admins_write_to_everybody_and_send_system_messages() -> None:
    assert route(event("*", type="system"), SYSTEM, None) == Route(EVERYONE)


def test_a_message_without_an_address_needs_an_initial_one() -> None:
    with pytest.raises(BusError) as caught:
        route(event(), ALICE, None)
    assert [fault["field"] for fault in caught.value.details] == ["channel"]
    # A channel alone has no room to lie in.
    with pytest.raises(BusError) as caught:
        route(event(None, "talk"), ALICE, None)
    assert caught.value.code == ErrorCode.INVALID_NAME


def test_a_route_knows_its_logs() -> None:
    assert Route(INITIAL).addresses() == [INITIAL]
    assert Route(INBOXES, ["bob", "carol"]).addresses() == [inbox("bob"), inbox("carol")]
    assert Route(INBOXES, ["bob", "carol"]).addresses(["bob"]) == [inbox("carol")]


def test_a_sender_is_a_client_id() -> None:
    assert sender_of(ALICE) == "alice"
    assert sender_of(Actor(name="carol")) == "carol"
    with pytest.raises(BusError, match="is not a valid sender"):
        sender_of(Actor(name="Carol with spaces"))


def test_a_problem_in_a_batch_names_its_message() -> None:
    plain, detailed = BusError(ErrorCode.FORBIDDEN), BusError(ErrorCode.VALIDATION_ERROR, "no", [{"field": "to"}], 2.0)
    assert at(plain, 3).details == [{"index": 3}]
    assert at(detailed, 0).details == [{"index": 0, "field": "to"}]
    assert (at(detailed, 0).message, at(detailed, 0).retry_after) == ("no", 2.0)
