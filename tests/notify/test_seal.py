"""The seal: only a program with our key can have made it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from bus.notify.seal import SIZE, seal, unseal

pytestmark = pytest.mark.pure


@given(st.binary(max_size=300))
def test_what_is_sealed_comes_out_again(data: bytes) -> None:
    assert unseal(seal(data)) == data


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_changed_byte_breaks_the_seal(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(seal(data))
    position = draw.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= draw.draw(st.integers(1, 255))
    assert unseal(bytes(sealed)) is None


@pytest.mark.parametrize(
    "foreign", [None, 5, "text", [b"x"], {"a": 1}, b"", b"x" * (SIZE - 1), b"x" * SIZE, b"x" * 100]
)
def test_what_is_not_sealed_is_refused(foreign: object) -> None:
    assert unseal(foreign) is None


def test_a_key_may_be_replaced_while_processes_run(settings: Settings) -> None:
    old, new = "old" * 20, "new" * 20
    settings.SECRET_KEY = old
    sealed = seal(b"hint")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = new, [old]
    assert unseal(sealed) == b"hint"
    settings.SECRET_KEY_FALLBACKS = []
    assert unseal(sealed) is None
