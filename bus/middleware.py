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

#: Most escapes in the cookies of a request. No cookie of this site has one.
MOST_ESCAPES = 1000


class _Middleware:
    """A middleware for synchronous and asynchronous views. :meth:`before` may answer instead of the view."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer the request, or pass it on to the view."""
        if self._is_async:
            return self._acall(request)
        return self.after(request, self.before(request) or self.get_response(request))  # type: ignore[arg-type]

    async def _acall(self, request: HttpRequest) -> HttpResponse:
        return self.after(request, self.before(request) or await self.get_response(request))  # type: ignore[misc]

    def before(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to the request, or None to pass it on to the view."""
        return None

    def after(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """The final form of ``response``, which comes from the view or from :meth:`before`."""
        return response


class CrossOriginMiddleware(_Middleware):
    """Allows pages of other origins to use REST, event streams and MCP (CORS), if they may open a socket.

    The rule is that of sockets (``origin_allowed``): ARQONBUS_ALLOWED_ORIGINS, and in DEBUG the pages of this machine. Such a
    page sends a token. It cannot use cookies, since no answer allows credentials.
    """

    def before(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to a browser's preflight request from an allowed origin, else None."""
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return HttpResponse(status=204, headers=_PREFLIGHT) if asked and _may_read(request) else None

    def after(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Add the CORS headers for a page that may read the answer."""
        if "Origin" in request.headers and _of_the_api(request):
            patch_vary_headers(response, ("Origin",))
            if _may_read(request):
                response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
                response.headers["Access-Control-Expose-Headers"] = "Retry-After, WWW-Authenticate"
        return response


#: The methods and headers that a page may send. A browser remembers them for 600 seconds.
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID, MCP-Protocol-Version, Mcp-Method, Mcp-Name, "
    "Arqonbus-Client-Id",
    "Access-Control-Max-Age": "600",
    "Cache-Control": "no-store",
}


def _may_read(request: HttpRequest) -> bool:
    origin = request.headers.get("Origin", "")
    return bool(origin) and _of_the_api(request) and origin_allowed(origin, request.META.get("HTTP_HOST", ""))


def _of_the_api(request: HttpRequest) -> bool:
    try:
        found = resolve(request.path_info)
    except Resolver404:
        return False
    return found.namespaces == ["bus", "api"] or found.view_name == "bus:mcp"


class PlainRequestMiddleware(_Middleware):
    """Refuses NUL characters, for which PostgreSQL raises an error, and cookies with too many escapes.

    A request with NUL in its path or query gets status 400. REST checks its requests itself, and its error names the place. A
    session cookie with NUL is ignored. A request with more than :data:`MOST_ESCAPES` escapes in its cookies gets status 400 too:
    Python before 3.11.10 and 3.12.6 takes seconds to read thousands of them (CVE-2024-7592).
    """

    def before(self, request: HttpRequest) -> HttpResponse | None:
        """The refusal of the request, or None."""
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
    """Answers ``/health``, ``/ready``, ``/version`` and ``/metrics`` before Django checks the host name.

    Probes and scrapers use the address of the process, which is not in ``ALLOWED_HOSTS``. These pages do not use the host name.
    """

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer a request for one of these pages, and pass on any other."""
        page = operations.PAGES.get(request.path_info) if request.method in ("GET", "HEAD") else None
        if settings.DEBUG and not host_allowed(request.META.get("HTTP_HOST", "localhost")):
            # No probe needs this on a developer's machine, but a foreign page could use it to read these pages (DNS rebinding).
            page = None
        # A synchronous server has no event loop, and so no node to ask. The usual view starts one.
        return self.get_response(request) if page is None or not self._is_async else self._fresh(page(request))

    @staticmethod
    async def _fresh(answer: Awaitable[HttpResponse]) -> HttpResponse:
        response = await answer
        response.headers["Cache-Control"] = "no-store"
        return response
