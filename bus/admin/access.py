"""Admin pages of access tokens and grants."""

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
    """Filter tokens by their state."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the states."""
        return [("good", "valid"), ("expired", "expired"), ("revoked", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AccessToken]) -> QuerySet[AccessToken]:
        """Return the tokens in the chosen state."""
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
    """Form for a new token."""

    scopes = forms.MultipleChoiceField(
        choices=[(action, action) for action in ACTIONS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Actions that the token allows. If you choose none, it allows all actions of its user.",
    )

    class Meta:
        model = AccessToken
        fields = ["name", "user", "admin", "scopes", "expires_at"]

    def clean_expires_at(self) -> Any:
        """Check that the time is in the future."""
        moment = self.cleaned_data["expires_at"]
        if moment is not None and moment <= timezone.now():
            raise forms.ValidationError("This time is in the past.")
        return moment


@admin.register(AccessToken)
class AccessTokenAdmin(BusModelAdmin[AccessToken]):
    """Access tokens. The page after saving shows the secret once; the database stores only its digest."""

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
    # Used if the admin cannot search the user model; see `get_autocomplete_fields`.
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
        """Show the beginning of the secret."""
        return f"{token.prefix}…"

    @admin.display(description="state")
    def state(self, token: AccessToken) -> Any:
        """Show whether the token is valid."""
        if token.revoked_at is not None:
            name = "revoked"
        elif token.expires_at is not None and token.expires_at <= timezone.now():
            name = "expired"
        else:
            name = "valid"
        return format_html('<span class="bus-{}">{}</span>', "here" if name == "valid" else "gone", name)

    @admin.display(description="scopes")
    def scope_text(self, token: AccessToken) -> str:
        """Show the actions that the token allows."""
        return ", ".join(token.scopes) or "all"

    def get_form(
        self, request: HttpRequest, obj: AccessToken | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Use a separate form for a new token."""
        if obj is None:
            kwargs["form"] = NewTokenForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_autocomplete_fields(self, request: HttpRequest) -> list[str]:
        """Search for users if the project's admin supports it. As an attribute, Django would require it."""
        users = self.admin_site._registry.get(get_user_model())
        return ["user"] if users is not None and users.get_search_fields(request) else []

    def get_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> Any:
        """Return the fields of a new or an existing token."""
        return NewTokenForm.Meta.fields if obj is None else self.readonly_fields

    def get_readonly_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> Any:
        """Make an existing token read-only."""
        return [] if obj is None else self.readonly_fields

    def has_change_permission(self, request: HttpRequest, obj: AccessToken | None = None) -> bool:
        """Forbid changes. Django's right to change a token is the right to revoke it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AccessToken | None = None) -> bool:
        """Forbid deletion, so that revoked tokens stay visible."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Offer to revoke only to users with the permission."""
        return request.user.has_perm("bus.change_accesstoken")

    def save_model(self, request: HttpRequest, obj: AccessToken, form: Any, change: bool) -> None:
        """Create the token through the service. Only the request holds the secret."""
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
        """Show the secret. This is no redirect, since a redirect would store the secret in a cookie or session."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Your new access token",
            "opts": self.opts,
            "token": obj,
            "secret": request._arqonbus_secret,  # type: ignore[attr-defined]
        }
        return no_store(TemplateResponse(request, "admin/bus/accesstoken/made.html", context))

    @admin.action(permissions=["revoke"], description="Revoke the selected tokens")
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[AccessToken]) -> None:
        """Revoke the chosen tokens at once, and close the connections that use them."""
        with transaction.atomic():
            tokens = list(queryset.filter(revoked_at__isnull=True))
            for token in tokens:
                token_service.revoke(actor_of(request), token, door=DOOR)
        self.message_user(request, f"{counted(len(tokens), 'token')} revoked.", messages.SUCCESS)


class GrantForm(RuleForm):
    """Form for a grant, with the checks of the service."""

    class Meta:
        model = Grant
        fields = list(grant_service.FIELDS)
        help_texts = {
            "subject_name": (
                "Name of the user, group, client type or token. For the user of a JWT, write jwt: and the subject. For the token "
                "of a user, write user/name. Clients choose their client type themselves, so it does not protect anything."
            )
        }

    def clean(self) -> dict[str, Any]:
        """Report every fault at its field."""
        values = super().clean() or self.cleaned_data
        if not self.errors:
            for field, message in grant_service.faults_of(values):
                self.add_error(field, message)
        return values


@admin.register(Grant)
class GrantAdmin(BusModelAdmin[Grant]):
    """Grants, the rules of access. A change applies at once in every process, also to connected clients."""

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
                    "A grant allows or bans an action of a subject in some channels. Without grants, every client may join, "
                    "publish, read and see members in public rooms, and no client may do so in private rooms. A ban (allow "
                    "off) overrides every grant that allows. Patterns: science:explore is one channel; science:* (or just "
                    "science) is a whole room; *:news is the channel news of every room; team-*:* are all rooms that begin "
                    "with team-; users:{me} is each client's own channel, such as users:user-7 for the user 7; * is everything."
                ),
            },
        )
    ]

    def save_model(self, request: HttpRequest, obj: Grant, form: Any, change: bool) -> None:
        """Save the grant through the service."""
        values = {field: form.cleaned_data[field] for field in grant_service.FIELDS}
        if change:
            grant_service.update(actor_of(request), Grant.objects.get(pk=obj.pk), values, door=DOOR)
        else:
            obj.pk = grant_service.create(actor_of(request), values, door=DOOR).pk
        if nobody := grant_service.nobody_yet(obj):
            self.message_user(request, nobody, messages.WARNING)

    def remove(self, actor: Actor, row: Grant) -> None:
        """Delete the grant through the service."""
        grant_service.delete(actor, row, door=DOOR)
