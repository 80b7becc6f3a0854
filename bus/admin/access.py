"""Access tokens and grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html

from ..auth.permissions import ACTIONS, Actor
from ..models import AccessToken, Grant
from ..services import grants as grant_service
from ..services import tokens as token_service
from .base import DOOR, BusModelAdmin, actor_of, counted, no_store


class TokenStateFilter(admin.SimpleListFilter):
    """Tokens that are good, or not any more."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The states."""
        return [("good", "good"), ("expired", "expired"), ("revoked", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AccessToken]) -> QuerySet[AccessToken]:
        """Those in the state that was chosen."""
        now = timezone.now()
        match self.value():
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
            case "expired":
                return queryset.filter(revoked_at__isnull=True, expires_at__lte=now)
            case "good":
                return queryset.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)
        return queryset


if TYPE_CHECKING:
    TokenForm = forms.ModelForm[AccessToken]
    RuleForm = forms.ModelForm[Grant]
else:
    TokenForm = RuleForm = forms.ModelForm


class NewTokenForm(TokenForm):
    """A token to be made."""

    scopes = forms.MultipleChoiceField(
        choices=[(action, action) for action in ACTIONS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What it is good for; none chosen: all that its bearer may do.",
    )

    class Meta:
        model = AccessToken
        fields = ["name", "user", "admin", "scopes", "expires_at"]

    def clean_expires_at(self) -> Any:
        """A time to come."""
        moment = self.cleaned_data["expires_at"]
        if moment is not None and moment <= timezone.now():
            raise forms.ValidationError("It lies in the past.")
        return moment


@admin.register(AccessToken)
class AccessTokenAdmin(BusModelAdmin[AccessToken]):
    """Access tokens. The secret is shown once, on the page that answers the making; only its digest is kept."""

    list_display = [
        "name",
        "shown_prefix",
        "state",
        "user",
        "admin",
        "scope_text",
        "created_at",
        "expires_at",
        "last_used_at",
    ]
    list_filter = [TokenStateFilter, "admin"]
    list_select_related = ["user"]
    search_fields = ["name", "prefix"]
    # For user models that the admin cannot search; see `get_autocomplete_fields`.
    raw_id_fields = ["user"]
    actions = ["revoke_selected"]
    readonly_fields = [
        "name",
        "shown_prefix",
        "state",
        "user",
        "admin",
        "scope_text",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    ]

    @admin.display(description="secret", ordering="prefix")
    def shown_prefix(self, token: AccessToken) -> str:
        """How the secret begins."""
        return f"{token.prefix}…"

    @admin.display(description="state")
    def state(self, token: AccessToken) -> Any:
        """Whether it opens anything."""
        if token.revoked_at is not None:
            name = "revoked"
        elif token.expires_at is not None and token.expires_at <= timezone.now():
            name = "expired"
        else:
            name = "good"
        return format_html('<span class="bus-{}">{}</span>', "here" if name == "good" else "gone", name)

    @admin.display(description="scopes")
    def scope_text(self, token: AccessToken) -> str:
        """What it is good for."""
        return ", ".join(token.scopes) or "all"

    def get_form(
        self, request: HttpRequest, obj: AccessToken | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """A new token has a form of its own."""
        if obj is None:
            kwargs["form"] = NewTokenForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_autocomplete_fields(self, request: HttpRequest) -> list[str]:
        """Users are searched for where the project's admin can do that. As an attribute, Django would insist on it."""
        users = self.admin_site._registry.get(get_user_model())
        return ["user"] if users is not None and users.get_search_fields(request) else []

    def get_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> Any:
        """What there is to say of a new token, or of one that is there."""
        return NewTokenForm.Meta.fields if obj is None else self.readonly_fields

    def get_readonly_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> Any:
        """A token is made and revoked, and not changed."""
        return [] if obj is None else self.readonly_fields

    def has_change_permission(self, request: HttpRequest, obj: AccessToken | None = None) -> bool:
        """Nobody changes one that is there; the right to do so is the right to revoke."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AccessToken | None = None) -> bool:
        """They stay, revoked, so that it is known what there was."""
        return False

    def get_actions(self, request: HttpRequest) -> Any:
        """Revoking is for those who may."""
        return super().get_actions(request) if request.user.has_perm("bus.change_accesstoken") else {}

    def save_model(self, request: HttpRequest, obj: AccessToken, form: Any, change: bool) -> None:
        """By the service; the secret waits for the answer in the request alone."""
        values = form.cleaned_data
        made, secret = token_service.create(
            actor_of(request),
            values["name"],
            user=values["user"],
            admin=values["admin"],
            scopes=values["scopes"],
            expires_at=values["expires_at"],
            door=DOOR,
        )
        obj.pk, obj.prefix = made.pk, made.prefix
        request._arqonbus_secret = secret  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: AccessToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page with the secret: not a redirect, so that it is kept neither in a cookie nor in a session."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Your new access token",
            "opts": self.opts,
            "token": obj,
            "secret": request._arqonbus_secret,  # type: ignore[attr-defined]
        }
        return no_store(TemplateResponse(request, "admin/bus/accesstoken/made.html", context))

    @admin.action(description="Revoke the selected tokens")
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[AccessToken]) -> None:
        """End the chosen tokens at once, with the connections that came in with them."""
        with transaction.atomic():
            tokens = list(queryset.filter(revoked_at__isnull=True))
            for token in tokens:
                token_service.revoke(actor_of(request), token, door=DOOR)
        self.message_user(request, f"{counted(len(tokens), 'token')} revoked.", messages.SUCCESS)


class GrantForm(RuleForm):
    """A rule, checked by what the services check."""

    class Meta:
        model = Grant
        fields = list(grant_service.FIELDS)
        help_texts = {
            "subject_name": (
                "Name of the user (jwt: and the subject for one of a JWT), group, client type, or token (user/name for a "
                "user's own). A client type is what a client says of itself: good for bans, no protection."
            )
        }

    def clean(self) -> dict[str, Any]:
        """Every fault at its field."""
        values = super().clean() or self.cleaned_data
        if not self.errors:
            for field, message in grant_service.faults_of(values):
                self.add_error(field, message)
        return values


@admin.register(Grant)
class GrantAdmin(BusModelAdmin[Grant]):
    """Who may do what where. A change holds at once, on every process, also for those who are connected."""

    form = GrantForm
    list_display = ["__str__", "subject", "subject_name", "action", "pattern", "allow", "created_by", "created_at"]
    list_filter = ["allow", "action", "subject"]
    search_fields = ["subject_name", "pattern"]
    fieldsets = [
        (
            None,
            {
                "fields": [("subject", "subject_name"), "action", "pattern", "allow"],
                "description": (
                    "A rule says who may do what where. Without a rule everybody may join, publish, read and see in public "
                    "rooms, and nobody in private ones. A ban (allow off) wins over every rule that allows. "
                    "Patterns: science:explore is one channel; science:* (or just science) all of a room; *:news the "
                    "channel news of every room; team-*:* the rooms whose name begins so; users:{me} each one's own channel, "
                    "such as users:user-7 for the user with the id 7; * everything."
                ),
            },
        )
    ]

    def save_model(self, request: HttpRequest, obj: Grant, form: Any, change: bool) -> None:
        """By the service."""
        values = {field: form.cleaned_data[field] for field in grant_service.FIELDS}
        if change:
            grant_service.update(actor_of(request), Grant.objects.get(pk=obj.pk), values, door=DOOR)
        else:
            obj.pk = grant_service.create(actor_of(request), values, door=DOOR).pk
        if nobody := grant_service.nobody_yet(obj):
            self.message_user(request, nobody, messages.WARNING)

    def remove(self, actor: Actor, row: Grant) -> None:
        """By the service."""
        grant_service.delete(actor, row, door=DOOR)
