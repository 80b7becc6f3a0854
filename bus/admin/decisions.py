"""Admin pages of decisions: what people are asked, and where they decide."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from ..models import Decision, Message
from ..protocol.errors import BusError
from ..services import decision_lists
from ..services import decisions as service
from ..services.decision_values import object_written, words_of
from .base import DOOR, AddressFilter, ReadOnlyAdmin, UsualFilter, actor_of, counted, list_link, pretty


class StateFilter(UsualFilter):
    """Filter decisions by state. Those that wait come first."""

    title = "state"
    parameter_name = "state"
    usual = "pending"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the choices besides the default."""
        return [
            ("all", "all"),
            *((str(value), str(name)) for value, name in Decision.State.choices if value != "pending"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Decision]) -> QuerySet[Decision]:
        """Return the chosen decisions. The page of one decision has no filter."""
        if self.value() == "all":
            return queryset
        return queryset.filter(state=self.value() or Decision.State.PENDING)


@admin.register(Decision)
class DecisionAdmin(ReadOnlyAdmin[Decision]):
    """Decisions. Who may change them here and has the right ``decide`` in their channel decides on the page of one."""

    list_display = [
        "title",
        "channel",
        "action",
        "client_id",
        "state",
        "decider",
        "created_at",
        "expires_at",
        "ended_at",
    ]
    list_filter = [StateFilter, AddressFilter]
    list_select_related = ["channel__room"]
    search_fields = ["uid", "title", "action", "client_id", "decider"]
    actions = ["approve", "reject"]
    change_form_template = "admin/bus/decision/change_form.html"
    fieldsets = [
        (None, {"fields": ["title", "action", "args_text", "state", "comment", "decider"]}),
        (
            "Question",
            {"fields": ["channel", "message_link", "client_id", "key", "allow", "asked_args_text", "schema_text"]},
        ),
        ("Times", {"fields": ["created_at", "expires_at", "on_expiry", "ended_at", "consumed_at"]}),
    ]
    readonly_fields = ["args_text", "asked_args_text", "schema_text", "message_link"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Decision]:
        """Return the decisions that the user may see: of its channels, of those where it decides, and its own."""
        rows = super().get_queryset(request).select_related("channel__room")
        return decision_lists.visible(actor_of(request), rows)

    # --- deciding ---------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        """Add the URL of the form."""
        view = self.admin_site.admin_view(require_POST(self.decide_view))
        return [path("<int:pk>/decide/", view, name="bus_decision_decide"), *super().get_urls()]

    def decide_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """Decide as the form of the page says, and show the page again."""
        if not self.has_decide_permission(request):
            raise PermissionDenied
        row = get_object_or_404(self.get_queryset(request), pk=pk)
        answer = request.POST.get("answer", "")
        try:
            args = object_written(request.POST.get("args", ""), "args") if answer == "edit" else None
            comment = request.POST.get("comment", "").strip()
            made = service.decide(
                row.uid, answer, args=args, comment=comment, actor=actor_of(request), door=DOOR, same=True
            )
            self.message_user(request, f"“{row.title}” is {made.state}.", messages.SUCCESS)
        except BusError as problem:
            self.message_user(request, words_of(problem), messages.ERROR)
        return HttpResponseRedirect(reverse("admin:bus_decision_change", args=[pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show one decision, with a form for those who may decide it now."""
        row = self.get_object(request, object_id)
        may = row is not None and self.has_decide_permission(request) and self._may_decide(request, row)
        more = {"decides": row if may else None, "asked_args": row and _indented(row.args), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, more)

    @staticmethod
    def _may_decide(request: HttpRequest, row: Decision) -> bool:
        return service.decision(row.uid, actor=actor_of(request)).may_decide is True

    @admin.action(description="Approve the selected decisions", permissions=["decide"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Decision]) -> None:
        """Approve decisions as they are."""
        self._each(request, queryset, "approve")

    @admin.action(description="Reject the selected decisions", permissions=["decide"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Decision]) -> None:
        """Reject decisions."""
        self._each(request, queryset, "reject")

    def _each(self, request: HttpRequest, decisions: QuerySet[Decision], answer: str) -> None:
        """Decide each. Those that refuse it stay as they are."""
        done, refused = 0, ""
        for uid in decisions.order_by("id").values_list("uid", flat=True):
            try:
                service.decide(uid, answer, actor=actor_of(request), door=DOOR, same=True)
                done += 1
            except BusError as problem:
                refused = words_of(problem)
        word = "approved" if answer == "approve" else "rejected"
        self.message_user(
            request, f"{counted(done, 'decision')} {'is' if done == 1 else 'are'} {word}.", messages.SUCCESS
        )
        if refused:
            self.message_user(request, refused, messages.WARNING)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Allow to decide here to whoever may change decisions. The channel's right counts as well."""
        return bool(request.user.has_perm("bus.change_decision"))

    # --- cells ------------------------------------------------------------------------------------------------------

    @admin.display(description="args")
    def args_text(self, row: Decision) -> Any:
        """Show the args that count: those of the person after an edit."""
        return pretty(json.loads(row.answer_args or row.args))

    @admin.display(description="args as asked")
    def asked_args_text(self, row: Decision) -> Any:
        """Show the args that were asked for."""
        return pretty(json.loads(row.args))

    @admin.display(description="schema of edited args")
    def schema_text(self, row: Decision) -> Any:
        """Show the JSON schema."""
        return pretty(row.schema) if row.schema is not None else "–"

    @admin.display(description="messages")
    def message_link(self, row: Decision) -> Any:
        """Link to the messages of the channel."""
        return list_link(Message, "messages", room=row.channel.room.name, channel=row.channel.name)


def _indented(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
