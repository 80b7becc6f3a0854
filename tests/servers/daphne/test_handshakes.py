"""What the adapter changes in daphne's HTTP, in Twisted and in Autobahn."""

from __future__ import annotations

import io
from http import HTTPStatus
from typing import Any

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest
from autobahn.websocket import protocol
from daphne.access import AccessLogGenerator
from daphne.http_protocol import HTTPFactory
from twisted.web import http

from bus.servers.daphne import handshakes

pytestmark = pytest.mark.pure


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    """The changes are made once in a process."""
    handshakes.install()


def test_secrets_in_a_query_stand_in_no_access_log_of_daphne_either() -> None:
    """The plain command writes whole addresses: also of a request that brought its token to a wrong door."""
    stream = io.StringIO()
    log = AccessLogGenerator(stream)
    for query in (
        "token=s3cret",
        "a=1&ticket=s3cret",
        "%74oken=s3cret",
        "a=1&%61ccess_token=%733cret&b=2",
        "resume_token=s3cret",
    ):
        log("http", "complete", {"client": "c", "status": 404, "size": 1, "method": "GET", "path": f"/nowhere?{query}"})
    log(
        "http",
        "complete",
        {"client": "c", "status": 200, "size": 1, "method": "GET", "path": "/api?limit=20&text=a%20b"},
    )
    said = stream.getvalue()
    assert said.count("/nowhere?") == 5
    assert "s3cret" not in said
    assert "733cret" not in said
    assert "limit=20&text=a%20b" in said, "the rest stays"


def test_a_second_time_changes_nothing() -> None:
    before = HTTPFactory.buildProtocol
    handshakes.install()
    assert HTTPFactory.buildProtocol is before


@pytest.mark.parametrize("status", HTTPStatus)
def test_every_status_has_a_reason_phrase(status: HTTPStatus) -> None:
    assert http.RESPONSES[status.value]


def test_a_debug_text_of_autobahn_is_the_same_but_made_when_it_is_read() -> None:
    made: list[str] = []

    def shout(text: str) -> str:
        made.append(text)
        return text.upper()

    later = handshakes._later(shout)("quiet")
    assert not made
    assert (str(later), f"{later:>6}", f"{later!r}") == ("QUIET", " QUIET", "QUIET")
    pformat: Any = vars(protocol)["pformat"]
    assert isinstance(pformat({"a": 1}), handshakes._Later), "Autobahn uses it"
