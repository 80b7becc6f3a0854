"""The base class of the views, and their helpers for addresses and cursors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import unquote

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from ...auth.permissions import Actor
from ...db.faults import without_transaction
from ...directory import clients as client_directory
from ...protocol.errors import BusError, ErrorCode
from ...protocol.names import Address, parse_address
from ...protocol.routing import invalid_name
from ...services.questions import bounded
from ...shapes import Page
from ..authentication import BusAuthentication, actor_of
from ..bodies import JSONParser, JSONRenderer, WholeRequest
from ..errors import exception_handler
from ..pages import PageRenderer
from ..permissions import MayUseBus
from ..queries import ListFilter
from ..schema import BusSchema
from ..throttling import BusThrottle

#: The name of REST in the audit log.
DOOR = "rest"

Filters = TypeVar("Filters", bound=ListFilter)


def _bounded(get: Callable[..., Response]) -> Callable[..., Response]:
    @wraps(get)
    def bounded_get(self: BusView, request: Request, *args: Any, **kwargs: Any) -> Response:
        return bounded(lambda: get(self, request, *args, **kwargs))

    return bounded_get


class BusView(APIView):
    """A view with the caller as :attr:`actor`.

    Its policies are set here, because REST_FRAMEWORK belongs to the project and its own API.
    """

    authentication_classes = [BusAuthentication]
    permission_classes: list[Any] = [MayUseBus]
    throttle_classes = [BusThrottle]
    renderer_classes = [JSONRenderer, PageRenderer]
    parser_classes = [JSONParser]
    metadata_class = None
    #: The cost of a GET in requests (``bus.commands.base``). A page of a list costs more than one.
    look_cost = 1
    schema = BusSchema()
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Bound the database's work of each page of a list, as for the commands of a socket."""
        super().__init_subclass__(**kwargs)
        if cls.look_cost > 1 and "get" in cls.__dict__:
            cls.get = _bounded(cls.__dict__["get"])  # type: ignore[attr-defined]

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """The view, without ATOMIC_REQUESTS. The services open their own transactions and report a commit in doubt."""
        return without_transaction(super().as_view(**initkwargs))

    def get_exception_handler(self) -> Any:
        """The function that turns exceptions into the bus's error form."""
        return exception_handler

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """DRF's request, with a body that may have a length or be chunked."""
        return WholeRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Add ``Cache-Control: no-store``, since a cache must not show one caller's answer to another."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    @property
    def actor(self) -> Actor:
        """The actor of the request."""
        return actor_of(self.request)

    def speaker(self) -> tuple[Actor, bool]:
        """The caller under the client_id of the query (``schema.SPEAKER``), and whether the id has to be taken first.

        Raises ``BusError`` INVALID_NAME, CLIENT_ID_IN_USE or FORBIDDEN.
        """
        return client_directory.speaker(self.actor, self.request.query_params.get("client_id") or None)

    def read(self, serializer: type[Serializer[Any]]) -> dict[str, Any]:
        """The checked body. Raises DRF's ``ValidationError`` with every fault."""
        made = serializer(data=self.request.data)
        made.is_valid(raise_exception=True)
        value: dict[str, Any] = made.validated_data
        return value

    def changes(self, serializer: type[Serializer[Any]]) -> dict[str, Any]:
        """The checked body of a PATCH. Raises as :meth:`read`, and ``BusError`` VALIDATION_ERROR for a body without a field.

        Otherwise a caller whose field got lost on the way would get a success without a change.
        """
        value = self.read(serializer)
        fields = serializer().fields
        # An empty value is a value, but an empty object of fields (`retention`) changes nothing.
        if all(isinstance(fields[name], Serializer) and not part for name, part in value.items()):
            raise BusError(
                ErrorCode.VALIDATION_ERROR, f"The body names no field to change. The fields are {', '.join(fields)}."
            )
        return value


def address_of(text: str) -> Address:
    """The address in a path. A slash in a name may be written as ``%2F``. Raises ``BusError`` INVALID_NAME."""
    address = parse_address(unquote(text))
    if address is None:
        raise invalid_name("address", text, f"{text[:80]!r} is not an address of the form room:channel.")
    return address


def page(rows: list[Any], filters: ListFilter, cursor: str | None) -> Response:
    """The answer with one page of a list. ``cursor`` leads to the next page; None means that this is the last."""
    return Response(Page(results=rows, next=filters.next_link(cursor)))


def encode_cursor(*parts: str | int) -> str:
    """A cursor: the values of a place in a list, as one text."""
    return base64.urlsafe_b64encode("\n".join(map(str, parts)).encode()).decode().rstrip("=")


def decode_cursor(text: str | None, parts: int) -> list[str] | None:
    """The ``parts`` values in a cursor, as texts. None without a cursor. Raises ``BusError`` VALIDATION_ERROR."""
    if not text:
        return None
    try:
        found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("\n")
    except (binascii.Error, UnicodeError, ValueError):
        found = []
    if len(found) != parts or "\x00" in text or any("\x00" in part for part in found):
        raise wrong_cursor()
    return found


def number_of(text: str) -> int:
    """A row's number from the text in a cursor. Raises ``BusError`` VALIDATION_ERROR."""
    if not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise wrong_cursor()
    return int(text)


def wrong_cursor() -> BusError:
    """The error for an invalid cursor."""
    return BusError(
        ErrorCode.VALIDATION_ERROR,
        "This cursor is not valid.",
        [{"field": "cursor", "message": "Use the `next` of the previous page."}],
    )
