"""Shared parts of the admin pages: the acting user, errors as messages, lists that stay fast for large tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import JSONField, Model, QuerySet
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..auth import identity
from ..auth.permissions import HISTORY, Actor, can
from ..conf.settings import config
from ..models import Channel
from ..protocol.errors import BusError
from ..protocol.names import parse_address
from ..protocol.values import holds_nul, wrong_with
from ..sockets.origin import request_address

#: Name of the admin in the audit log.
DOOR = "admin"

Row = TypeVar("Row", bound=Model)

# Django's classes are generic only for the type checker.
if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
    GenericAdmin = admin.ModelAdmin
else:
    AnyPaginator = Paginator

    class GenericAdmin(admin.ModelAdmin, Generic[Row]):
        """A ModelAdmin that can be subscripted."""


def actor_of(request: HttpRequest) -> Actor:
    """Return the actor of the logged-in user. It is read once per request."""
    actor: Actor | None = getattr(request, "_arqonbus_actor", None)
    if actor is None:
        actor = msgspec.structs.replace(identity.from_request(request), address=request_address(request))
        request._arqonbus_actor = actor  # type: ignore[attr-defined]
    return actor


def readable_channels(actor: Actor) -> list[int] | None:
    """Return the ids of the channels whose messages ``actor`` may read; None for all but the inboxes."""
    if actor.admin:
        return None
    channels = Channel.objects.select_related("room").exclude(kind=Channel.Kind.INBOX)
    return [channel.pk for channel in channels if can(actor, HISTORY, channel.address, private=channel.room.private)]


def counted(number: int, noun: str) -> str:
    """Return ``1 token``, ``2 tokens``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class BoundedPaginator(AnyPaginator):
    """A paginator that counts up to a limit. A full count would read all rows."""

    MOST = 10_000

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most :attr:`MOST`."""
        rows = self.object_list
        if isinstance(rows, QuerySet):
            return rows.order_by().values("pk")[: self.MOST].count()
        return len(rows)


class ValuesField(forms.JSONField):
    """A JSON field with the limits of a frame: its depth, no NUL, no half characters, no NaN."""

    def to_python(self, value: Any) -> Any:
        """Parse the value. Raises ``ValidationError``."""
        if isinstance(value, str) and value and not self._fits(value):
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": value})
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return the value that a refused form shows again."""
        return InvalidJSONInput(data) if data and not self._fits(data) else super().bound_data(data, initial)

    @staticmethod
    def _fits(text: str) -> bool:
        try:
            written = text.encode()
            return wrong_with(written, config().frame_depth) is None and not holds_nul(msgspec.json.decode(written))
        except ValueError:
            return False


class BusModelAdmin(GenericAdmin[Row]):
    """Base of all pages. A ``BusError`` of a service becomes a message, and nothing changes."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet would need a count
    list_per_page = 50
    formfield_overrides = {JSONField: {"form_class": ValuesField}}

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show the page of one row."""
        return self._guarded(request, lambda: super(BusModelAdmin, self).changeform_view(
            request, object_id, form_url, extra_context))  # fmt: skip

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Ask before a deletion, and delete."""
        return self._guarded(request, lambda: super(BusModelAdmin, self).delete_view(request, object_id, extra_context))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the list, or run an action on it."""
        return self._guarded(request, lambda: super(BusModelAdmin, self).changelist_view(request, extra_context))

    def _guarded(self, request: HttpRequest, view: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        try:
            return view()
        except BusError as problem:
            self.message_user(request, problem.message, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    # --- deleting through services ----------------------------------------------------------------------------------

    def remove(self, actor: Actor, row: Row) -> None:
        """Delete one row through its service. Raises ``BusError``."""
        raise NotImplementedError(f"{type(self).__name__} allows deletion and must define remove().")

    def delete_model(self, request: HttpRequest, obj: Row) -> None:
        """Delete a row from its page."""
        self.remove(actor_of(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Row]) -> None:
        """Delete all chosen rows, or none of them."""
        with transaction.atomic():
            for row in queryset:
                self.remove(actor_of(request), row)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """List the rows of a deletion, without collecting a million messages."""
        rows = list(objs)
        kept = [str(row) for row in rows if not self.has_delete_permission(request, row)]
        if not self.has_delete_permission(request):
            return [str(row) for row in rows], {}, {str(self.opts.verbose_name)}, []
        return [str(row) for row in rows], {str(self.opts.verbose_name_plural): len(rows)}, set(), kept


class ReadOnlyAdmin(BusModelAdmin[Row]):
    """Base of read-only pages."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Forbid additions."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        """Forbid changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        """Forbid deletions."""
        return False


# --- filters ------------------------------------------------------------------------------------------------------------


class UsualFilter(admin.SimpleListFilter):
    """A filter with a default choice other than "All". The default has no parameter in the URL."""

    usual = ""

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the default choice first, then the others."""
        chosen = self.value()
        yield {
            "selected": chosen is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": self.usual,
        }
        for value, title in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": chosen == str(value), "query_string": query, "display": title}


class InputFilter(admin.SimpleListFilter):
    """A filter with a text box, for values that are too many to list."""

    template = "admin/bus/input_filter.html"
    placeholder = ""

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> Iterable[tuple[str, str]]:
        """Return one entry, so that Django shows the filter."""
        return [("", "")]

    def choices(self, changelist: Any) -> Any:
        """Yield the other parameters of the list, which the form keeps."""
        name = self.parameter_name or ""
        kept = [
            (key, value)
            for key, values in changelist.get_filters_params().items()
            for value in (values if isinstance(values, list) else [values])
            if key != name
        ]
        if changelist.query:
            kept.append(("q", changelist.query))
        yield {
            "name": name,
            "value": self.value() or "",
            "placeholder": self.placeholder,
            "kept": kept,
            "clear": changelist.get_query_string(remove=[name]),
        }


class AddressFilter(InputFilter):
    """Filter the rows of a channel by its address, ``room:channel``."""

    title = "channel"
    parameter_name = "channel"
    placeholder = "room:channel"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the given channel."""
        if not self.value():
            return queryset
        address = parse_address(self.value() or "")
        if address is None:
            return queryset.none()
        return queryset.filter(channel__room__name=address.room, channel__name=address.channel)


# --- cells --------------------------------------------------------------------------------------------------------------


def page_link(row: Model | None, text: str | None = None) -> SafeString | str:
    """Return a link to the page of a row."""
    if row is None:
        return "–"
    opts = row._meta
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', address, text if text is not None else str(row))


def list_link(model: type[Model], text: Any, **query: Any) -> SafeString:
    """Return a link to the filtered list of a model."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return format_html('<a href="{}?{}">{}</a>', address, urlencode(query), text)


def figure(row: Model, name: str) -> int:
    """Return a number that the list's query added to the row."""
    value: int = getattr(row, name)
    return value


def pretty(value: Any) -> SafeString:
    """Return an indented JSON value as HTML."""
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


def no_store(response: HttpResponse) -> HttpResponse:
    """Forbid caches to store the response."""
    response.headers["Cache-Control"] = "no-store"
    return response
