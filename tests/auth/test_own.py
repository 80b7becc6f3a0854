"""The project's own authentication: what its function allows is all that a caller may do, also by another way in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
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


def _raise() -> None:
    raise ZeroDivisionError(SESAME)


SESAME = "sesame"
#: What a function with a fault does with a text.
WRONG: dict[str, Callable[[], Any]] = {
    "raises": _raise,
    "number": lambda: 17,
    "unix time": lambda: Identified(subject=SESAME, expires_at=17.5),  # type: ignore[arg-type]
    "no user": lambda: Identified(SESAME),
    "groups": lambda: Identified(subject=SESAME, groups=SESAME),  # type: ignore[arg-type]
    "subject": lambda: Identified(subject=17),  # type: ignore[arg-type]
}


def identify(bearer: str) -> Identified | None:
    """Know a superuser by two texts, with few rights each."""
    asked_inside.append(connection.in_atomic_block)
    if bearer in WRONG:
        return cast(Identified, WRONG[bearer]())
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


@pytest.mark.parametrize(
    ("bearer", "said"),
    [
        ("raises", "failed"),
        ("number", "it must be a user, an Identified or None, and is of the type int"),
        ("unix time", "`expires_at` must be a datetime, and is of the type float"),
        ("no user", "`user` must be a user, and is of the type str"),
        ("groups", "`groups` must be a tuple of texts, and is of the type str"),
        ("subject", "`subject` must be a text, and is of the type int"),
    ],
)
def test_a_fault_of_the_function_is_one_line_with_the_reference_of_the_error(
    few: Actor, caplog: pytest.LogCaptureFixture, bearer: str, said: str
) -> None:
    with pytest.raises(BusError) as raised:
        identity.from_bearer(bearer)
    (line,) = (record.getMessage() for record in caplog.records if record.name == "arqonbus.auth")
    assert raised.value.code == ErrorCode.INTERNAL_ERROR
    assert f"(reference {raised.value.details[0]['reference']})" in line
    assert said in line
    assert SESAME not in line
    # It ends nobody's access.
    known = msgspec.structs.replace(few, bearer=bearer)
    assert identity.renewed([known]) == [known]


def test_the_function_is_never_asked_while_rows_are_locked(few: Actor) -> None:
    asked = request_decision("desk:refunds", key="k", title="t", action="a")
    asked_inside.clear()
    with pytest.raises(BusError) as raised:
        decide(asked.decision, "approve", actor=few)
    assert raised.value.code == ErrorCode.FORBIDDEN
    assert asked_inside == [False]
