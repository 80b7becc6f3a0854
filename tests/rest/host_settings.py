"""The ready project as a host of middleware that many projects have: a synchronous one of their own, and GZipMiddleware first."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_only_middleware

from arqonbus_site.settings import *  # noqa: F403
from arqonbus_site.settings import MIDDLEWARE as _MIDDLEWARE


@sync_only_middleware
def synchronous(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """What a project of the time before async has: the views behind it run in a thread, or are waited for in one."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers["X-Synchronous"] = "1"
        return response

    return middleware


MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "tests.rest.host_settings.synchronous",
    *_MIDDLEWARE,
]
