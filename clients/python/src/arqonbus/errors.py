"""All errors of the client.

::

    ArqonBusError
    ├── ConnectionFailed        no server answers, or it is not a bus
    ├── ConnectionLost          the connection broke before the answer; the server may have done the request
    ├── BusClosed               the bus was closed before this call
    ├── StreamReset             a new owner threw away the text of a streamed message
    ├── AskFailed               the responder answered a question with an error
    ├── IdentityInUse           another client uses the identity file
    ├── ClosedByServer          the server closed with a code that means "do not come back"
    └── ServerError             an error frame or a refused command, by number:
        ├── BadRequest (400)        ValidationFailed (Unsendable: refused by the client itself), InvalidJson, InvalidName, …
        ├── Unauthenticated (401)
        ├── Forbidden (403)         OriginRefused, Revoked
        ├── NotFound (404)          RoomNotFound, ChannelNotFound, ClientNotFound, TargetNotFound, MessageNotFound,
        │                           StreamNotFound, ClaimNotFound, NoResponder, QuestionNotFound, DecisionNotFound
        ├── MethodNotAllowed (405), NotAcceptable (406)     over HTTP only
        ├── Conflict (409)          RoomExists, ChannelExists, ChannelNotEmpty, ChannelProtected, NotAMember, ClientIdInUse,
        │                           StreamGap, StreamEnded, StreamLost, ClaimLost, QuestionEnded, DecisionEnded,
        │                           RejectedBefore, AlreadyUsed, …
        ├── FrameTooLarge (413), UnsupportedMediaType (415), Refused (422)
        ├── TooMuch (429)           RateLimited, LimitReached, Busy, TooSlow
        ├── ServerFault (5xx)       InternalError, Unavailable, OutcomeUnknown, Restarting
        └── AskTimeout (504)        also a TimeoutError
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .close_codes import CLOSE_CODES as CLOSE_CODES
from .close_codes import comes_back as comes_back
from .failures import ArqonBusError as ArqonBusError
from .failures import AskFailed as AskFailed
from .failures import BusClosed as BusClosed
from .failures import ConnectionFailed as ConnectionFailed
from .failures import ConnectionLost as ConnectionLost
from .failures import IdentityInUse as IdentityInUse
from .failures import StreamReset as StreamReset
from .refusals import BadRequest as BadRequest
from .refusals import Conflict as Conflict
from .refusals import Forbidden as Forbidden
from .refusals import FrameTooLarge as FrameTooLarge
from .refusals import MethodNotAllowed as MethodNotAllowed
from .refusals import NotAcceptable as NotAcceptable
from .refusals import NotFound as NotFound
from .refusals import Refused as Refused
from .refusals import ServerError as ServerError
from .refusals import ServerFault as ServerFault
from .refusals import TooMuch as TooMuch
from .refusals import Unauthenticated as Unauthenticated
from .refusals import UnsupportedMediaType as UnsupportedMediaType


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


class OriginRefused(Forbidden):
    """The origin of the page is not allowed."""

    code = "ORIGIN_REFUSED"


class Revoked(Forbidden):
    """The permission was withdrawn during the connection."""

    code = "REVOKED"


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


class MessageNotFound(NotFound):
    """There is no such message, or it was deleted."""

    code = "MESSAGE_NOT_FOUND"


class StreamNotFound(NotFound):
    """There is no such streamed message."""

    code = "STREAM_NOT_FOUND"


class ClaimNotFound(NotFound):
    """This client has no such claim."""

    code = "CLAIM_NOT_FOUND"


class NoResponder(NotFound):
    """Nobody is there to answer. ``details`` names who was asked."""

    code = "NO_RESPONDER"


class QuestionNotFound(NotFound):
    """There is no such question for this client."""

    code = "QUESTION_NOT_FOUND"

    def _faults(self) -> str:
        return str(self.first_detail.get("message") or "")


class DecisionNotFound(NotFound):
    """There is no such decision for this client."""

    code = "DECISION_NOT_FOUND"


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
    """The claim has ended, so the job belongs to this worker no longer."""

    code = "CLAIM_LOST"

    @property
    def why(self) -> str:
        """Why the claim is lost.

        ``expired``: the job waits again. ``taken``: another worker has or had it. ``done``: it is done with this claim.
        ``cancelled``: it is discarded or dead.
        """
        return str(self.first_detail.get("why") or "")

    @property
    def by(self) -> str | None:
        """The client id of the worker that took the job, if it is known."""
        by = self.first_detail.get("by")
        return by if isinstance(by, str) else None

    def _faults(self) -> str:
        return " ".join(filter(None, (self.why, self.by and f"by {self.by}")))


class QuestionEnded(Conflict):
    """The question was answered before, or its time is over. ``details`` has its state."""

    code = "QUESTION_ENDED"

    def _faults(self) -> str:
        return str(self.first_detail.get("state") or "")


class DecisionEnded(Conflict):
    """The decision was made before, or withdrawn, or its time is over. ``details`` has its state, by whom and when."""

    code = "DECISION_ENDED"

    @property
    def by(self) -> str | None:
        """Who decided, if somebody did."""
        by = self.first_detail.get("by")
        return by if isinstance(by, str) and by else None

    def _faults(self) -> str:
        return " ".join(filter(None, (str(self.first_detail.get("state") or ""), self.by and f"by {self.by}")))


class RejectedBefore(Conflict):
    """A person said no to the same action with the same args within the last hour."""

    code = "REJECTED_BEFORE"

    @property
    def decision(self) -> str | None:
        """The name of the decision that was rejected."""
        decision = self.first_detail.get("decision")
        return decision if isinstance(decision, str) else None


class AlreadyUsed(Conflict):
    """The decision was used before, so its action is not to be done again."""

    code = "ALREADY_USED"


class LoopDetected(Conflict):
    """A handler of the server's project publishes to what it listens to. Clients do not get this error."""

    code = "LOOP_DETECTED"


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


class AskTimeout(ServerError, TimeoutError):
    """504: no answer came in time. ``details`` names who was asked."""

    number = 504
    code = "ASK_TIMEOUT"

    def _faults(self) -> str:
        to = self.first_detail.get("to")
        return f"asked: {to}" if isinstance(to, str) and to not in self.message else ""


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
    422: Refused,
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
