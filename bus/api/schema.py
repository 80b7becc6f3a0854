"""Builds the OpenAPI document. Each operation names its answer and its errors, and this module adds the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from .. import shapes
from ..protocol.errors import ERRORS, BusError, ErrorCode
from .queries import ListFilter, openapi_of

View = TypeVar("View", bound=Callable[..., Any])

#: The errors of every operation, and of every operation with a body.
COMMON = (
    ErrorCode.VALIDATION_ERROR,
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN,
    ErrorCode.NOT_ACCEPTABLE,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL_ERROR,
    ErrorCode.UNAVAILABLE,
)
WITH_BODY = (ErrorCode.INVALID_JSON, ErrorCode.FRAME_TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE)


class BusSchema(AutoSchema):
    """Describes a view for drf-spectacular. The query parameters are those of the view's own filter."""

    def get_filter_backends(self) -> list[Any]:
        """None: :func:`operation` lists a view's parameters."""
        return []

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        """The serializer's schema. A change needs at least one field."""
        found: Any = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if self.method == "PATCH" and direction == "request" and getattr(serializer, "partial", False):
            found["minProperties"] = 1
        return found

    def get_operation(self, *place: Any) -> dict[str, Any] | None:
        """The operation's description. An empty query parameter counts as absent."""
        found: dict[str, Any] | None = super().get_operation(*place)
        for parameter in found.get("parameters", []) if found else []:
            if parameter["in"] == OpenApiParameter.QUERY:
                parameter["allowEmptyValue"] = True
        return found


class StructExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call] # its own registration
    """Describes answers by the structs of ``bus.shapes``, whose fields carry their documentation."""

    target_class = "bus.shapes.Shape"
    match_subclasses = True

    def get_name(self, auto_schema: AutoSchema, direction: Any) -> str:
        """The struct's name."""
        return str(self.target.__name__)

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        """The struct's schema. The structs that it refers to are added to the document."""
        _, components = msgspec.json.schema_components([self.target], ref_template="#/components/schemas/{name}")
        for schema in components.values():
            for field in schema["properties"].values():
                for part in (field, field.get("items", {})):
                    if "enum" in part:
                        # drf-spectacular would make a component of each enum, and warn of two with one name.
                        part["oneOf"] = [{"const": value} for value in part.pop("enum")]
        own: dict[str, Any] = components.pop(self.target.__name__)
        for name, schema in components.items():
            kind = ResolvedComponent.SCHEMA
            component = ResolvedComponent(name, kind, schema=schema, object=getattr(shapes, name))  # type: ignore[no-untyped-call]
            auto_schema.registry.register_on_missing(component)
        return own


class BusAuthenticationScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # its own registration
    """The two ways of authentication."""

    target_class = "bus.api.authentication.BusAuthentication"
    name = ["accessToken", "session"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        """Bearer, or cookie with CSRF."""
        from django.conf import settings

        return [
            {
                "type": "http",
                "scheme": "bearer",
                "description": "An access token (`POST /api/v1/tokens`, the admin, `manage.py create_token`) or a JWT.",
            },
            {
                "type": "apiKey",
                "in": "cookie",
                "name": settings.SESSION_COOKIE_NAME,
                "description": "The session of a logged-in user. Methods that change something also need `X-CSRFToken`.",
            },
        ]


def only_the_bus(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """Select the addresses of the bus among those of the project."""
    return [endpoint for endpoint in endpoints if endpoint[3].__module__.startswith("bus.")]


def path(name: str, description: str, pattern: str, example: str) -> OpenApiParameter:
    """A parameter of the path. ``pattern`` matches no slash, because a slash must be written as ``%252F``."""
    return OpenApiParameter(
        name,
        {"type": "string", "pattern": pattern},
        OpenApiParameter.PATH,
        description=description,
        examples=[OpenApiExample(example, value=example)],
    )


ROOM = path("room", "Name of a room.", r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$", "science")
ADDRESS = path(
    "address",
    "A channel as `room:channel`. For messages, events and marks also `room:*` (the log of whole-room messages) and "
    "`pm:<client_id>` (an inbox). Write a slash within a name as `%252F`.",
    r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$",
    "science:explore",
)
CLIENT_ID = path("client_id", "Id of a client.", r"^[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,63}$", "my-client-1")
SPEAKER = OpenApiParameter(
    "client_id",
    {"type": "string", "pattern": r"^[A-Za-z0-9_.@-]{1,64}$"},
    OpenApiParameter.QUERY,
    description="Publish under this client_id, which must be yours or unused. The default is your name.",
)
#: The errors of an operation with :data:`SPEAKER`.
SPEAKER_ERRORS = (ErrorCode.INVALID_NAME, ErrorCode.CLIENT_ID_IN_USE)
OF = path(
    "of",
    "Id of the message that opened the stream. Write a slash within it as `%252F`.",
    r"^[A-Za-z0-9_.:@-]{1,160}$",
    "arq_a1",
)
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID",
    {"type": "string", "pattern": r"^([0-9a-f]{1,16}:)?[0-9]{1,18}$"},
    OpenApiParameter.HEADER,
    description="Id of the last received event, `<epoch>:<seq>`. Browsers send it by themselves.",
)
SINCE = OpenApiParameter(
    "since",
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 2**53},
            {"type": "string", "format": "date-time"},
            {"type": "string", "enum": ["mark"]},
        ]
    },
    OpenApiParameter.QUERY,
    description="Begin after this seq, ISO time or your own `mark` (0: with the oldest message). `Last-Event-ID` wins.",
)
NUMBER = OpenApiParameter("id", OpenApiTypes.INT64, OpenApiParameter.PATH, description="Number of the object.")


def query(filters: type[ListFilter]) -> list[OpenApiParameter]:
    """The query parameters of a list, from its filter."""
    return [
        OpenApiParameter(
            name, openapi_of(found), OpenApiParameter.QUERY, description=str(found.extra.get("help_text", ""))
        )
        for name, found in filters.base_filters.items()
    ]


def operation(
    operation_id: str,
    summary: str,
    answer: Any = None,
    *,
    tag: str,
    status: int = 200,
    request: Any = None,
    errors: Iterable[ErrorCode] = (),
    parameters: Sequence[Any] = (),
    examples: Sequence[OpenApiExample] = (),
    more: dict[Any, Any] | None = None,
    streaming: bool = False,
) -> Callable[[View], View]:
    """Describe a view's method. Its docstring is the description. ``errors`` are codes of ``bus.protocol.errors``."""
    codes = [*errors, *COMMON, *(WITH_BODY if request is not None else ())]
    responses: dict[Any, Any] = {status: answer}
    if streaming:
        responses = {(status, "text/event-stream"): answer}
    responses.update(more or {})
    by_number: dict[int, list[ErrorCode]] = {}
    for code in dict.fromkeys(codes):
        by_number.setdefault(ERRORS[code].number, []).append(code)
    for number, group in sorted(by_number.items()):
        responses[(number, "application/json")] = OpenApiResponse(
            shapes.ErrorAnswer,
            description=" ".join(f"`{code}`: {ERRORS[code].text}" for code in group),
            examples=[
                OpenApiExample(code, value={"error": _example(code)}, response_only=True, status_codes=[str(number)])
                for code in group
            ],
        )
    extend = extend_schema(
        operation_id=operation_id,
        summary=summary,
        tags=[tag],
        request=request,
        responses=responses,
        parameters=list(parameters),
        examples=list(examples),
    )

    def decorate(view: View) -> View:
        # `extend_schema` builds on this schema. Without it, it would use that of the project's REST_FRAMEWORK.
        view.kwargs = {"schema": BusSchema}  # type: ignore[attr-defined]
        return extend(view)

    return decorate


def _example(code: ErrorCode) -> dict[str, Any]:
    retry = 1.0 if ERRORS[code].number in (429, 503) else None
    details: list[Any] = (
        [{"field": "limit", "message": "Enter a whole number."}] if code == ErrorCode.VALIDATION_ERROR else []
    )
    return BusError(code, details=details, retry_after=retry).as_dict()
