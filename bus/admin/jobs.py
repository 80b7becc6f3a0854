"""Admin pages of the jobs of work channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from ..auth.permissions import Actor
from ..models import Job, Message
from ..protocol.errors import BusError
from ..protocol.names import Address
from ..services import work
from .base import DOOR, AddressFilter, ReadOnlyAdmin, actor_of, counted, list_link, pretty, readable_channels


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin[Job]):
    """Jobs with their state and failures. Actions retry and discard them."""

    list_display = [
        "channel",
        "seq",
        "state",
        "attempt",
        "client_id",
        "due_at",
        "claimed_at",
        "ended_at",
        "message_link",
    ]
    list_filter = [AddressFilter, "state"]
    list_select_related = ["channel__room"]
    search_fields = ["uid"]
    fields = [
        "channel", "seq", "message_link", "state", "due_at", "attempt", "client_id", "principal", "claimed_at", "lease_until",
        "hold_until", "gone_at", "ended_at", "last_reason", "errors_text", "result",
    ]  # fmt: skip
    readonly_fields = ["message_link", "errors_text"]
    actions = ["retry", "discard"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Return the jobs of the channels whose messages the user may read."""
        readable = readable_channels(actor_of(request))
        rows = super().get_queryset(request)
        return rows if readable is None else rows.filter(channel__in=readable)

    @admin.display(description="message")
    def message_link(self, job: Job) -> Any:
        """Link to the messages of the job's channel."""
        return list_link(Message, "messages", room=job.channel.room.name, channel=job.channel.name)

    @admin.display(description="failures")
    def errors_text(self, job: Job) -> Any:
        """Show the failures of the job."""
        return pretty(job.errors)

    @admin.action(description="Retry the selected jobs", permissions=["manage"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Make dead and discarded jobs ready again."""
        self._each(request, queryset, work.retry, "ready again")

    @admin.action(description="Discard the selected jobs", permissions=["manage"])
    def discard(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """End jobs that are not done."""
        self._each(request, queryset, work.discard, "discarded")

    def _each(self, request: HttpRequest, jobs: QuerySet[Job], act: Callable[..., object], what: str) -> None:
        """Call ``act`` for each job. Those that refuse it stay as they are."""
        actor: Actor = actor_of(request)
        done, refused = 0, ""
        for job in jobs.select_related("channel__room").order_by("id"):
            try:
                act(actor, Address(job.channel.room.name, job.channel.name), job.seq, door=DOOR)
                done += 1
            except BusError as problem:
                refused = problem.message
        self.message_user(request, f"{counted(done, 'job')} {'is' if done == 1 else 'are'} {what}.", messages.SUCCESS)
        if refused:
            self.message_user(request, refused, messages.WARNING)

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """Allow the actions to whoever may change jobs."""
        return bool(request.user.has_perm("bus.change_job"))
