"""Django middleware of the bus's pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.utils.cache import patch_vary_headers

from .api import operations
from .api.errors import plain_answer
from .protocol.errors import BusError, ErrorCode
from .sockets.origin import host_allowed, origin_allowed

#: Escapes in the cookies of a request; no cookie of this site has one.
MOST_ESCAPES = 1000


class _Middleware:
    """A middleware of both worlds: :meth:`before` may answer instead of the page, :meth:`after` gets every answer."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer, or pass on."""
        if self._is_async:
            return self._acall(request)
        return self.after(request, self.before(request) or self.get_response(request))  # type: ignore[arg-type]

    async def _acall(self, request: HttpRequest) -> HttpResponse:
        return self.after(request, self.before(request) or await self.get_response(request))  # type: ignore[misc]

    def before(self, request: HttpRequest) -> HttpResponse | None:
        """The answer, or None to ask the page for it."""
        return None

    def after(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """The answer as it goes out."""
        return response


class CrossOriginMiddleware(_Middleware):
    """Lets pages of other origins use REST and event streams (CORS): those that may open a socket, and no others.

    The rule is the socket's own (``origin_allowed``): ARQONBUS_ALLOWED_ORIGINS, and in DEBUG pages of this machine. A
    page shows a token; cookies stay at home, since no answer allows credentials.
    """

    def before(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to the question that a browser asks before the request itself."""
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return HttpResponse(status=204, headers=_PREFLIGHT) if asked and _may_read(request) else None

    def after(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """With the page's origin on it, where that may read it."""
        if "Origin" in request.headers and _of_the_api(request):
            patch_vary_headers(response, ("Origin",))
            if _may_read(request):
                response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
                response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        return response


#: What a page may send, and for how long (in seconds) a browser remembers that.
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "600",
    "Cache-Control": "no-store",
}


def _may_read(request: HttpRequest) -> bool:
    origin = request.headers.get("Origin", "")
    return bool(origin) and _of_the_api(request) and origin_allowed(origin, request.META.get("HTTP_HOST", ""))


def _of_the_api(request: HttpRequest) -> bool:
    try:
        return resolve(request.path_info).namespaces == ["bus", "api"]
    except Resolver404:
        return False


class PlainRequestMiddleware(_Middleware):
    """Keeps NUL characters from the pages and the database behind them: PostgreSQL takes none, and raises.

    Nor does it read a cookie of thousands of escapes, for which Pythons before 3.11.10 and 3.12.6 take seconds (CVE-2024-7592).

    With one in its path or query a request for a page, the admin's among them, is refused with 400 (REST looks itself, and says
    where it stands); a session cookie that holds one is nobody's.
    """

    def before(self, request: HttpRequest) -> HttpResponse | None:
        """The refusal, if it is one."""
        path, query = request.path_info, request.META.get("QUERY_STRING", "")
        if ("\x00" in path or "%00" in query or "\x00" in query) and "/api/" not in path:
            return plain_answer(BusError(ErrorCode.VALIDATION_ERROR, "The address contains a NUL character."), request)
        if request.META.get("HTTP_COOKIE", "").count("\\") > MOST_ESCAPES:
            return plain_answer(
                BusError(ErrorCode.VALIDATION_ERROR, "The cookies of the request cannot be read."), request
            )
        if "\x00" in request.COOKIES.get(settings.SESSION_COOKIE_NAME, ""):
            del request.COOKIES[settings.SESSION_COOKIE_NAME]
        return None


class OperationsMiddleware(_Middleware):
    """Answers ``/health``, ``/ready``, ``/version`` and ``/metrics`` before the host name is looked at.

    Probes and scrapers come by the address of the process, which is not among ``ALLOWED_HOSTS``; these pages make nothing of it.
    """

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer, or pass on what is not of these pages."""
        page = operations.PAGES.get(request.path_info) if request.method in ("GET", "HEAD") else None
        if settings.DEBUG and not host_allowed(request.META.get("HTTP_HOST", "localhost")):
            # Nobody probes a developer's machine by its address, but a page may that passes for a page of it.
            page = None
        # Without a loop there is no node of this process to ask; the usual way makes one.
        return self.get_response(request) if page is None or not self._is_async else self._fresh(page(request))

    @staticmethod
    async def _fresh(answer: Awaitable[HttpResponse]) -> HttpResponse:
        response = await answer
        response.headers["Cache-Control"] = "no-store"
        return response
