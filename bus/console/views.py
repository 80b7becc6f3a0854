"""The console's page and its log-in."""

from __future__ import annotations

import math
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from ..conf.settings import anonymous_allowed, config, default_address, documentation, ready_made
from ..protocol.errors import CLOSE_CODES, ERRORS
from ..version import PROTOCOL, VERSION
from .forms import THROTTLED, LoginForm


def _link(name: str) -> str | None:
    try:
        return reverse(name)
    except NoReverseMatch:
        return None


def _python() -> str | None:
    """Return a command that starts a Python with the client on this machine, or None. The page shows it in examples."""
    interpreter = shlex.quote(sys.executable)
    if find_spec("arqonbus") is not None:
        return interpreter
    source = Path(settings.BASE_DIR) / "clients" / "python" / "src" if hasattr(settings, "BASE_DIR") else None
    if source is None or not source.is_dir() or find_spec("websockets") is None:
        return None
    return f"PYTHONPATH={shlex.quote(str(source))} {interpreter}"


def _csrf(request: HttpRequest) -> dict[str, str | None]:
    """Return the CSRF values of the page, for every CSRF setting of the project.

    ``token`` belongs to the user of this page. If scripts can read the ``cookie``, it is newer after a log-in in another tab.
    ``header`` is the header that REST reads.
    """
    hidden = settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_HTTPONLY
    return {
        "token": get_token(request),
        "header": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
        "cookie": None if hidden else settings.CSRF_COOKIE_NAME,
    }


def _config(request: HttpRequest) -> dict[str, Any]:
    """Return the settings that the page's script needs before it connects. Strangers may see all of them."""
    user = getattr(request, "user", None)  # A project may do without sessions.
    if user is not None and not user.is_authenticated:
        user = None
    initial = default_address()
    return {
        "version": VERSION,
        "protocol": PROTOCOL,
        "user": user.get_username() if user else None,
        "open": user is not None or anonymous_allowed(),
        "anonymous": anonymous_allowed(),
        "debug": bool(settings.DEBUG),
        "room": initial.room,
        "channel": initial.channel,
        "system_room": config().system_room,
        "bus_path": reverse("bus:console"),
        "telemetry_path": f"{reverse('bus:console')}telemetry/",
        "api_path": reverse("bus:api:rooms").removesuffix("rooms"),
        "login_path": reverse("bus:login"),
        "logout_path": reverse("bus:logout"),
        "admin_path": _link("admin:index"),
        "docs_path": reverse("bus:docs") if documentation() else None,
        "make_admin": "make admin" if ready_made() else "manage.py createsuperuser",
        "csrf": _csrf(request),
        "python": _python() if settings.DEBUG else None,
    }


def _bus_port(request: HttpRequest) -> int | None:
    """Return the bus's port if the request arrived on the telemetry port, else None."""
    scope: dict[str, Any] = getattr(request, "scope", {})
    return scope.get("arqonbus.bus_port") if scope.get("arqonbus.listener") == "telemetry" else None


@never_cache
@ensure_csrf_cookie
@require_safe
def console(request: HttpRequest) -> HttpResponse:
    """Show the page. It contains no data of the bus: its script fetches the data with the visitor's rights."""
    if (bus_port := _bus_port(request)) is not None:
        host = split_domain_port(request.get_host())[0]
        there = f"{request.scheme}://{host}:{bus_port}{reverse('bus:console')}"
        return render(request, "bus/telemetry_port.html", {"console": there, "host": request.get_host()})
    context = {
        "config": _config(request),
        "errors": [{"code": code, **kind._asdict()} for code, kind in ERRORS.items()],
        "close_codes": [{"code": code, **kind._asdict()} for code, kind in CLOSE_CODES.items()],
    }
    return render(request, "bus/console.html", context)


class Login(auth_views.LoginView):
    """Log in as a Django user, staff or not. The socket and REST then accept the session."""

    template_name = "bus/login.html"
    form_class = LoginForm
    redirect_authenticated_user = True
    next_page = "bus:console"

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Show the form again, with status 429 after too many tries."""
        answer = super().form_invalid(form)
        if form.has_error(NON_FIELD_ERRORS, THROTTLED):
            answer.status_code = 429
            answer.headers["Retry-After"] = str(math.ceil(getattr(form, "wait", 1.0)))
        return answer

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Show the page. Raises ``Http404`` in a project without sessions."""
        if not hasattr(request, "session") or not hasattr(request, "user"):
            raise Http404("This project has no sessions to log in to; open the console with an access token.")
        return super().dispatch(request, *args, **kwargs)


class Logout(auth_views.LogoutView):
    """Log out, and return to the console's log-in."""

    next_page = "bus:console"
