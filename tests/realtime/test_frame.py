"""Frames as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from bus.realtime.frame import Batch, masked_frame, text_frame, unmasked

pytestmark = pytest.mark.pure

#: Texts of sizes around the borders of the three forms of a header.
payloads = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]).map(lambda size: b"x" * size),
)


@given(payloads)
def test_a_text_is_framed_as_another_implementation_frames_it(payload: bytes) -> None:
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_a_mask_is_taken_off_byte_by_byte(payload: bytes, mask: bytes) -> None:
    assert unmasked(payload, mask) == bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


@given(payloads, st.binary(min_size=4, max_size=4))
def test_a_client_s_frame_is_the_server_s_with_a_mask(payload: bytes, mask: bytes) -> None:
    whole, plain = masked_frame(payload, mask), text_frame(payload)
    assert len(whole) == len(plain) + 4
    assert unmasked(whole[len(whole) - len(payload) :], mask) == payload
    assert whole[len(whole) - len(payload) - 4 :][:4] == mask


@given(st.lists(payloads, max_size=5))
def test_the_bytes_of_a_batch_are_its_frames_in_order_and_made_once(texts: list[bytes]) -> None:
    batch = Batch(texts)
    assert batch.wire == b"".join(text_frame(text) for text in texts)
    assert batch.wire is batch.wire
