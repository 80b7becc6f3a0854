"""The tables of errors and close codes."""

from __future__ import annotations

import pytest

from bus.protocol import errors
from bus.protocol.errors import CLOSE_CODES, ERRORS, BusError, Closing, ErrorCode, target_not_found

pytestmark = pytest.mark.pure

# The table of errors in docs/protocol.md, written a second time on purpose.
NUMBERS = {400, 401, 403, 404, 409, 413, 429, 500, 503, 504}
# REST needs a few more of HTTP's.
NUMBERS |= {405, 406, 415}
# A gate of the project refuses what the bus itself would keep.
NUMBERS |= {422}
CODES = {
    4008: False,
    4012: True,
    4013: True,
    4401: False,
    4403: False,
    4409: False,
    4410: False,
    4429: True,
}


def test_the_close_codes_are_the_contracts_and_lie_where_daphne_lets_them() -> None:
    assert {code: kind.reconnect for code, kind in CLOSE_CODES.items()} == CODES
    assert all(4000 <= code <= 4999 for code in CLOSE_CODES)


def test_the_named_close_codes_are_those_of_the_table() -> None:
    assert errors.BAD_FRAMES == 4008
    assert errors.RESTART == 4012
    assert errors.SLOW == 4013
    assert errors.UNIDENTIFIED == 4401
    assert errors.NOT_ALLOWED == 4403
    assert errors.ID_IN_USE == 4409
    assert errors.TAKEN_OVER == 4410
    assert errors.TOO_MANY == 4429


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_has_a_number_of_the_contract_and_a_sentence(code: ErrorCode) -> None:
    kind = ERRORS[code]
    assert kind.number in NUMBERS
    assert kind.text.endswith((".", "/"))
    # What may go well the next time is on our side, or a matter of time.
    assert kind.retry == (kind.number in (429, 500, 503))


def test_an_error_says_its_text_unless_a_more_exact_one_is_known() -> None:
    assert BusError(ErrorCode.FORBIDDEN).as_dict() == {
        "code": ErrorCode.FORBIDDEN,
        "number": 403,
        "message": "You do not have the permission for this.",
        "details": [],
    }
    exact = BusError(ErrorCode.BUSY, "Later.", [{"queue": 5}], retry_after=0.12345)
    assert exact.as_dict() == {
        "code": ErrorCode.BUSY,
        "number": 429,
        "message": "Later.",
        "details": [{"queue": 5}],
        "retry_after": 0.124,
    }
    for seconds, told in ((0.0, 0.0), (1e-5, 0.001), (0.07, 0.07), (1.1, 1.1), (1.0, 1.0)):
        assert BusError(ErrorCode.BUSY, retry_after=seconds).as_dict()["retry_after"] == told
    assert str(exact) == "BUSY: Later."
    # A traceback has no details; what only counts on them brings them along.
    faults = [
        {"field": "payload", "message": "`payload` is an object."},
        {"field": "to", "message": "`to` is missing."},
    ]
    assert str(BusError(ErrorCode.VALIDATION_ERROR, details=faults)) == (
        "VALIDATION_ERROR: The frame is not valid; `details` lists every fault."
        "\n  payload: `payload` is an object.\n  to: `to` is missing."
    )


def test_a_closing_carries_its_code_and_reason() -> None:
    closing = Closing(4403, BusError(ErrorCode.FORBIDDEN))
    assert closing.close_code == 4403
    assert closing.error.code == ErrorCode.FORBIDDEN
    assert "4403" in str(closing)


@pytest.mark.parametrize(
    ("unknown", "asked", "text"),
    [
        (["ann"], 1, "Unknown client_id: ann."),
        (["ann", "bob"], 3, "Unknown client_id: ann, bob. The other targets got the message."),
        (["a", "b", "c", "d", "e"], 5, "Unknown client_id: a, b, c and 2 more."),
    ],
)
def test_targets_that_nobody_knows_are_named(unknown: list[str], asked: int, text: str) -> None:
    problem = target_not_found(unknown, asked)
    assert (problem.code, problem.message) == (ErrorCode.TARGET_NOT_FOUND, text)
    assert problem.details == [{"client_id": target} for target in unknown]
