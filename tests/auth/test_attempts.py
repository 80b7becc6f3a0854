"""Wrong credentials cost whoever shows them, by every door, and nobody else behind the same address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from pytest_django.fixtures import Settings

from bus.auth.attempts import MOST, OWN, Attempts, Buckets
from bus.protocol.errors import BusError, ErrorCode
from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends
from tests.harness.server import BusServer
from tests.security.test_live import csrf

BEARERS, LOGINS = 4, 3


@pytest.fixture(scope="module")
def guarded(backends: Backends) -> Iterator[BusServer]:
    """A server behind one proxy that takes few wrong credentials."""
    storage = backends.new_storage()
    server = BusServer(
        storage,
        backends.new_path("guarded"),
        secret_key=backends.secret_key,
        env={
            "ARQONBUS_ANONYMOUS": "0",
            "ARQONBUS_TRUSTED_PROXIES": "1",
            "ARQONBUS_RATE_LIMIT": "200",
            "ARQONBUS_BAD_CREDENTIALS": str(BEARERS),
            "ARQONBUS_LOGINS": str(LOGINS),
        },
    ).start()
    yield server
    server.kill()
    backends.drop_storage(storage)


def asked(server: BusServer, address: str, bearer: str, path: str = "/api/v1/me") -> httpx.Response:
    headers = {"X-Forwarded-For": address, "Authorization": f"Bearer {bearer}"}
    return httpx.get(f"{server.http_url}{path}", headers=headers, trust_env=False, timeout=20, verify=False)


@pytest.mark.parametrize("path", ["/api/v1/me", "/api/v1/channels/science:explore/events"])
@pytest.mark.parametrize("bearer", ["arq_tok_nonsense", "a.b.c"])
def test_wrong_bearers_over_rest_are_429_after_some(guarded: BusServer, path: str, bearer: str) -> None:
    good, fresh = guarded.create_token("good"), guarded.create_token("fresh")
    address = f"198.51.{len(path)}.{len(bearer)}"
    assert asked(guarded, address, good).status_code == 200
    # Each as new as the last; a second or two may give some back meanwhile.
    answers = [asked(guarded, address, f"{bearer}{n}", path) for n in range(4 * BEARERS)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:BEARERS] == [401] * BEARERS
    assert statuses.count(429) >= BEARERS
    refused = next(answer for answer in answers if answer.status_code == 429)
    error = refused.json()["error"]
    assert error["code"] == ErrorCode.RATE_LIMITED
    assert 0 < error["retry_after"] <= 60
    assert int(refused.headers["Retry-After"]) >= 1
    # Behind the same address a credential that was good goes on, and other addresses notice nothing.
    assert asked(guarded, address, good).status_code == 200
    assert asked(guarded, "198.51.100.99", fresh).status_code == 200


@pytest.mark.parametrize("way", ["header", "subprotocol", "first frame"])
async def test_wrong_bearers_on_sockets_are_4429_after_some(guarded: BusServer, wire: Connect, way: str) -> None:
    good = guarded.create_token("good")
    address = f"203.0.113.{ord(way[0])}"

    async def close_code(bearer: str) -> int:
        options: dict[str, Any] = {"headers": {"X-Forwarded-For": address}, "register": False}
        if way == "header":
            options["headers"]["Authorization"] = f"Bearer {bearer}"
        elif way == "subprotocol":
            options["subprotocols"] = ["arqonbus.v1", f"bearer.{bearer}"]
        client = await wire(guarded, **options)
        if way == "first frame":
            await client.send({"client_id": "x", "token": bearer})
        return await client.wait_closed()

    known = await wire(guarded, token=good, headers={"X-Forwarded-For": address})
    codes = [await close_code(f"arq_tok_wrong{n}") for n in range(4 * BEARERS)]
    assert codes[:BEARERS] == [4401] * BEARERS
    assert codes.count(4429) >= BEARERS
    await known.ping()
    await wire(guarded, token=good, headers={"X-Forwarded-For": address})


@pytest.mark.parametrize("path", ["/login/", "/admin/login/"])
def test_log_ins_are_told_to_wait_after_some(guarded: BusServer, path: str) -> None:
    name = f"user{len(path)}"
    code = f"from django.contrib.auth.models import User; User.objects.create_superuser('{name}', password='pass-1')"
    guarded.manage("shell", "-c", code)

    def tried(address: str, password: str) -> httpx.Response:
        headers = {"X-Forwarded-For": address}
        with httpx.Client(base_url=guarded.http_url, headers=headers, trust_env=False, timeout=20) as browser:
            page = browser.get(path)
            form = {"username": name, "password": password, "csrfmiddlewaretoken": csrf(page.text)}
            return browser.post(path, data=form)

    address = f"192.0.2.{len(path)}"
    answers = [tried(address, "wrong") for _ in range(LOGINS + 3)]
    told = ["Too many log-ins from your address. Try again in" in answer.text for answer in answers]
    assert told[:LOGINS] == [False] * LOGINS
    assert told.count(True) >= 2
    if path == "/login/":
        assert {answer.status_code for answer, waits in zip(answers, told, strict=True) if waits} == {429}
    assert tried("192.0.2.200", "pass-1").status_code == 302


@pytest.fixture
def attempts(settings: Settings) -> Attempts:
    settings.ARQONBUS = {"bad_credentials": 5.0, "logins": 2.0}
    return Attempts()


def wrong(attempts: Attempts, bearer: str, address: str) -> str:
    with pytest.raises(BusError) as caught, attempts.bearer(bearer, address):
        raise BusError(ErrorCode.UNAUTHENTICATED)
    return caught.value.code


@pytest.mark.pure
def test_many_good_ones_at_once_are_no_attempt(attempts: Attempts) -> None:
    with ExitStack() as together:
        for n in range(300):
            together.enter_context(attempts.bearer(f"good-{n}", "192.0.2.1"))
    assert wrong(attempts, "bad", "192.0.2.1") == ErrorCode.UNAUTHENTICATED


@pytest.mark.pure
def test_one_that_was_good_and_is_not_any_more_counts_like_others(attempts: Attempts) -> None:
    with attempts.bearer("once", "192.0.2.1"):
        pass
    codes = [wrong(attempts, "once", "192.0.2.1") for _ in range(7)]
    assert codes == [ErrorCode.UNAUTHENTICATED] * 5 + [ErrorCode.RATE_LIMITED] * 2


@pytest.mark.pure
def test_a_ticket_is_not_remembered_and_other_faults_are_no_attempt(attempts: Attempts) -> None:
    with attempts.bearer("ticket", "192.0.2.1", lasting=False):
        pass
    for _ in range(20):
        with pytest.raises(BusError), attempts.bearer("x", "192.0.2.2"):
            raise BusError(ErrorCode.UNAVAILABLE)
    [wrong(attempts, f"bad-{n}", "192.0.2.1") for n in range(5)]
    assert wrong(attempts, "ticket", "192.0.2.1") == ErrorCode.RATE_LIMITED


@pytest.mark.pure
def test_this_machine_has_more_and_an_ipv6_network_is_one(attempts: Attempts) -> None:
    own = [wrong(attempts, f"bad-{n}", "127.0.0.1") for n in range(int(5 * OWN) + 1)]
    assert own == [ErrorCode.UNAUTHENTICATED] * int(5 * OWN) + [ErrorCode.RATE_LIMITED]
    network = [wrong(attempts, f"bad-{n}", f"2001:db8::{n:x}") for n in range(6)]
    assert network[-1] == ErrorCode.RATE_LIMITED
    assert [bool(attempts.login("192.0.2.9")) for _ in range(3)] == [False, False, True]


@pytest.mark.pure
def test_what_is_remembered_is_bounded(attempts: Attempts) -> None:
    buckets = Buckets(most=100)
    for n in range(1_000):
        buckets.take(f"address-{n}", 1.0, 1.0, 5.0, 0.0)
    assert len(buckets) == 100
    for n in range(MOST + 50):
        with attempts.bearer(f"good-{n}", "192.0.2.1"):
            pass
    assert len(attempts._good) == MOST


@pytest.mark.pure
def test_without_limits_nothing_is_counted(settings: Settings) -> None:
    for values in ({"bad_credentials": 0.0, "logins": 0.0}, {"rate_limit": 0.0}):
        settings.ARQONBUS = values
        attempts = Attempts()
        assert {wrong(attempts, f"bad-{n}", "192.0.2.1") for n in range(100)} == {ErrorCode.UNAUTHENTICATED}
        assert not any(attempts.login("192.0.2.1") for _ in range(100))


async def test_a_bearer_that_was_not_looked_at_is_in_no_log(start_server: StartServer) -> None:
    server = start_server(env={"ARQONBUS_RATE_LIMIT": "200", "ARQONBUS_BAD_CREDENTIALS": "1"})
    for n in range(int(2 * OWN)):
        asked(server, "", f"arq_tok_secret-words-{n}")
    assert "secret-words" not in server.log()
