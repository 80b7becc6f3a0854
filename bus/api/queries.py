"""Query strings: one filter set for each list. Invalid values and unknown names are refused before any read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import django_filters as filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from ..log.store import parse_moment
from ..models import AuditEntry, Channel, Client, Decision, Grant, Message, Room
from ..protocol.errors import BusError, ErrorCode
from ..services.clients import with_skill, with_status

Set = TypeVar("Set", bound="ListFilter")

#: The default and the largest number of rows of a page.
PAGE, MOST = 50, 500

MOST_SEQ = 2**63 - 2


class PositionField(forms.CharField):
    """A field for a seq or an ISO time."""

    def to_python(self, value: Any) -> Any:
        """An ``int`` or an aware ``datetime``; None for an empty value. Raises ``ValidationError``."""
        text = super().to_python(value)
        if not text:
            return None
        if text.isdecimal() and text.isascii():
            number = int(text[:20])
            if number > MOST_SEQ:
                raise ValidationError("This seq is too large.")
            return number
        # An unencoded + of a query string arrives as a space.
        moment = parse_moment(text.strip()) or parse_moment(text.strip().replace(" ", "+"))
        if moment is None or not 1970 <= moment.year <= 9000:
            raise ValidationError("This must be a seq, or an ISO time such as 2026-01-01T00:00:00Z.")
        return moment


class TimeField(PositionField):
    """A field for an ISO time."""

    def to_python(self, value: Any) -> Any:
        """An aware ``datetime``; None for an empty value. Raises ``ValidationError``."""
        moment = super().to_python(value)
        if isinstance(moment, int):
            raise ValidationError("This must be an ISO time such as 2026-01-01T00:00:00Z.")
        return moment


class PositionFilter(filters.Filter):
    """A filter by a seq or a time."""

    field_class = PositionField


class TimeFilter(filters.Filter):
    """A filter by a time."""

    field_class = TimeField


class FlagField(forms.NullBooleanField):
    """A field for a flag in one of the usual spellings."""

    widget = forms.TextInput

    def to_python(self, value: Any) -> bool | None:  # type: ignore[override] # None is what its name says
        """The flag; None for an empty value. Raises ``ValidationError``."""
        text = str(value if value is not None else "").lower()
        if text in ("", "none"):
            return None
        if text in ("true", "1", "false", "0"):
            return text in ("true", "1")
        raise ValidationError("This must be true or false.")

    def validate(self, value: Any) -> None:
        """Accept every value that :meth:`to_python` returned."""


class FlagFilter(filters.Filter):
    """A filter by a boolean column."""

    field_class = FlagField


class NumberField(forms.IntegerField):
    """A field for a whole number in plain digits."""

    def to_python(self, value: Any) -> int | None:
        """The number; None for an empty value. Raises ``ValidationError``."""
        text = str(value or "")
        if text and not (text.isascii() and text.removeprefix("-").isdecimal()):
            raise ValidationError("This must be a whole number.")
        return super().to_python(text)


class NumberFilter(filters.Filter):
    """A filter by a whole number."""

    field_class = NumberField


class ListFilter(filters.FilterSet):
    """The parameters of every list."""

    limit = NumberFilter(
        method="nothing", min_value=1, max_value=MOST,
        help_text=f"Rows of a page; {PAGE} without it.",
    )  # fmt: skip
    cursor = filters.CharFilter(
        method="nothing", max_length=8192, strip=False, help_text="Position of the page. Take it from `next`."
    )

    def nothing(self, rows: QuerySet[Any], name: str, value: Any) -> QuerySet[Any]:
        """A filter that does not select rows."""
        return rows

    @property
    def values(self) -> Mapping[str, Any]:
        """The checked values."""
        values: Mapping[str, Any] = self.form.cleaned_data
        return values

    @property
    def size(self) -> int:
        """The number of rows of a page."""
        return int(self.values["limit"] or PAGE)

    @classmethod
    def of(cls: type[Set], request: Request, rows: QuerySet[Any]) -> Set:
        """The filter of a request over ``rows``. Raises ``BusError`` VALIDATION_ERROR with every fault."""
        made = cls(request.query_params, rows, request=request)
        faults = [
            {
                "field": name,
                "message": f"There is no such parameter. The parameters are {', '.join(sorted(made.filters))}.",
            }
            for name in request.query_params
            if name not in made.filters
        ]
        if not made.form.is_valid():
            faults += [
                {"field": field, "message": str(message)}
                for field, messages in made.form.errors.items()
                for message in messages
            ]
        if faults:
            raise BusError(ErrorCode.VALIDATION_ERROR, faults[0]["message"] if len(faults) == 1 else None, faults)
        return made

    def next_link(self, cursor: str | None) -> str | None:
        """The address of the page at ``cursor``."""
        assert self.request is not None
        return replace_query_param(self.request.build_absolute_uri(), "cursor", cursor) if cursor else None


def _text(field: str | None = None, lookup: str = "exact", longest: int = 128, **options: Any) -> filters.CharFilter:
    return filters.CharFilter(field_name=field, lookup_expr=lookup, max_length=longest, strip=False, **options)


class DescribedFilter(ListFilter):
    """The filter for objects with a name and a description."""

    search = _text(method="found", help_text="Text in the name or description.")

    def found(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """Rows whose name or description has the text."""
        return rows.filter(Q(name__icontains=value) | Q(description__icontains=value))


class RoomFilter(DescribedFilter):
    """The parameters of the list of rooms."""

    private = FlagFilter(help_text="Only private rooms, or only public ones.")

    class Meta:
        model = Room
        fields: list[str] = []


class ChannelFilter(DescribedFilter):
    """The parameters of the list of channels."""

    room = _text("room__name", longest=64, help_text="Channels of this room.")
    type = _text(longest=32, help_text="Channels of this type, such as standard or custom.")
    ephemeral = FlagFilter(help_text="Only ephemeral channels, or only stored ones.")
    hardcoded = FlagFilter(help_text="Only built-in channels, or only other ones.")

    class Meta:
        model = Channel
        fields: list[str] = []


class ChannelMessageFilter(ListFilter):
    """The parameters of the messages of one log."""

    sender = _text(method="nothing", longest=64, help_text="Messages from this client_id.")
    type = _text(method="nothing", longest=64, help_text="Messages of this type.")
    text = _text(method="nothing", help_text="Messages with this text, in `message` or a value of `payload`.")
    before = PositionFilter(method="nothing", help_text="Messages before this seq or ISO time (exclusive).")
    after = PositionFilter(method="nothing", help_text="Messages after this seq or ISO time (exclusive).")
    order = filters.ChoiceFilter(
        method="nothing",
        choices=[("desc", "newest first"), ("asc", "oldest first")],
        help_text="desc: newest first (default); asc: oldest first.",
    )
    fold = FlagFilter(method="nothing", help_text="Each message with its amendments, and each stream as one message.")

    class Meta:
        model = Message
        fields: list[str] = []


class MessageFilter(ChannelMessageFilter):
    """The parameters of the messages of a channel, a room, or all channels."""

    room = _text(method="nothing", longest=130, help_text="A room with all of its channels, or room:channel.")
    channel = _text(method="nothing", longest=130, help_text="A channel of `room`, or room:channel.")


class ClientFilter(ListFilter):
    """The parameters of the list of connected clients."""

    type = _text("client_type", longest=64, help_text="Clients of this type, such as ai-agent.")
    channel = _text(method="nothing", longest=130, help_text="Members of this channel, as room:channel.")
    search = _text(method="found", help_text="Text in the client_id or screen name.")
    status = _text(method="doing", longest=32, help_text="Clients with this status, such as working.")
    skill = _text(method="skilled", longest=64, help_text="Clients whose card names this skill.")

    class Meta:
        model = Client
        fields: list[str] = []

    def found(self, rows: QuerySet[Client], name: str, value: str) -> QuerySet[Client]:
        """Rows whose id or name has the text."""
        return rows.filter(Q(client_id__icontains=value) | Q(screen_name__icontains=value))

    def doing(self, rows: QuerySet[Client], name: str, value: str) -> QuerySet[Client]:
        """Clients with this status."""
        return with_status(rows, value)

    def skilled(self, rows: QuerySet[Client], name: str, value: str) -> QuerySet[Client]:
        """Clients with this skill."""
        return with_skill(rows, value)


class PlainFilter(ListFilter):
    """The parameters of lists without filters of their own."""

    class Meta:
        model = Grant
        fields: list[str] = []


class GrantFilter(ListFilter):
    """The parameters of the list of grants."""

    subject = filters.ChoiceFilter(choices=Grant.Subject.choices, help_text="Grants for this kind of subject.")
    subject_name = _text(longest=150, help_text="Grants for this user, group, token or client type.")
    action = filters.ChoiceFilter(choices=Grant.Action.choices, help_text="Grants for this action.")
    allow = FlagFilter(help_text="Only grants that allow, or only bans.")

    class Meta:
        model = Grant
        fields: list[str] = []


class DecisionFilter(ListFilter):
    """The parameters of the list of decisions."""

    address = _text(method="nothing", longest=130, help_text="Decisions of this channel, as room:channel.")
    room = _text(method="nothing", longest=64, help_text="Decisions of the channels of this room.")
    state = filters.ChoiceFilter(method="nothing", choices=Decision.State.choices, help_text="Decisions in this state.")
    mine = FlagFilter(method="nothing", help_text="true: only those that you asked for.")
    to_decide = FlagFilter(method="nothing", help_text="true: only the pending ones that you may decide.")

    class Meta:
        model = Decision
        fields: list[str] = []


class AuditFilter(ListFilter):
    """The parameters of the audit log."""

    actor = _text(lookup="icontains", longest=150, help_text="Text in the name of the actor.")
    principal = _text(help_text="Identity of the actor, as user:…, token:… or jwt:….")
    action = _text(longest=32, help_text="Action, such as create_channel.")
    target = _text(lookup="icontains", longest=200, help_text="Text in the target of the action.")
    door = filters.ChoiceFilter(
        choices=[(door, door) for door in ("socket", "rest", "mcp", "admin", "command", "code", "server")],
        help_text="Interface of the request.",
    )
    before = TimeFilter("at", "lt", help_text="Before this ISO time.")
    after = TimeFilter("at", "gt", help_text="After this ISO time.")

    class Meta:
        model = AuditEntry
        fields: list[str] = []


def openapi_of(found: filters.Filter) -> dict[str, Any]:
    """The JSON Schema of a filter's value."""
    field = found.field
    if isinstance(field, forms.IntegerField):
        return {"type": "integer", "minimum": field.min_value, "maximum": field.max_value, "default": PAGE}
    if isinstance(field, FlagField):
        return {"type": "boolean"}
    if isinstance(field, forms.ChoiceField):
        choices: Any = found.extra["choices"]
        return {"type": "string", "enum": [value for value, _ in choices]}
    if isinstance(field, TimeField):
        return {"type": "string", "format": "date-time"}
    if isinstance(field, PositionField):
        return {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": MOST_SEQ}, {"type": "string", "format": "date-time"}]
        }
    return {"type": "string", "minLength": 1, "maxLength": getattr(field, "max_length", None) or 128}
