"""Log-in forms with a limit per address: one for the console, one for the admin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from ..sockets.origin import request_address

if TYPE_CHECKING:
    from ..auth.attempts import Attempts

#: The code of the form error after too many tries.
THROTTLED = "throttled"


class LoginForm(AuthenticationForm):
    """A form that checks the number of tries of an address before the password, since the password check is expensive."""

    def clean(self) -> dict[str, Any]:
        """Return the checked fields. Raises ``ValidationError``."""
        attempts: Attempts = apps.get_app_config("bus").attempts  # type: ignore[attr-defined]
        self.wait = attempts.login(request_address(self.request)) if self.request is not None else 0.0
        if self.wait:
            seconds = math.ceil(self.wait)
            raise ValidationError(
                f"Too many log-ins from your address. Try again in {seconds} second{'s' if seconds > 1 else ''}.",
                code=THROTTLED,
            )
        return super().clean()


class AdminLoginForm(LoginForm, AdminAuthenticationForm):
    """The log-in form with the same limit for Django's admin: ``admin.site.login_form = AdminLoginForm``."""
