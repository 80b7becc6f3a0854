"""Every error and every close code of the bus, each in one table (contract §8).

Doors (socket, REST, management commands) turn a :class:`BusError` into their own form; nothing else decides texts,
numbers or whether a client should come back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .names import NAME_RULE


class ErrorKind(NamedTuple):
    """One row of the error table."""

    number: int
    text: str
    retry: bool = False


ERRORS: dict[str, ErrorKind] = {
    # 400: the frame or request is wrong; sending it again unchanged cannot help.
    "VALIDATION_ERROR": ErrorKind(400, "The frame is not valid; `details` lists every fault."),
    "INVALID_JSON": ErrorKind(400, "The frame is not a JSON object."),
    "UNSUPPORTED_VERSION": ErrorKind(
        400, 'Only version "1.0" is spoken here; leave `version` out for the simple dialect.'
    ),
    "UNKNOWN_TYPE": ErrorKind(400, "With `version`, `type` must be one of the known types."),
    "UNKNOWN_COMMAND": ErrorKind(400, "There is no such command; the `help` command lists them."),
    "INVALID_NAME": ErrorKind(400, f"A name is not allowed: {NAME_RULE}"),
    "ALREADY_REGISTERED": ErrorKind(400, "This connection is registered; open another one for another identity."),
    # 401, 403: who is asking.
    "UNAUTHENTICATED": ErrorKind(401, "Not identified: send an access token, or log in."),
    "FORBIDDEN": ErrorKind(403, "You may not do this here."),
    "ORIGIN_REFUSED": ErrorKind(403, "This page's origin is not among the allowed hosts of the server."),
    "REVOKED": ErrorKind(403, "Your access was withdrawn."),
    # 404, 405, 406, 409: the state of things.
    "ROOM_NOT_FOUND": ErrorKind(404, "There is no such room."),
    "CHANNEL_NOT_FOUND": ErrorKind(404, "There is no such channel."),
    "CLIENT_NOT_FOUND": ErrorKind(404, "There is no such client."),
    "TARGET_NOT_FOUND": ErrorKind(404, "Some targets are not known; `details` names them. The others were served."),
    "NOT_FOUND": ErrorKind(404, "There is nothing here."),
    "METHOD_NOT_ALLOWED": ErrorKind(405, "This method is not for this address; `Allow` names those that are."),
    "NOT_ACCEPTABLE": ErrorKind(406, "Answers are application/json; ask for that, or for anything."),
    "ROOM_EXISTS": ErrorKind(409, "The room exists already."),
    "CHANNEL_EXISTS": ErrorKind(409, "The channel exists already."),
    "CHANNEL_NOT_EMPTY": ErrorKind(409, "The channel has members; only an empty channel can be deleted."),
    "CHANNEL_PROTECTED": ErrorKind(409, "The channel is built in and stays."),
    "NOT_A_MEMBER": ErrorKind(409, "You are not a member of this channel."),
    "CLIENT_ID_IN_USE": ErrorKind(
        409, "This client_id is connected; take another, or bring its resume_token to take it over."
    ),
    "TAKEN_OVER": ErrorKind(409, "A newer connection of this client took over."),
    # 413, 415, 429: too much, or of a kind that is not taken.
    "FRAME_TOO_LARGE": ErrorKind(413, "The frame is larger than the limit."),
    "UNSUPPORTED_MEDIA_TYPE": ErrorKind(415, "Send JSON: Content-Type: application/json."),
    "RATE_LIMITED": ErrorKind(429, "Too many frames; wait `retry_after` seconds.", retry=True),
    "LIMIT_REACHED": ErrorKind(429, "A limit is reached; `details` says which one.", retry=True),
    "BUSY": ErrorKind(429, "The server has more to write than it can; wait `retry_after` seconds.", retry=True),
    "TOO_SLOW": ErrorKind(429, "The connection reads too slowly; come back and resume.", retry=True),
    # 500, 503: our fault.
    "INTERNAL_ERROR": ErrorKind(500, "Something failed on our side; the reference is in the server's log.", retry=True),
    "UNAVAILABLE": ErrorKind(503, "The message store does not answer; nothing was published. Try again.", retry=True),
    "OUTCOME_UNKNOWN": ErrorKind(
        503, "The store was lost while it committed; send it again with the same `id` to be sure.", retry=True
    ),
    "RESTARTING": ErrorKind(503, "The server restarts; come back after `retry_after` seconds.", retry=True),
}


#: Faults that are told: what holds a hundred thousand of them is not answered with as many sentences.
MOST_FAULTS = 50


class BusError(Exception):
    """A failure that a client is told about.

    ``code`` is a key of :data:`ERRORS`; ``message`` replaces the table's text where a more exact one is known;
    ``details`` is a list of JSON values (every fault, not just the first); ``retry_after`` is in seconds.
    """

    #: What is said of it in the log and to nobody else.
    reason: str | None = None

    def __init__(
        self,
        code: str,
        message: str | None = None,
        details: list[Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.code = code
        self.kind = ERRORS[code]
        self.message = message or self.kind.text
        self.details = details or []
        if code == "VALIDATION_ERROR":
            del self.details[MOST_FAULTS:]
        self.retry_after = retry_after
        super().__init__(f"{code}: {self.message}")

    def __str__(self) -> str:
        """For a traceback: with the faults, where the message only says that there are some."""
        text = f"{self.code}: {self.message}"
        if self.message != ERRORS["VALIDATION_ERROR"].text:
            return text
        return text + "".join(f"\n  {fault.get('field')}: {fault.get('message')}" for fault in self.details)

    @property
    def number(self) -> int:
        """The number of the contract's §8, an HTTP status by design."""
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
            # Up to whole milliseconds: rounded down it would be too early, and at the end 0. (1e3 × 0.07 is a bit more than 70.)
            error["retry_after"] = math.ceil(round(self.retry_after * 1e3, 6)) / 1e3
        return error


def target_not_found(unknown: Sequence[str], asked: int) -> BusError:
    """Some of the ``asked`` targets of a private message are not known, or none of them."""
    names = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
    others = " The others were served." if len(unknown) < asked else ""
    details = [{"client_id": target} for target in unknown]
    return BusError("TARGET_NOT_FOUND", f"No client is known as {names}.{others}", details)


class CloseKind(NamedTuple):
    """One row of the close-code table: what it means and whether the client should come back."""

    meaning: str
    reconnect: bool


# Application codes lie in 4000-4999: daphne lets an application close with 1000 and 3000-4999 only (Autobahn's rule).
CLOSE_CODES: dict[int, CloseKind] = {
    4008: CloseKind("repeated bad frames", reconnect=False),
    4012: CloseKind("the server restarts", reconnect=True),
    4013: CloseKind("too slow a reader, or overload; resume", reconnect=True),
    4401: CloseKind("not identified", reconnect=False),
    4403: CloseKind("not allowed, or sent away", reconnect=False),
    4409: CloseKind("client_id in use", reconnect=False),
    4410: CloseKind("taken over by a newer connection", reconnect=False),
    4429: CloseKind("too many frames or connections", reconnect=True),
}

BAD_FRAMES, RESTART, SLOW, UNIDENTIFIED, NOT_ALLOWED, ID_IN_USE, TAKEN_OVER, TOO_MANY = CLOSE_CODES


class Closing(Exception):
    """Raised where the rules end a connection: an error for the client, then this close code."""

    def __init__(self, close_code: int, error: BusError) -> None:
        self.close_code = close_code
        self.error = error
        super().__init__(f"{close_code}: {error}")
