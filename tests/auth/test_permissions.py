"""``can``: the one function that decides, against a model that lists what each rule of docs/security.md allows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.auth.permissions import (
    ACTIONS,
    DECIDE,
    HISTORY,
    JOIN,
    MANAGE,
    PRESENCE,
    PUBLISH,
    SYSTEM,
    Actor,
    Rule,
    can,
    require,
)
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import EVERYONE, Address

pytestmark = pytest.mark.pure

NAMES = ("ada", "bob")
ADDRESSES = (Address("lab", "a"), Address("lab", "b"), Address("lab", "*"), Address("hall", "a"))
INBOXES = tuple(Address("pm", name) for name in NAMES)

actions = st.sampled_from(ACTIONS)
addresses = st.sampled_from((*ADDRESSES, *INBOXES, EVERYONE))
scopes = st.none() | st.frozensets(actions, max_size=3)
actors = st.one_of(
    st.builds(Actor, client_id=st.sampled_from(("", *NAMES)), client_type=st.sampled_from(("app", "agent"))),
    st.builds(
        lambda name, admin, scopes, groups: Actor(
            principal=f"user:{name}", user=name, name=name, client_id=name, admin=admin, scopes=scopes, groups=groups
        ),
        st.sampled_from(NAMES),
        st.booleans(),
        scopes,
        st.frozensets(st.sampled_from(("staff", "guests"))),
    ),
)
rules = st.lists(
    st.builds(
        Rule,
        st.sampled_from(("everyone", "anonymous", "identified", "user", "group", "client_type")),
        st.sampled_from((*NAMES, "staff", "agent")),
        st.sampled_from((*ACTIONS, "*")),
        st.sampled_from(("*", "lab", "lab:a", "hall:*", "*:a", "pm:ada", "*:{me}")),
        st.booleans(),
    ),
    max_size=6,
).map(tuple)


@given(actors, actions, addresses, st.booleans(), rules)
def test_a_ban_is_stronger_than_any_number_of_permissions(
    actor: Actor, action: str, address: Address, private: bool, given: tuple[Rule, ...]
) -> None:
    """For everybody but admins, whom no rule concerns."""
    ban = Rule("everyone", "", action, str(address), allow=False)
    own_inbox = address.room == "pm" and action in (JOIN, HISTORY, PRESENCE) and actor.client_id == address.channel
    to_everybody = address == EVERYONE and action in (JOIN, HISTORY)
    if not actor.admin and not own_inbox and not to_everybody:
        assert not can(actor, action, address, private=private, rules=(*given, ban))


@given(actors, actions, addresses, st.booleans(), rules)
def test_the_order_of_rules_means_nothing(
    actor: Actor, action: str, address: Address, private: bool, given: tuple[Rule, ...]
) -> None:
    forward = can(actor, action, address, private=private, rules=given)
    assert can(actor, action, address, private=private, rules=given[::-1]) is forward


@given(actors, actions, addresses, st.booleans(), rules)
def test_a_private_room_never_allows_more_than_a_public_one(
    actor: Actor, action: str, address: Address, private: bool, given: tuple[Rule, ...]
) -> None:
    if can(actor, action, address, private=True, rules=given):
        assert can(actor, action, address, private=False, rules=given)


@given(actors, scopes, actions, addresses, st.booleans(), rules)
def test_scopes_only_take_away(
    actor: Actor,
    bounds: frozenset[str] | None,
    action: str,
    address: Address,
    private: bool,
    given: tuple[Rule, ...],
) -> None:
    whole, bounded = (msgspec.structs.replace(actor, scopes=value) for value in (None, bounds))
    allowed = can(bounded, action, address, private=private, rules=given)
    assert not allowed or can(whole, action, address, private=private, rules=given)
    assert not allowed or bounds is None or action in bounds


@given(actors, st.sampled_from((JOIN, HISTORY, PRESENCE)), st.sampled_from(INBOXES), st.booleans(), rules)
def test_an_inbox_is_read_by_its_client_alone_whatever_the_rules_say(
    actor: Actor, action: str, address: Address, private: bool, given: tuple[Rule, ...]
) -> None:
    allowed = can(actor, action, address, private=private, rules=given)
    within = actor.scopes is None or action in actor.scopes
    assert allowed is (within and actor.client_id == address.channel)
    assert can(SYSTEM, action, address, private=private, rules=given)


@given(actors, actions, st.sampled_from(ADDRESSES), st.booleans())
def test_without_rules_public_rooms_are_open_and_private_ones_closed(
    actor: Actor, action: str, address: Address, private: bool
) -> None:
    within = actor.scopes is None or action in actor.scopes
    open_to_all = action not in (MANAGE, DECIDE) and not private
    assert can(actor, action, address, private=private, rules=()) is (within and (actor.admin or open_to_all))


@given(actors, actions, addresses, st.booleans(), rules)
def test_a_refusal_of_a_hidden_room_does_not_tell_that_it_exists(
    actor: Actor, action: str, address: Address, private: bool, given: tuple[Rule, ...]
) -> None:
    if can(actor, action, address, private=private, rules=given):
        require(actor, action, address, private=private, rules=given)
        return
    with pytest.raises(BusError) as refused:
        require(actor, action, address, private=private, rules=given)
    seen = any(can(actor, looking, address, private=private, rules=given) for looking in (JOIN, HISTORY))
    hidden = private and action != MANAGE and not seen
    assert refused.value.code is (ErrorCode.CHANNEL_NOT_FOUND if hidden else ErrorCode.FORBIDDEN)


def test_what_a_user_may_publish_by_a_rule() -> None:
    ada, bob = (Actor(principal=f"user:{number}", user=name) for number, name in enumerate(NAMES))
    allowed = (Rule("user", "ada", PUBLISH, "lab:a", allow=True),)
    assert can(ada, PUBLISH, Address("lab", "a"), private=True, rules=allowed)
    assert not can(ada, PUBLISH, Address("lab", "b"), private=True, rules=allowed)
    assert not can(ada, HISTORY, Address("lab", "a"), private=True, rules=allowed)
    assert not can(bob, PUBLISH, Address("lab", "a"), private=True, rules=allowed)
