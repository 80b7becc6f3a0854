"""The page, the question and the stop button. The views write to the bus and return at once. The worker answers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST

from bus.services import publish, stop_stream

#: The channel of the chat. A chat for each user is a channel for each user.
CHANNEL = "chat:main"


@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    """Show the chat. Its messages come over the bus."""
    return render(request, "chat/page.html", {"channel": CHANNEL})


@require_POST
def ask(request: HttpRequest) -> HttpResponse:
    """Publish a question. All pages get it, and so does the worker."""
    if text := request.POST.get("text", "").strip():
        publish(CHANNEL, {"role": "user"}, message=text)
    return done(request)


@require_POST
def stop(request: HttpRequest) -> HttpResponse:
    """Ask the worker to stop an answer. Nothing else stops one, least of all a closed page."""
    stop_stream(request.POST["of"])
    return done(request)


def done(request: HttpRequest) -> HttpResponse:
    """Answer htmx with nothing, and a browser without it with the page."""
    return HttpResponse(status=204) if request.headers.get("HX-Request") else redirect("page")
