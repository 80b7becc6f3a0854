"""All errors of the client.

::

    ArqonBusError
    ├── ConnectionFailed        no server answers, or it is not a bus
    ├── ConnectionLost          the connection broke before the answer; the server may have done the request
    ├── BusClosed               the bus was closed before this call
    ├── StreamReset             a new owner threw away the text of a streamed message
    ├── IdentityInUse           another client uses the identity file
    ├── ClosedByServer          the server closed with a code that means "do not come back"
    └── ServerError             an error frame or a refused command, by number:
        ├── BadRequest (400)        ValidationFailed (Unsendable: refused by the client itself), InvalidJson, InvalidName, …
        ├── Unauthenticated (401)
        ├── Forbidden (403)         OriginRefused, Revoked
        ├── NotFound (404)          RoomNotFound, ChannelNotFound, ClientNotFound, TargetNotFound, StreamNotFound
        ├── MethodNotAllowed (405), NotAcceptable (406)     over HTTP only
        ├── Conflict (409)          RoomExists, ChannelExists, ChannelNotEmpty, ChannelProtected, NotAMember, ClientIdInUse,
        │                           StreamGap, StreamEnded, StreamLost, …
        ├── FrameTooLarge (413), UnsupportedMediaType (415)
        ├── TooMuch (429)           RateLimited, LimitReached, Busy, TooSlow
        └── ServerFault (5xx)       InternalError, Unavailable, OutcomeUnknown, Restarting
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .close_codes import CLOSE_CODES as CLOSE_CODES
from .close_codes import comes_back as comes_back
from .failures import ArqonBusError as ArqonBusError
from .failures import BusClosed as BusClosed
from .failures import ConnectionFailed as ConnectionFailed
from .failures import ConnectionLost as ConnectionLost
from .failures import IdentityInUse as IdentityInUse
from .failures import StreamReset as StreamReset


class ServerError(ArqonBusError):
    """The server refused a frame or a command.

    ``code`` and ``number`` are the server's, ``details`` lists every fault, and ``retry_after`` is in seconds.
    """

    code: ClassVar[str] = ""
    number: ClassVar[int] = 0
    #: Whether the same request may succeed later.
    retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        details: list[Any] | None = None,
        retry_after: float | None = None,
        *,
        code: str = "",
        number: int = 0,
    ) -> None:
        # A newer server may have codes that this package does not know. They keep their code and number.
        if code and code != self.code:
            self.code = code  # type: ignore[misc]
        if number and number != self.number:
            self.number = number  # type: ignore[misc]
        self.message = message
        self.details = details or []
        self.retry_after = retry_after
        super().__init__(
            "\n  ".join(filter(None, (f"{self.code}: {message}" if message else self.code, self._faults())))
        )

    def _faults(self) -> str:
        """Return the faults of ``details`` as text, so that a traceback shows them."""
        told = (
            f"{fault.get('field', '')}: {fault['message']}"
            for fault in self.details
            if isinstance(fault, dict) and "message" in fault and str(fault["message"]) not in self.message
        )
        return "\n  ".join(told)


class BadRequest(ServerError):
    """400: the request is wrong. Sending it again unchanged cannot help."""

    number = 400


class ValidationFailed(BadRequest):
    """Fields of the frame are wrong. ``details`` lists every fault."""

    code = "VALIDATION_ERROR"


class Unsendable(ValidationFailed, ValueError):
    """The server or a receiver could not read a value, so the client did not send the frame."""


class InvalidJson(BadRequest):
    """The frame is not a JSON object."""

    code = "INVALID_JSON"


class UnsupportedVersion(BadRequest):
    """The server does not support this version of the protocol."""

    code = "UNSUPPORTED_VERSION"


class UnknownType(BadRequest):
    """The type of the frame is unknown."""

    code = "UNKNOWN_TYPE"


class UnknownCommand(BadRequest):
    """There is no such command."""

    code = "UNKNOWN_COMMAND"


class InvalidName(BadRequest):
    """The name of a room, channel or client is not allowed."""

    code = "INVALID_NAME"


class AlreadyRegistered(BadRequest):
    """The connection already has an identity."""

    code = "ALREADY_REGISTERED"


class Unauthenticated(ServerError):
    """401: the client is not identified. Send an access token."""

    number = 401
    code = "UNAUTHENTICATED"


class Forbidden(ServerError):
    """403: this identity has no permission for the request."""

    number = 403
    code = "FORBIDDEN"


class OriginRefused(Forbidden):
    """The origin of the page is not allowed."""

    code = "ORIGIN_REFUSED"


class Revoked(Forbidden):
    """The permission was withdrawn during the connection."""

    code = "REVOKED"


class NotFound(ServerError):
    """404: the object does not exist."""

    number = 404
    code = "NOT_FOUND"


class RoomNotFound(NotFound):
    """There is no such room."""

    code = "ROOM_NOT_FOUND"


class ChannelNotFound(NotFound):
    """There is no such channel."""

    code = "CHANNEL_NOT_FOUND"


class ClientNotFound(NotFound):
    """There is no such client."""

    code = "CLIENT_NOT_FOUND"


class TargetNotFound(NotFound):
    """Some targets of a private message are unknown; ``details`` names them. The others received the message."""

    code = "TARGET_NOT_FOUND"


class ClaimNotFound(NotFound):
    """You have no such claim."""

    code = "CLAIM_NOT_FOUND"


class NoResponder(NotFound):
    """Nobody is there to answer. ``details`` names who was asked."""

    code = "NO_RESPONDER"


class QuestionNotFound(NotFound):
    """There is no such question for you."""

    code = "QUESTION_NOT_FOUND"


class StreamNotFound(NotFound):
    """There is no such streamed message."""

    code = "STREAM_NOT_FOUND"


class MethodNotAllowed(ServerError):
    """405: the URL does not support this method."""

    number = 405
    code = "METHOD_NOT_ALLOWED"


class NotAcceptable(ServerError):
    """406: the server answers only with JSON."""

    number = 406
    code = "NOT_ACCEPTABLE"


class Conflict(ServerError):
    """409: the present state does not allow the request."""

    number = 409


class RoomExists(Conflict):
    """The room already exists."""

    code = "ROOM_EXISTS"


class ChannelExists(Conflict):
    """The channel already exists."""

    code = "CHANNEL_EXISTS"


class ChannelNotEmpty(Conflict):
    """The channel has members."""

    code = "CHANNEL_NOT_EMPTY"


class ChannelProtected(Conflict):
    """The channel is built in and cannot be deleted."""

    code = "CHANNEL_PROTECTED"


class NotAMember(Conflict):
    """You are not a member of the channel."""

    code = "NOT_A_MEMBER"


class ClientIdInUse(Conflict):
    """The client_id is connected, or belongs to another identity."""

    code = "CLIENT_ID_IN_USE"


class TakenOver(Conflict):
    """A newer connection of this client took over."""

    code = "TAKEN_OVER"


class StreamGap(Conflict):
    """A part is missing before this one. ``details`` has the number of the last part that the server has."""

    code = "STREAM_GAP"


class StreamEnded(Conflict):
    """The streamed message has ended. ``details`` has its state."""

    code = "STREAM_ENDED"


class StreamLost(Conflict):
    """Another process owns the streamed message now."""

    code = "STREAM_LOST"


class ClaimLost(Conflict):
    """The claim has ended. ``details`` says why, and who has the job now."""

    code = "CLAIM_LOST"


class QuestionEnded(Conflict):
    """The question has ended. ``details`` has its state."""

    code = "QUESTION_ENDED"


class FrameTooLarge(ServerError):
    """413: the frame is larger than the server's limit."""

    number = 413
    code = "FRAME_TOO_LARGE"


class UnsupportedMediaType(ServerError):
    """415: the body of an HTTP request must be JSON."""

    number = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class TooMuch(ServerError):
    """429: try again later. ``retry_after`` says when."""

    number = 429
    retry = True


class RateLimited(TooMuch):
    """The client sent too many frames."""

    code = "RATE_LIMITED"


class LimitReached(TooMuch):
    """A limit is reached. ``details`` names it."""

    code = "LIMIT_REACHED"


class Busy(TooMuch):
    """The server has too much data to write."""

    code = "BUSY"


class TooSlow(TooMuch):
    """The connection reads too slowly."""

    code = "TOO_SLOW"


class ServerFault(ServerError):
    """5xx: the server failed. The same request may succeed later."""

    number = 503
    retry = True


class InternalError(ServerFault):
    """The server failed. ``details`` has the reference for its log."""

    number = 500
    code = "INTERNAL_ERROR"


class Unavailable(ServerFault):
    """The database does not answer. Nothing was published."""

    code = "UNAVAILABLE"


class OutcomeUnknown(ServerFault):
    """The database failed during the commit. Repeat the message with the same id."""

    code = "OUTCOME_UNKNOWN"


class Restarting(ServerFault):
    """The server restarts."""

    code = "RESTARTING"


class AskTimeout(ServerFault):
    """No answer came in time. ``details`` names who was asked."""

    number = 504
    retry = False
    code = "ASK_TIMEOUT"


def _leaves(base: type[ServerError]) -> list[type[ServerError]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in _leaves(child))]


#: The exception for each error code.
BY_CODE: dict[str, type[ServerError]] = {kind.code: kind for kind in _leaves(ServerError) if vars(kind).get("code")}
_BY_NUMBER: dict[int, type[ServerError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: FrameTooLarge,
    429: TooMuch,
}


def from_error(error: Mapping[str, Any]) -> ServerError:
    """Return the exception for the ``error`` object of a frame. The number decides for unknown codes."""
    code, number = str(error.get("code") or ""), int(error.get("number") or 0)
    kind = BY_CODE.get(code) or _BY_NUMBER.get(number) or (ServerFault if number >= 500 else ServerError)
    return kind(
        str(error.get("message") or ""), error.get("details"), error.get("retry_after"), code=code, number=number
    )


class ClosedByServer(ArqonBusError):
    """The server closed the connection for good. ``close_code`` is in the table, and ``error`` has the reason."""

    def __init__(self, close_code: int, error: ServerError | None = None) -> None:
        self.close_code = close_code
        self.error = error
        kind = CLOSE_CODES.get(close_code)
        meaning = kind.meaning if kind else "closed"
        super().__init__(f"{close_code}, {meaning}" + (f" ({error})" if error else ""))
