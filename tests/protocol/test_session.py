"""One connection's side of the protocol: what costs an error, and what the connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bus.protocol.errors import BusError, Closing, ErrorCode
from bus.protocol.faults import FrameError
from bus.protocol.limits import Limits, TokenBucket
from bus.protocol.session import Session
from bus.protocol.usual import read

pytestmark = pytest.mark.pure

EVENT = b'{"type":"event","id":"m1","message":"x"}'


def session(**limits: Any) -> Session:
    return Session(Limits(**limits), now=0.0)


def problem_of(made: Session, data: bytes, now: float = 0.0) -> BusError:
    with pytest.raises(BusError) as caught:
        made.receive(data, now)
    return caught.value


def test_a_good_frame_comes_out_in_canonical_form() -> None:
    made = session()
    assert made.receive(EVENT, 0.0).message == b'"x"'


def test_a_large_frame_is_refused_with_its_id() -> None:
    made = session(frame_bytes=100)
    problem = problem_of(made, b'{"id":"m1","message":"' + b"x" * 100 + b'"}')
    assert (problem.code, problem.number) == ("FRAME_TOO_LARGE", 413)
    assert isinstance(problem, FrameError)
    assert problem.request_id == "m1"
    assert made.receive(EVENT, 0.0).id == "m1"


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    assert session(frame_bytes=len(EVENT)).receive(EVENT, 0.0).id == "m1"
    assert problem_of(session(frame_bytes=len(EVENT) - 1), EVENT).code == "FRAME_TOO_LARGE"


@pytest.mark.parametrize("bomb", [b"[" * 100_000, b'{"a":' * 50_000, b'{"payload":' + b'{"a":' * 32 + b"1" + b"}" * 33])
def test_a_nesting_bomb_is_one_error(bomb: bytes) -> None:
    problem = problem_of(session(frame_bytes=10**6), bomb)
    assert problem.code == "INVALID_JSON"
    assert "32" in problem.message


def test_too_many_targets_are_refused() -> None:
    frame = {"type": "private", "id": "m1", "to": ["a", "b", "c"], "message": "x"}
    problem = problem_of(session(targets=2), json.dumps(frame).encode())
    assert (problem.code, problem.message) == ("VALIDATION_ERROR", "A private message may have at most 2 targets.")


def test_too_many_positions_are_refused() -> None:
    def frame(count: int) -> bytes:
        positions = {f"room:{n}": {"seq": 1} for n in range(count)}
        return json.dumps({"client_id": "a", "resume": {"token": "t", "positions": positions}}).encode()

    assert session(memberships=2).receive(frame(6), 0.0).registration is not None
    assert problem_of(session(memberships=2), frame(7)).message == "At most 6 positions are allowed."
    assert session(memberships=0).receive(frame(500), 0.0).registration is not None


def test_bad_frames_are_forgiven_slowly_and_then_end_the_connection() -> None:
    made = session(bad_frames_burst=3.0, bad_frames_per_second=0.5)
    for _ in range(3):
        assert problem_of(made, b"junk").code == "INVALID_JSON"
    with pytest.raises(Closing) as caught:
        made.receive(b"junk", 0.0)
    assert (caught.value.close_code, caught.value.error.code) == (4008, "INVALID_JSON")
    # Two seconds later one more is forgiven.
    assert problem_of(made, b"junk", 2.0).code == "INVALID_JSON"


def test_frames_above_the_rate_are_refused_and_then_end_the_connection() -> None:
    made = session(frames_per_second=10.0, frames_burst=2.0, bad_frames_burst=3.0, bad_frames_per_second=0.0001)
    made.receive(EVENT, 0.0)
    made.receive(EVENT, 0.0)
    for _ in range(3):
        problem = problem_of(made, EVENT)
        assert problem.code == "RATE_LIMITED"
        assert problem.retry_after == pytest.approx(0.1)
        assert isinstance(problem, FrameError)
        assert problem.request_id == "m1"
    with pytest.raises(Closing) as caught:
        made.receive(EVENT, 0.0)
    assert (caught.value.close_code, caught.value.error.code) == (4429, "RATE_LIMITED")
    assert made.receive(EVENT, 0.5).id == "m1"


def test_bytes_above_the_rate_are_refused() -> None:
    made = session(bytes_per_second=10.0, bytes_burst=float(len(EVENT)), frame_bytes=len(EVENT))
    made.receive(EVENT, 0.0)
    assert problem_of(made, EVENT).code == "RATE_LIMITED"
    long = problem_of(made, EVENT + b" ")
    assert isinstance(long, FrameError)
    assert long.request_id == "m1"


def test_connections_of_one_principal_may_share_a_rate() -> None:
    bucket = TokenBucket(1.0, 1.0, 0.0)
    one, other = session(), session()
    one.share(bucket)
    other.share(bucket)
    one.receive(EVENT, 0.0)
    assert problem_of(other, EVENT).code == "RATE_LIMITED"


def test_a_session_may_have_a_grammar_of_its_own() -> None:
    def strict(data: bytes) -> Any:
        raise FrameError(ErrorCode.UNKNOWN_TYPE, request_id="m1")

    assert problem_of(Session(Limits(), 0.0, strict), EVENT).code == "UNKNOWN_TYPE"
    assert Session(Limits(), 0.0, read).receive(EVENT, 0.0).id == "m1"


def test_what_was_worth_more_than_its_frame_is_owed_to_every_bucket() -> None:
    shared = TokenBucket(1.0, 10.0, 0.0)
    made = session(frames_per_second=1.0, frames_burst=10.0)
    made.share(shared)
    made.ask(1)
    assert shared.level == 10.0
    made.ask(4)
    assert shared.level == 7.0
    made.receive(b'{"type":"private","to":["a","b","c"],"message":"x","id":"m1"}', 0.0)
    # Three copies, and three questions more than the one frame before.
    assert shared.level == 4.0
    alone = session(frames_per_second=0.0)
    alone.ask(100)
    assert alone.receive(EVENT, 0.0).id == "m1"
