"""Where a handshake or request comes from: addresses through proxies, pages and hosts that are ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bus.sockets.origin import host_allowed, is_foreign, origin_allowed, origin_of, peer_address

pytestmark = pytest.mark.pure


@pytest.fixture
def site(settings: Any) -> Any:
    """A site in production: two hosts of ours, and one page of a friend."""
    settings.DEBUG = False
    settings.SESSION_COOKIE_SECURE = True
    settings.ALLOWED_HOSTS = ["bus.example", ".sub.example"]
    settings.ARQONBUS = {**settings.ARQONBUS, "allowed_origins": ["https://friend.example"]}
    return settings


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://bus.example", "bus.example", True),
        ("https://bus.example:443", "bus.example", True),
        ("https://bus.example:8443", "bus.example:8443", True),
        ("https://friend.example", "bus.example", True),
        ("https://a.sub.example", "a.sub.example", True),
        ("http://bus.example", "bus.example", False),
        ("https://bus.example:8443", "bus.example", False),
        ("https://a.sub.example", "b.sub.example", False),
        ("https://friend.example.evil.example", "bus.example", False),
        ("https://evil.example", "evil.example", False),
        ("https://bus.example/path", "bus.example", False),
        ("https://user@bus.example", "bus.example", False),
        ("https://bus.example:port", "bus.example", False),
        ("null", "bus.example", False),
        ("", "", False),
    ],
)
def test_a_page_of_this_site_may_use_its_visitors_cookie(site: Any, origin: str, host: str, allowed: bool) -> None:
    assert origin_allowed(origin, host) is allowed
    assert is_foreign(origin, host) is not allowed


def test_a_page_on_this_machine_may_in_development_whatever_its_port(site: Any) -> None:
    assert not origin_allowed("http://localhost:5173", "localhost:8000")
    site.DEBUG, site.SESSION_COOKIE_SECURE, site.ALLOWED_HOSTS = True, False, []
    assert origin_allowed("http://localhost:5173", "localhost:8000")
    assert not origin_allowed("http://evil.example", "localhost:8000")


def test_a_program_without_an_origin_is_known_by_the_host_it_asked_for(site: Any) -> None:
    assert not is_foreign(None, "bus.example")
    assert is_foreign(None, "evil.example")
    assert not host_allowed("")


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(origin=st.text(max_size=60), host=st.text(max_size=40))
def test_no_text_of_a_stranger_fails_or_is_allowed(site: Any, origin: str, host: str) -> None:
    if origin_allowed(origin, host):
        assert origin in ("https://bus.example", "https://friend.example") or ".sub.example" in origin


def from_proxies(*forwarded: str) -> dict[str, Any]:
    return {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", text.encode()) for text in forwarded]}


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (0, ["1.1.1.1"], "10.0.0.1"),
        (1, ["1.1.1.1"], "1.1.1.1"),
        (1, ["9.9.9.9, 1.1.1.1"], "1.1.1.1"),
        (2, ["9.9.9.9, 1.1.1.1, 2.2.2.2"], "1.1.1.1"),
        (2, ["1.1.1.1", "2.2.2.2"], "1.1.1.1"),
        (2, ["1.1.1.1"], "10.0.0.1"),
        (1, [], "10.0.0.1"),
        (1, ["x" * 200], "x" * 64),
    ],
)
def test_the_address_is_what_the_outermost_trusted_proxy_saw(
    site: Any, trusted: int, forwarded: list[str], address: str
) -> None:
    site.ARQONBUS = {**site.ARQONBUS, "trusted_proxies": trusted}
    assert peer_address(from_proxies(*forwarded)) == address


def test_the_origin_in_log_lines_is_bounded() -> None:
    assert origin_of({"headers": [(b"origin", b"https://" + b"x" * 500)]}) == "https://" + "x" * 192
    assert origin_of({"headers": []}) == ""
