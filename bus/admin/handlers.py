"""Admin pages of the project's handlers: how far each one is in each channel."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from ..models import HandlerPosition
from ..protocol.errors import BusError
from ..services import handlers
from .base import DOOR, ReadOnlyAdmin, actor_of, counted, readable_channels


@admin.register(HandlerPosition)
class HandlerPositionAdmin(ReadOnlyAdmin[HandlerPosition]):
    """The positions of handlers. Actions let them try again, or go on behind a message."""

    list_display = ["handler", "channel", "seq", "behind", "state", "attempt", "retry_at", "error", "moved_at"]
    list_filter = ["state", "handler"]
    list_select_related = ["handler", "channel__room"]
    search_fields = ["handler__name"]
    fields = [
        "handler", "channel", "seq", "behind", "epoch", "state", "attempt", "retry_at", "error", "handled", "failed", "lost",
        "holder", "lease_until", "moved_at",
    ]  # fmt: skip
    readonly_fields = ["behind"]
    actions = ["retry", "skip"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[HandlerPosition]:
        """Return the positions in the channels whose messages the user may read."""
        readable = readable_channels(actor_of(request))
        rows = super().get_queryset(request)
        return rows if readable is None else rows.filter(channel__in=readable)

    @admin.display(description="behind")
    def behind(self, position: HandlerPosition) -> int:
        """Show how many messages the handler has not handled."""
        return max(position.channel.head - position.seq, 0)

    @admin.action(description="Let the selected handlers try again", permissions=["manage"])
    def retry(self, request: HttpRequest, queryset: QuerySet[HandlerPosition]) -> None:
        """Try the next message again at once, with all attempts."""
        self._each(request, queryset, handlers.retry)

    @admin.action(description="Let the selected handlers skip their next message", permissions=["manage"])
    def skip(self, request: HttpRequest, queryset: QuerySet[HandlerPosition]) -> None:
        """Go on behind the next message, which is never handled."""
        self._each(request, queryset, handlers.skip)

    def _each(self, request: HttpRequest, positions: QuerySet[HandlerPosition], act: Callable[..., None]) -> None:
        """Call ``act`` for each position. Those that refuse it stay as they are."""
        done, refused = 0, ""
        for position in positions.select_related("handler", "channel__room").order_by("id"):
            try:
                act(actor_of(request), position.handler.name, position.channel.address, door=DOOR)
                done += 1
            except BusError as problem:
                refused = problem.message
        went = "goes on" if done == 1 else "go on"
        self.message_user(request, f"{counted(done, 'handler')} {went}.", messages.SUCCESS)
        if refused:
            self.message_user(request, refused, messages.WARNING)

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """Allow the actions to whoever may change positions of handlers."""
        return bool(request.user.has_perm("bus.change_handlerposition"))
