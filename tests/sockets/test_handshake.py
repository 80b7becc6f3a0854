"""The credentials of a handshake: where they may stand, and which close code a refusal has."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import parse_cookie

from bus.auth.identity import ANONYMOUS
from bus.auth.permissions import Actor
from bus.protocol.errors import NOT_ALLOWED, SLOW, TOO_MANY, UNIDENTIFIED, BusError, Closing, ErrorCode
from bus.sockets.handshake import FOREIGN, Refused, bearer_of, check_admitted, session_key_of

pytestmark = pytest.mark.pure


def scope(*headers: tuple[str, str], subprotocols: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "subprotocols": list(subprotocols),
    }


@pytest.mark.parametrize(
    ("made", "bearer"),
    [
        (scope(("authorization", "Bearer abc")), "abc"),
        (scope(("authorization", "bearer  abc ")), "abc"),
        (scope(("authorization", "Basic abc")), None),
        (scope(subprotocols=("arqonbus.v1", "bearer.abc")), "abc"),
        (scope(subprotocols=("ticket.arq_tkt_1",)), "arq_tkt_1"),
        (scope(("authorization", "Bearer abc"), subprotocols=("bearer.def",)), "abc"),
        (scope(), None),
    ],
)
def test_a_bearer_stands_in_a_header_or_a_sub_protocol(made: dict[str, Any], bearer: str | None) -> None:
    assert bearer_of(made, {}) == bearer


def test_a_token_in_the_url_is_refused_unless_a_setting_allows_it(settings: Any) -> None:
    query = {"token": "abc", "room": "lab"}
    with pytest.raises(Refused) as caught:
        bearer_of(scope(), query)
    assert caught.value.code == ErrorCode.UNAUTHENTICATED
    assert query == {"room": "lab"}
    settings.ARQONBUS = {**settings.ARQONBUS, "token_in_url": True}
    assert bearer_of(scope(), {"token": "abc"}) == "abc"


def test_the_parameter_for_tickets_takes_nothing_else() -> None:
    with pytest.raises(Refused):
        bearer_of(scope(), {"ticket": "arq_tok_abc"})


@pytest.mark.parametrize(
    ("code", "close_code"),
    [
        (ErrorCode.UNAUTHENTICATED, UNIDENTIFIED),
        (ErrorCode.RATE_LIMITED, TOO_MANY),
        (ErrorCode.UNAVAILABLE, SLOW),
        (ErrorCode.ORIGIN_REFUSED, NOT_ALLOWED),
    ],
)
def test_every_refusal_has_its_close_code(code: ErrorCode, close_code: int) -> None:
    assert Refused.closing(BusError(code)).close_code == close_code


@pytest.mark.parametrize(
    ("actor", "anonymous", "close_code"),
    [
        (Actor(principal="user:1"), False, None),
        (ANONYMOUS, True, None),
        (ANONYMOUS, False, UNIDENTIFIED),
        (FOREIGN, True, NOT_ALLOWED),
        (FOREIGN, False, UNIDENTIFIED),
    ],
)
def test_anonymous_clients_are_admitted_from_our_pages_where_that_is_allowed(
    actor: Actor, anonymous: bool, close_code: int | None
) -> None:
    if close_code is None:
        check_admitted(actor, anonymous=anonymous)
        return
    with pytest.raises(Closing) as caught:
        check_admitted(actor, anonymous=anonymous)
    assert caught.value.close_code == close_code


def test_sockets_and_pages_take_the_same_one_of_several_session_cookies() -> None:
    chance = random.Random(11)
    name = django_settings.SESSION_COOKIE_NAME
    pieces = [
        f"{name}=a",
        f"{name}=b",
        f" {name} = c ",
        "other=x",
        f"{name}",
        f"{name}=",
        "",
        f"x{name}=d",
        f"{name}=e=f",
    ]
    for _ in range(2_000):
        headers = [";".join(chance.choices(pieces, k=chance.randint(0, 4))) for _ in range(chance.randint(0, 3))]
        scope: Any = {"headers": [(b"cookie", header.encode()) for header in headers]}
        pages = parse_cookie("; ".join(headers)).get(name) or None
        assert session_key_of(scope) == pages, headers
