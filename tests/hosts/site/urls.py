"""The project's addresses: the bus below a prefix, the admin where there is one."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf.urls.i18n import i18n_patterns
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, URLResolver, include, path

from bus.live import position
from tests.hosts.site.settings import CHOICE


@transaction.non_atomic_requests
def live(request: HttpRequest) -> HttpResponse:
    """A page that shows the messages of a channel."""
    with position("lab:rest") as at:
        return render(request, "live.html", {"at": at})


urlpatterns: list[URLPattern | URLResolver] = [path("live-page/", live)]
if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    site: Any = admin.site
    if CHOICE.get("odds") == "eccentric":
        # An office of the project's own, in which some models stand.
        site = admin.AdminSite(name="office")
        for model, options in admin.site._registry.items():
            site.register(model, type(options))
    urlpatterns.append(path("office/", site.urls))

match CHOICE.get("prefix"):
    case "root":
        urlpatterns.append(path("", include("bus.urls")))
    case "languages":
        urlpatterns += i18n_patterns(path("bus/", include("bus.urls")))
    case _:
        urlpatterns.append(path("bus/", include("bus.urls")))


def stranger(request: HttpRequest, reason: str = "") -> HttpResponse:
    """What a form without a token is answered."""
    return HttpResponse("Who are you?", status=403)
