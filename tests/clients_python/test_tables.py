"""The client's tables of errors and close codes are the server's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from arqonbus import errors
from arqonbus.backoff import Backoff
from arqonbus.messages import Message, moment_of, split_address
from arqonbus.values import DEPTH
from bus.protocol.errors import CLOSE_CODES, ERRORS, ErrorCode
from bus.protocol.limits import Limits

pytestmark = pytest.mark.pure


def test_every_code_of_the_contract_has_an_exception_and_no_other() -> None:
    assert set(errors.BY_CODE) == set(ERRORS)


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_number_and_retry_of_a_code_are_the_servers(code: ErrorCode) -> None:
    kind = errors.BY_CODE[code]
    assert (kind.number, kind.retry) == (ERRORS[code].number, ERRORS[code].retry)


def test_the_close_codes_are_the_servers() -> None:
    assert {code: row.reconnect for code, row in errors.CLOSE_CODES.items()} == {
        code: row.reconnect for code, row in CLOSE_CODES.items()
    }


def test_the_depth_of_a_frame_is_the_servers() -> None:
    assert Limits().depth == DEPTH


def test_a_code_of_a_newer_server_goes_by_its_number_and_keeps_its_name() -> None:
    error = errors.from_error({"code": "NEW_THING", "number": 404, "message": "gone"})
    assert isinstance(error, errors.NotFound)
    assert (error.code, error.number, str(error)) == ("NEW_THING", 404, "NEW_THING: gone")
    assert errors.NotFound.code == "NOT_FOUND"


def test_line_breaks_come_back_and_policy_does_not() -> None:
    assert errors.comes_back(1006)
    assert errors.comes_back(1001)
    assert not errors.comes_back(1008)


def test_pauses_grow_up_to_the_most_and_jitter_takes_up_to_half() -> None:
    longest = Backoff(first=1, most=8, jitter=lambda: 1.0)
    assert [longest.pause() for _ in range(5)] == [1, 2, 4, 8, 8]
    shortest = Backoff(first=1, most=8, jitter=lambda: 0.0)
    assert [shortest.pause() for _ in range(3)] == [0.5, 1, 2]
    longest.reset()
    assert longest.pause() == 1


def test_the_servers_retry_after_is_obeyed() -> None:
    assert Backoff(first=60, jitter=lambda: 0.0).pause(2.5) == 2.5


def test_a_message_keeps_what_the_frame_said() -> None:
    frame = {
        "version": "1.0", "id": "arq_1", "type": "event", "room": "science", "channel": "explore", "from": "c",
        "timestamp": "2026-01-01T00:00:00.000Z", "seq": 42, "payload": {"n": 1}, "message": "hello",
    }  # fmt: skip
    message = Message.of(frame)
    assert (message.address, message.sender, message.seq, message.text) == ("science:explore", "c", 42, "hello")
    assert message.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert message.raw is frame


def test_times_become_the_wires_form() -> None:
    assert moment_of(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"
    assert moment_of("2026-01-01T01:00:00+01:00") == "2026-01-01T00:00:00.000Z"
    assert moment_of(timedelta(hours=1)) < moment_of(timedelta(0))
    with pytest.raises(ValueError, match="not an ISO time"):
        moment_of("yesterday")


def test_a_room_alone_is_the_whole_room() -> None:
    assert split_address("science") == ("science", "*")
    assert split_address("science:explore") == ("science", "explore")
    with pytest.raises(ValueError, match="room:channel"):
        split_address("")


def test_the_text_of_an_error_has_every_fault_and_says_none_twice() -> None:
    faults = [{"field": "room", "message": "a text"}, {"field": "payload", "message": "an object"}]
    assert str(errors.ServerError("Not valid.", faults, code="VALIDATION_ERROR")) == (
        "VALIDATION_ERROR: Not valid.\n  room: a text\n  payload: an object"
    )
    once = [{"field": "room", "message": "`room` is not a name"}]
    assert (
        str(errors.ServerError("`room` is not a name", once, code="INVALID_NAME"))
        == "INVALID_NAME: `room` is not a name"
    )
