"""The tables of all error codes and close codes (docs/protocol.md, Errors and Close codes).

Each interface (socket, REST, management commands) renders a :class:`BusError` in its own form. The texts, the numbers and
the advice to reconnect come from these tables alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from .names import NAME_RULE


class ErrorCode(StrEnum):
    """Every error code of the bus. The name is the code on the wire."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    INVALID_JSON = "INVALID_JSON"
    UNSUPPORTED_VERSION = "UNSUPPORTED_VERSION"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    UNKNOWN_COMMAND = "UNKNOWN_COMMAND"
    INVALID_NAME = "INVALID_NAME"
    ALREADY_REGISTERED = "ALREADY_REGISTERED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    ORIGIN_REFUSED = "ORIGIN_REFUSED"
    REVOKED = "REVOKED"
    ROOM_NOT_FOUND = "ROOM_NOT_FOUND"
    CHANNEL_NOT_FOUND = "CHANNEL_NOT_FOUND"
    CLIENT_NOT_FOUND = "CLIENT_NOT_FOUND"
    TARGET_NOT_FOUND = "TARGET_NOT_FOUND"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE"
    ROOM_EXISTS = "ROOM_EXISTS"
    CHANNEL_EXISTS = "CHANNEL_EXISTS"
    CHANNEL_NOT_EMPTY = "CHANNEL_NOT_EMPTY"
    CHANNEL_PROTECTED = "CHANNEL_PROTECTED"
    NOT_A_MEMBER = "NOT_A_MEMBER"
    MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
    STREAM_NOT_FOUND = "STREAM_NOT_FOUND"
    STREAM_GAP = "STREAM_GAP"
    STREAM_LOST = "STREAM_LOST"
    STREAM_ENDED = "STREAM_ENDED"
    CLAIM_NOT_FOUND = "CLAIM_NOT_FOUND"
    CLAIM_LOST = "CLAIM_LOST"
    NO_RESPONDER = "NO_RESPONDER"
    ASK_TIMEOUT = "ASK_TIMEOUT"
    QUESTION_NOT_FOUND = "QUESTION_NOT_FOUND"
    QUESTION_ENDED = "QUESTION_ENDED"
    DECISION_NOT_FOUND = "DECISION_NOT_FOUND"
    DECISION_ENDED = "DECISION_ENDED"
    REJECTED_BEFORE = "REJECTED_BEFORE"
    ALREADY_USED = "ALREADY_USED"
    LOOP_DETECTED = "LOOP_DETECTED"
    CLIENT_ID_IN_USE = "CLIENT_ID_IN_USE"
    TAKEN_OVER = "TAKEN_OVER"
    FRAME_TOO_LARGE = "FRAME_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    REFUSED = "REFUSED"
    RATE_LIMITED = "RATE_LIMITED"
    LIMIT_REACHED = "LIMIT_REACHED"
    BUSY = "BUSY"
    TOO_SLOW = "TOO_SLOW"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    UNAVAILABLE = "UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    RESTARTING = "RESTARTING"


class ErrorKind(NamedTuple):
    """One row of the error table."""

    number: int
    text: str
    retry: bool = False


ERRORS: dict[ErrorCode, ErrorKind] = {
    # 400: the frame or request is wrong. A retry without a change fails again.
    ErrorCode.VALIDATION_ERROR: ErrorKind(400, "The frame is not valid; `details` lists every fault."),
    ErrorCode.INVALID_JSON: ErrorKind(400, "The frame is not a JSON object."),
    ErrorCode.UNSUPPORTED_VERSION: ErrorKind(
        400, 'The server supports version "1.0" only. Leave `version` out for the simple dialect.'
    ),
    ErrorCode.UNKNOWN_TYPE: ErrorKind(400, "With `version`, `type` must be one of the known types."),
    ErrorCode.UNKNOWN_COMMAND: ErrorKind(400, "There is no such command. The `help` command lists all commands."),
    ErrorCode.INVALID_NAME: ErrorKind(400, f"The name is not allowed. Use {NAME_RULE}"),
    ErrorCode.ALREADY_REGISTERED: ErrorKind(
        400, "This connection is already registered. Open another connection for another identity."
    ),
    # 401, 403: the identity and its rights.
    ErrorCode.UNAUTHENTICATED: ErrorKind(401, "You are not authenticated. Send an access token, or log in."),
    ErrorCode.FORBIDDEN: ErrorKind(403, "You do not have the permission for this."),
    ErrorCode.ORIGIN_REFUSED: ErrorKind(403, "The origin of this page is not among the allowed origins of the server."),
    ErrorCode.REVOKED: ErrorKind(403, "Your access was revoked."),
    # 404, 405, 406, 409: the state of rooms, channels and clients.
    ErrorCode.ROOM_NOT_FOUND: ErrorKind(404, "There is no such room."),
    ErrorCode.CHANNEL_NOT_FOUND: ErrorKind(404, "There is no such channel."),
    ErrorCode.CLIENT_NOT_FOUND: ErrorKind(404, "There is no such client."),
    ErrorCode.TARGET_NOT_FOUND: ErrorKind(
        404, "Some targets are unknown; `details` names them. The other targets got the message."
    ),
    ErrorCode.MESSAGE_NOT_FOUND: ErrorKind(404, "There is no such message, or it was deleted."),
    ErrorCode.STREAM_NOT_FOUND: ErrorKind(404, "There is no such stream."),
    ErrorCode.CLAIM_NOT_FOUND: ErrorKind(404, "You have no such claim."),
    ErrorCode.NO_RESPONDER: ErrorKind(404, "Nobody is there to answer; `details` names who was asked."),
    ErrorCode.QUESTION_NOT_FOUND: ErrorKind(404, "There is no such question for you."),
    ErrorCode.DECISION_NOT_FOUND: ErrorKind(404, "There is no such decision for you."),
    ErrorCode.NOT_FOUND: ErrorKind(404, "There is nothing at this address."),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(
        405, "This address does not support the method. The `Allow` header lists the supported ones."
    ),
    ErrorCode.NOT_ACCEPTABLE: ErrorKind(
        406, "The server answers with application/json. Accept that type, or any type."
    ),
    ErrorCode.ROOM_EXISTS: ErrorKind(409, "The room already exists."),
    ErrorCode.CHANNEL_EXISTS: ErrorKind(409, "The channel already exists."),
    ErrorCode.CHANNEL_NOT_EMPTY: ErrorKind(409, "The channel has members. Only an empty channel can be deleted."),
    ErrorCode.CHANNEL_PROTECTED: ErrorKind(409, "The channel is built in and cannot be deleted."),
    ErrorCode.NOT_A_MEMBER: ErrorKind(409, "You are not a member of this channel."),
    ErrorCode.CLIENT_ID_IN_USE: ErrorKind(
        409, "This client_id is connected. Use another one, or send its resume_token to take it over."
    ),
    ErrorCode.TAKEN_OVER: ErrorKind(409, "A newer connection of this client took over."),
    ErrorCode.STREAM_GAP: ErrorKind(409, "Parts are missing before this one. Send them from `have` + 1 on."),
    ErrorCode.STREAM_LOST: ErrorKind(409, "The stream belongs to another owner, or to a later attempt."),
    ErrorCode.STREAM_ENDED: ErrorKind(409, "The stream has ended."),
    ErrorCode.CLAIM_LOST: ErrorKind(409, "The claim has ended; `details` says why."),
    ErrorCode.QUESTION_ENDED: ErrorKind(409, "The question has ended; `details` has its state."),
    ErrorCode.DECISION_ENDED: ErrorKind(409, "The decision has ended; `details` says how, and by whom."),
    ErrorCode.REJECTED_BEFORE: ErrorKind(409, "Somebody said no to this within the last hour; `details` has it."),
    ErrorCode.ALREADY_USED: ErrorKind(409, "The answer was used before; `details` says when."),
    ErrorCode.LOOP_DETECTED: ErrorKind(
        409, "A handler publishes to what it listens to, directly or through other handlers. Nothing was published."
    ),
    # 413, 415, 422, 429: too much data, an unsupported type, or a message that the project refuses.
    ErrorCode.FRAME_TOO_LARGE: ErrorKind(413, "The frame is larger than the limit."),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorKind(415, "Send JSON with the header Content-Type: application/json."),
    ErrorCode.REFUSED: ErrorKind(422, "A gate of the project refused the message; `details` has its code."),
    ErrorCode.RATE_LIMITED: ErrorKind(429, "Too many frames. Wait `retry_after` seconds.", retry=True),
    ErrorCode.LIMIT_REACHED: ErrorKind(429, "A limit is reached; `details` names it.", retry=True),
    ErrorCode.BUSY: ErrorKind(429, "The server has too much data to write. Wait `retry_after` seconds.", retry=True),
    ErrorCode.TOO_SLOW: ErrorKind(429, "The connection reads too slowly. Reconnect and resume.", retry=True),
    # 500, 503, 504: faults of the server, and an answer that did not come.
    ErrorCode.INTERNAL_ERROR: ErrorKind(
        500, "The server failed. Its log has an entry under the reference in `details`.", retry=True
    ),
    ErrorCode.UNAVAILABLE: ErrorKind(
        503, "The database does not answer; nothing was published. Try again.", retry=True
    ),
    ErrorCode.OUTCOME_UNKNOWN: ErrorKind(
        503, "The database failed during the commit. Send the message again with the same `id`.", retry=True
    ),
    ErrorCode.RESTARTING: ErrorKind(
        503, "The server is restarting. Reconnect after `retry_after` seconds.", retry=True
    ),
    ErrorCode.ASK_TIMEOUT: ErrorKind(504, "No answer came in time; `details` names who was asked."),
}


#: Most faults in one answer. A frame with a hundred thousand faults must not get an equally long answer.
MOST_FAULTS = 50


class BusError(Exception):
    """A failure that is reported to the client.

    ``message`` replaces the text of the table with a more exact one. ``details`` is a
    list of JSON values and contains every fault. ``retry_after`` is in seconds.
    """

    #: The cause, for the log only.
    reason: str | None = None

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        details: list[Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.code = code
        self.kind = ERRORS[code]
        self.message = message or self.kind.text
        self.details = details or []
        if code is ErrorCode.VALIDATION_ERROR:
            del self.details[MOST_FAULTS:]
        self.retry_after = retry_after
        super().__init__(f"{code}: {self.message}")

    def __str__(self) -> str:
        """The text for a traceback. It includes the faults if the message does not."""
        text = f"{self.code}: {self.message}"
        if self.message != ERRORS[ErrorCode.VALIDATION_ERROR].text:
            return text
        return text + "".join(f"\n  {fault.get('field')}: {fault.get('message')}" for fault in self.details)

    @property
    def number(self) -> int:
        """The number of the error, which is also its HTTP status (docs/protocol.md, Errors)."""
        return self.kind.number

    def as_dict(self) -> dict[str, Any]:
        """The ``error`` object of frames and REST answers."""
        error: dict[str, Any] = {
            "code": self.code,
            "number": self.number,
            "message": self.message,
            "details": self.details,
        }
        if self.retry_after is not None:
            # Rounded up to whole milliseconds, since a retry must not come too early. `round` first: 1e3 * 0.07 exceeds 70.
            error["retry_after"] = math.ceil(round(self.retry_after * 1e3, 6)) / 1e3
        return error


def target_not_found(unknown: Sequence[str], asked: int) -> BusError:
    """The error for a private message with ``unknown`` targets, out of ``asked`` targets."""
    names = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
    others = " The other targets got the message." if len(unknown) < asked else ""
    details = [{"client_id": target} for target in unknown]
    return BusError(ErrorCode.TARGET_NOT_FOUND, f"Unknown client_id: {names}.{others}", details)


class CloseKind(NamedTuple):
    """One row of the table of close codes: its meaning, and whether the client should reconnect."""

    meaning: str
    reconnect: bool


# The codes of applications are 4000-4999. With daphne an application can only close with 1000 and 3000-4999 (Autobahn's rule).
CLOSE_CODES: dict[int, CloseKind] = {
    4008: CloseKind("too many invalid frames", reconnect=False),
    4012: CloseKind("the server restarts", reconnect=True),
    4013: CloseKind("slow reader, or a server that is overloaded or failed; resume", reconnect=True),
    4401: CloseKind("not authenticated", reconnect=False),
    4403: CloseKind("not allowed, or disconnected by an admin", reconnect=False),
    4409: CloseKind("client_id in use", reconnect=False),
    4410: CloseKind("taken over by a newer connection", reconnect=False),
    4429: CloseKind("too many frames or connections", reconnect=True),
}

BAD_FRAMES, RESTART, SLOW, UNIDENTIFIED, NOT_ALLOWED, ID_IN_USE, TAKEN_OVER, TOO_MANY = CLOSE_CODES


class Closing(Exception):
    """Ends a connection: the client gets the error, and then this close code."""

    def __init__(self, close_code: int, error: BusError) -> None:
        self.close_code = close_code
        self.error = error
        super().__init__(f"{close_code}: {error}")
