"""Admin pages of clients: list them, disconnect them, write to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from ..directory import clients as client_directory
from ..models import Client, Membership, Message
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import parse_address
from ..publishing.django import private_message, publish_frames
from ..services import clients as client_service
from .base import DOOR, InputFilter, ReadOnlyAdmin, UsualFilter, actor_of, counted, figure, list_link, page_link, pretty


class ConnectedFilter(UsualFilter):
    """Filter clients by connection. Disconnected clients are kept for a while and soon outnumber the others."""

    title = "presence"
    parameter_name = "connected"
    usual = "connected"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the choices besides the default."""
        return [("0", "disconnected"), ("all", "all")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> QuerySet[Client]:
        """Return the chosen clients. A search covers all clients."""
        if self.value() == "all" or (self.value() is None and request.GET.get(SEARCH_VAR)):
            return queryset
        return queryset.filter(node__isnull=self.value() == "0")


class ChannelFilter(InputFilter):
    """Filter clients by channel."""

    title = "channel"
    parameter_name = "channel"
    placeholder = "science:explore"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> QuerySet[Client]:
        """Return the members of the given channel."""
        if not self.value():
            return queryset
        address = parse_address(self.value() or "")
        if address is None:
            return queryset.none()
        members = Membership.objects.filter(channel__room__name=address.room, channel__name=address.channel)
        return queryset.filter(pk__in=members.values("client"))


if TYPE_CHECKING:
    ClientInline = admin.TabularInline[Membership, Client]
else:
    ClientInline = admin.TabularInline


class MembershipInline(ClientInline):
    """The channels of a client, read-only."""

    model = Membership
    extra = 0
    can_delete = False
    fields = ["channel_link", "joined_at"]
    readonly_fields = ["channel_link", "joined_at"]
    verbose_name_plural = "memberships"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Load the channels and rooms for the links too."""
        return super().get_queryset(request).select_related("channel__room")

    @admin.display(description="channel")
    def channel_link(self, membership: Membership) -> Any:
        """Link to the channel."""
        return page_link(membership.channel)

    def has_add_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        """Forbid to add a membership."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        """Forbid to change a membership."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        """Allow it to each user who sees the client."""
        return True


class MessageForm(forms.Form):
    """Form for a private message to a client."""

    text = forms.CharField(max_length=10_000)


class ReasonForm(forms.Form):
    """Form for the reason of a disconnect."""

    reason = forms.CharField(max_length=200, required=False)


@admin.register(Client)
class ClientAdmin(ReadOnlyAdmin[Client]):
    """Connected clients, and disconnected ones that are still known."""

    list_display = [
        "client_id",
        "state",
        "client_type",
        "screen_name",
        "role",
        "places",
        "node_link",
        "connected_at",
        "last_activity",
    ]
    list_filter = [ConnectedFilter, ChannelFilter, "client_type", "role", "node"]
    list_select_related = ["node"]
    search_fields = ["client_id", "screen_name"]
    ordering = ["client_id"]
    inlines = [MembershipInline]
    actions = ["disconnect_selected", "forget_selected"]
    fieldsets = [
        (None, {"fields": ["client_id", "state", "client_type", "screen_name", "avatar", "role", "look_at"]}),
        ("Connection", {"fields": ["node_link", "connection_id", "connected_at", "last_activity", "disconnected_at"]}),
        ("Identity", {"fields": ["principal", "personality_text"]}),
    ]
    readonly_fields = ["state", "node_link", "personality_text", "look_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        """Return the clients with the number of their channels."""
        return super().get_queryset(request).annotate(places=Count("memberships"))

    @admin.display(description="state", ordering="node")
    def state(self, client: Client) -> Any:
        """Show whether the client is connected."""
        here = client.node_id is not None
        return format_html(
            '<span class="bus-{}">{}</span>', "here" if here else "gone", "connected" if here else "disconnected"
        )

    @admin.display(description="channels", ordering="places")
    def places(self, client: Client) -> int:
        """Show the number of the client's channels."""
        return figure(client, "places")

    @admin.display(description="process", ordering="node")
    def node_link(self, client: Client) -> Any:
        """Link to the process of the connection."""
        return page_link(client.node)

    @admin.display(description="personality")
    def personality_text(self, client: Client) -> Any:
        """Show the personality that the client sent."""
        return pretty(client.personality) if client.personality else "–"

    @admin.display(description="look at")
    def look_at(self, client: Client) -> Any:
        """Link to the messages of the client."""
        return list_link(Message, "messages of this client", sender=client.client_id)

    def may_act(self, request: HttpRequest) -> bool:
        """Return whether the user may disconnect clients and write to them."""
        return actor_of(request).manages and request.user.has_perm("bus.change_client")

    # --- disconnecting -----------------------------------------------------------------------------------------------

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Offer the actions only to users who may act."""
        return self.may_act(request)

    @admin.action(permissions=["act"], description="Disconnect the selected clients")
    def disconnect_selected(self, request: HttpRequest, queryset: QuerySet[Client]) -> None:
        """Disconnect the chosen clients."""
        gone = 0
        for client in queryset.filter(node__isnull=False):
            try:
                client_service.disconnect(actor_of(request), client.client_id, door=DOOR)
                gone += 1
            except BusError as problem:
                if problem.code != ErrorCode.CLIENT_NOT_FOUND:
                    raise
        self.message_user(request, f"{counted(gone, 'client')} disconnected.", messages.SUCCESS)

    @admin.action(permissions=["act"], description="Forget the selected disconnected clients and their inboxes")
    def forget_selected(self, request: HttpRequest, queryset: QuerySet[Client]) -> None:
        """Delete the chosen clients with their inboxes. Connected ones stay."""
        forgotten, refused = 0, ""
        for client in queryset:
            try:
                client_service.forget(actor_of(request), client.client_id, door=DOOR)
                forgotten += 1
            except BusError as problem:
                refused = problem.message
        self.message_user(request, f"{counted(forgotten, 'client')} forgotten.", messages.SUCCESS)
        if refused:
            self.message_user(request, refused, messages.WARNING)

    def get_urls(self) -> list[Any]:
        """Add the URLs of the two forms."""
        info = f"{self.opts.app_label}_{self.opts.model_name}"
        wrap = self.admin_site.admin_view
        return [
            path("<path:object_id>/disconnect/", wrap(require_POST(self.disconnect_view)), name=f"{info}_disconnect"),
            path("<path:object_id>/message/", wrap(require_POST(self.message_view)), name=f"{info}_message"),
            *super().get_urls(),
        ]

    def disconnect_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Disconnect one client, with a reason."""
        form = ReasonForm(request.POST)

        def act(client: Client) -> str:
            client_service.disconnect(
                actor_of(request), client.client_id, door=DOOR, reason=form.cleaned_data["reason"]
            )
            return f"{client.client_id} is disconnected."

        return self._act(request, object_id, form, act)

    def message_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Put a private message into the client's inbox."""
        form = MessageForm(request.POST)

        def act(client: Client) -> str:
            speaker, new = client_directory.speaker(actor_of(request))
            letter = private_message([client.client_id], message=form.cleaned_data["text"])
            publish_frames([letter], actor=speaker, new_sender=new)
            return f"Sent your message to {client.client_id}, as {speaker.client_id}."

        return self._act(request, object_id, form, act)

    def _act(self, request: HttpRequest, object_id: str, form: forms.Form, act: Any) -> HttpResponseBase:
        if not self.may_act(request):
            raise PermissionDenied
        client = get_object_or_404(Client, pk=object_id)
        try:
            if form.is_valid():
                self.message_user(request, act(client), messages.SUCCESS)
            else:
                self.message_user(
                    request, " ".join(str(text) for faults in form.errors.values() for text in faults), messages.ERROR
                )
        except BusError as problem:
            self.message_user(request, problem.message, messages.ERROR)
        return HttpResponseRedirect(reverse("admin:bus_client_change", args=[client.pk]))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the two forms, if the user may act."""
        client = kwargs.get("obj")
        context["may_act"] = self.may_act(request)
        context["is_here"] = client is not None and client.node_id is not None
        return super().render_change_form(request, context, *args, **kwargs)
