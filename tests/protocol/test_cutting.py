"""Pieces of a long text, in the bus and in its Python client: each fits, and together they are the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqonbus.cutting import ENVELOPE, LARGEST, Pieces
from bus.log.effects import Part
from bus.protocol import cutting

pytestmark = pytest.mark.pure

TEXTS = st.lists(st.sampled_from(["a", "\u00e4", "\U0001f600", '"', "\n", "\x01"]), max_size=40).map("".join)


@given(text=TEXTS, times=st.integers(1, 3000), limit=st.sampled_from([0, 4096, 256 * 1024]))
def test_pieces_fit_and_are_the_text(text: str, times: int, limit: int) -> None:
    """Also a text that is longer than the message may be."""
    whole = rest = text * times
    pieces, found, written = Pieces(), [], 0
    while rest:
        in_bus, _ = cutting.cut(rest, limit - ENVELOPE - written)
        piece, rest = pieces.cut(rest, limit)
        assert piece == in_bus
        written += cutting.json_size(piece)
        found.append(piece)
    assert "".join(found) == whole
    assert all(len(json.dumps(piece, ensure_ascii=False).encode()) - 2 <= LARGEST for piece in found)


def test_both_keep_the_same_numbers() -> None:
    assert (ENVELOPE, LARGEST) == (Part.ENVELOPE, cutting.LARGEST)
