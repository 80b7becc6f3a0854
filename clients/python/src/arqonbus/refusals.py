"""What the server refuses, by number. ``errors`` has the errors with their codes."""

from __future__ import annotations

from typing import Any, ClassVar

from .failures import ArqonBusError


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

    @property
    def first_detail(self) -> dict[str, Any]:
        """The first object of ``details``, or an empty one."""
        return next((row for row in self.details if isinstance(row, dict)), {})

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


class Unauthenticated(ServerError):
    """401: the client is not identified. Send an access token."""

    number = 401
    code = "UNAUTHENTICATED"


class Forbidden(ServerError):
    """403: this identity has no permission for the request."""

    number = 403
    code = "FORBIDDEN"


class NotFound(ServerError):
    """404: the object does not exist."""

    number = 404
    code = "NOT_FOUND"


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


class FrameTooLarge(ServerError):
    """413: the frame is larger than the server's limit."""

    number = 413
    code = "FRAME_TOO_LARGE"


class UnsupportedMediaType(ServerError):
    """415: the body of an HTTP request must be JSON."""

    number = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class Refused(ServerError):
    """422: a gate of the project refused the message. ``why`` is the code that the gate gave, and ``message`` says more."""

    number = 422
    code = "REFUSED"

    @property
    def why(self) -> str:
        """The code of the gate, such as ``TOO_LOW``."""
        return str(self.first_detail.get("code") or "")


class TooMuch(ServerError):
    """429: try again later. ``retry_after`` says when."""

    number = 429
    retry = True


class ServerFault(ServerError):
    """5xx: the server failed. The same request may succeed later."""

    number = 503
    retry = True
