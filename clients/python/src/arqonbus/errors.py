"""Everything that can go wrong, as exceptions, and what each close code means for a client (contract §8).

::

    ArqonBusError
    ├── ConnectionFailed        nobody answered, or not a bus
    ├── ConnectionLost          the connection went while an answer was awaited; what was asked may have been done
    ├── BusClosed               used after it was closed
    ├── IdentityInUse           another client has the file of the identity
    ├── ClosedByServer          the server ended it with a code that says "do not come back"
    └── ServerError             an error frame or a refused command, by number:
        ├── BadRequest (400)        ValidationFailed (Unsendable: refused by the client itself), InvalidJson, InvalidName, …
        ├── Unauthenticated (401)
        ├── Forbidden (403)         OriginRefused, Revoked
        ├── NotFound (404)          RoomNotFound, ChannelNotFound, ClientNotFound, TargetNotFound
        ├── MethodNotAllowed (405), NotAcceptable (406)     over HTTP only
        ├── Conflict (409)          RoomExists, ChannelExists, ChannelNotEmpty, ChannelProtected, NotAMember, ClientIdInUse, …
        ├── FrameTooLarge (413), UnsupportedMediaType (415)
        ├── TooMuch (429)           RateLimited, LimitReached, Busy, TooSlow
        └── ServerFault (5xx)       InternalError, Unavailable, OutcomeUnknown, Restarting
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .close_codes import CLOSE_CODES as CLOSE_CODES
from .close_codes import comes_back as comes_back


class ArqonBusError(Exception):
    """Base of every error of this package."""


class ConnectionFailed(ArqonBusError):
    """Raised when the server cannot be reached or does not speak the bus's protocol.

    ``answered``: something is there, but not a bus at this address. ``proxy``: a proxy was on the way.
    """

    def __init__(self, message: str, *, answered: bool = False, proxy: bool = False) -> None:
        self.answered = answered
        self.proxy = proxy
        super().__init__(message)


class ConnectionLost(ArqonBusError):
    """Raised when the connection went before an answer came: what was asked may have been carried out, or not."""


class BusClosed(ArqonBusError):
    """Raised by every use of a bus after ``close()``."""


class IdentityInUse(ArqonBusError):
    """Raised when another client, in this process or another, has the file that ``identity`` names."""


class ServerError(ArqonBusError):
    """The server's refusal of one frame or command.

    ``code`` and ``number`` are those of the contract, ``details`` lists every fault, ``retry_after`` is in seconds.
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
        # A newer server may know codes that this package does not; they keep their own name and number.
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
        """What ``details`` adds to the message: a traceback shows only the text, and the faults are what one looks for."""
        told = (
            f"{fault.get('field', '')}: {fault['message']}"
            for fault in self.details
            if isinstance(fault, dict) and "message" in fault and str(fault["message"]) not in self.message
        )
        return "\n  ".join(told)


class BadRequest(ServerError):
    """400: the request is wrong; sending it again unchanged cannot help."""

    number = 400


class ValidationFailed(BadRequest):
    """Fields of the frame are wrong; ``details`` lists every fault."""

    code = "VALIDATION_ERROR"


class Unsendable(ValidationFailed, ValueError):
    """Raised before anything is sent: a value is not one that the server, or a reader, could take. Nothing was published."""


class InvalidJson(BadRequest):
    """The frame is not a JSON object."""

    code = "INVALID_JSON"


class UnsupportedVersion(BadRequest):
    """The server does not speak this version of the contract."""

    code = "UNSUPPORTED_VERSION"


class UnknownType(BadRequest):
    """The frame's type is not known."""

    code = "UNKNOWN_TYPE"


class UnknownCommand(BadRequest):
    """There is no such command."""

    code = "UNKNOWN_COMMAND"


class InvalidName(BadRequest):
    """A room's, channel's or client's name is not allowed."""

    code = "INVALID_NAME"


class AlreadyRegistered(BadRequest):
    """The connection has an identity already."""

    code = "ALREADY_REGISTERED"


class Unauthenticated(ServerError):
    """401: not identified; bring an access token."""

    number = 401
    code = "UNAUTHENTICATED"


class Forbidden(ServerError):
    """403: this identity may not do this here."""

    number = 403
    code = "FORBIDDEN"


class OriginRefused(Forbidden):
    """The page's origin is not allowed."""

    code = "ORIGIN_REFUSED"


class Revoked(Forbidden):
    """The access was withdrawn while connected."""

    code = "REVOKED"


class NotFound(ServerError):
    """404: there is no such thing."""

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
    """Some targets of a private message are not known; ``details`` names them, the others were served."""

    code = "TARGET_NOT_FOUND"


class MethodNotAllowed(ServerError):
    """405: the HTTP address does not take this method."""

    number = 405
    code = "METHOD_NOT_ALLOWED"


class NotAcceptable(ServerError):
    """406: answers come as JSON only."""

    number = 406
    code = "NOT_ACCEPTABLE"


class Conflict(ServerError):
    """409: the state of things does not allow it."""

    number = 409


class RoomExists(Conflict):
    """The room is there already."""

    code = "ROOM_EXISTS"


class ChannelExists(Conflict):
    """The channel is there already."""

    code = "CHANNEL_EXISTS"


class ChannelNotEmpty(Conflict):
    """The channel has members."""

    code = "CHANNEL_NOT_EMPTY"


class ChannelProtected(Conflict):
    """The channel is built in and stays."""

    code = "CHANNEL_PROTECTED"


class NotAMember(Conflict):
    """You are not a member of the channel."""

    code = "NOT_A_MEMBER"


class ClientIdInUse(Conflict):
    """The client_id is connected, or belongs to somebody else."""

    code = "CLIENT_ID_IN_USE"


class TakenOver(Conflict):
    """A newer connection of this client took over."""

    code = "TAKEN_OVER"


class FrameTooLarge(ServerError):
    """413: the frame is larger than the server takes."""

    number = 413
    code = "FRAME_TOO_LARGE"


class UnsupportedMediaType(ServerError):
    """415: the body of an HTTP request has to be JSON."""

    number = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class TooMuch(ServerError):
    """429: later; ``retry_after`` says when."""

    number = 429
    retry = True


class RateLimited(TooMuch):
    """Too many frames."""

    code = "RATE_LIMITED"


class LimitReached(TooMuch):
    """A limit is reached; ``details`` says which one."""

    code = "LIMIT_REACHED"


class Busy(TooMuch):
    """The server has more to write than it can."""

    code = "BUSY"


class TooSlow(TooMuch):
    """The connection reads too slowly."""

    code = "TOO_SLOW"


class ServerFault(ServerError):
    """5xx: the server's fault; the same request may succeed later."""

    number = 503
    retry = True


class InternalError(ServerFault):
    """Something failed; ``details`` holds the reference for the server's log."""

    number = 500
    code = "INTERNAL_ERROR"


class Unavailable(ServerFault):
    """The message store does not answer; nothing was published."""

    code = "UNAVAILABLE"


class OutcomeUnknown(ServerFault):
    """The store was lost while it committed; a repeat with the same id makes sure."""

    code = "OUTCOME_UNKNOWN"


class Restarting(ServerFault):
    """The server restarts."""

    code = "RESTARTING"


def _leaves(base: type[ServerError]) -> list[type[ServerError]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in _leaves(child))]


#: The exception of each of the contract's codes.
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
    """The exception for the ``error`` object of a frame; codes that are not known go by their number."""
    code, number = str(error.get("code") or ""), int(error.get("number") or 0)
    kind = BY_CODE.get(code) or _BY_NUMBER.get(number) or (ServerFault if number >= 500 else ServerError)
    return kind(
        str(error.get("message") or ""), error.get("details"), error.get("retry_after"), code=code, number=number
    )


class ClosedByServer(ArqonBusError):
    """Raised when the server ended the connection for good; ``close_code`` is in the table, ``error`` tells the reason."""

    def __init__(self, close_code: int, error: ServerError | None = None) -> None:
        self.close_code = close_code
        self.error = error
        kind = CLOSE_CODES.get(close_code)
        meaning = kind.meaning if kind else "closed"
        super().__init__(f"{close_code}, {meaning}" + (f" ({error})" if error else ""))
