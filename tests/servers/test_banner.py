"""The lines that a server prints when it starts."""

from __future__ import annotations

from typing import Any

import pytest

from bus.servers import banner


@pytest.mark.pure
def test_a_server_for_other_machines_says_what_to_set(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", "testserver"]
    assert banner._shut_out("192.168.1.5") == "192.168.1.5"
    assert banner._shut_out("0.0.0.0")
    for local in ("localhost", "127.0.0.1", "::1"):
        assert not banner._shut_out(local)
    settings.ALLOWED_HOSTS = ["localhost", "bench.lan"]
    assert not banner._shut_out("0.0.0.0")
