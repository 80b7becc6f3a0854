"""The project's own authentication: what its function allows is all that a caller may do, also by another way in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from bus.auth import identity, own, tickets
from bus.auth.own import Identified
from bus.auth.permissions import Actor
from bus.protocol.errors import BusError, ErrorCode
from bus.services import decide, request_decision, tokens

pytestmark = pytest.mark.django_db(transaction=True)

#: Whether the function was asked while a transaction of the bus was open.
asked_inside: list[bool] = []


def identify(bearer: str) -> Identified | None:
    """Know a superuser by two texts, with few rights each."""
    asked_inside.append(connection.in_atomic_block)
    user = get_user_model().objects.get(username="root")
    bounds = {
        "few": Identified(user, groups=(), admin=False, scopes=("join",)),
        "no admin": Identified(user, admin=False),
    }
    return bounds.get(bearer)


@pytest.fixture
def few(settings: Any) -> Iterator[Actor]:
    """A superuser whom the function gives few rights."""
    settings.ARQONBUS = {"identify": f"{__name__}.identify"}
    get_user_model().objects.create_superuser("root", password="x")
    asked_inside.clear()
    yield identity.from_bearer("few")
    own.function.cache_clear()


def test_a_ticket_gives_no_more_rights_than_the_function_gave(few: Actor) -> None:
    assert (few.admin, few.scopes) == (False, frozenset({"join"}))
    by_ticket = identity.from_ticket(tickets.issue(few).text)
    assert (by_ticket.admin, by_ticket.scopes, by_ticket.groups) == (False, frozenset({"join"}), frozenset())
    # As the check of open connections does.
    assert identity.renewed([by_ticket]) == [by_ticket]
    get_user_model().objects.update(is_active=False)
    (ended,) = identity.renewed([by_ticket])
    assert isinstance(ended, BusError)
    assert ended.code == ErrorCode.REVOKED


def test_a_new_token_gives_no_more_rights_than_the_function_gave(few: Actor) -> None:
    user = get_user_model().objects.get()
    for actor in (few, identity.from_bearer("no admin")):
        with pytest.raises(BusError) as raised:
            tokens.create(actor, "lasting", user=user, scopes=("join",), door="rest")
        assert raised.value.code == ErrorCode.FORBIDDEN
    get_user_model().objects.update(is_superuser=False)
    user = get_user_model().objects.get()
    assert tokens.create(identity.from_bearer("no admin"), "lasting", user=user, door="rest")


def test_the_function_is_never_asked_while_rows_are_locked(few: Actor) -> None:
    asked = request_decision("desk:refunds", key="k", title="t", action="a")
    asked_inside.clear()
    with pytest.raises(BusError) as raised:
        decide(asked.decision, "approve", actor=few)
    assert raised.value.code == ErrorCode.FORBIDDEN
    assert asked_inside == [False]
