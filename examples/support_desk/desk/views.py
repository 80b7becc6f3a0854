"""The page of the desk, and the form of its customers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from bus.services import publish
from desk.models import Ticket
from desk.places import QUESTIONS


def page(request: HttpRequest) -> HttpResponse:
    """Show the tickets, and to who may decide what agents ask (in the template)."""
    return render(request, "desk/page.html", {"tickets": Ticket.objects.all()[:50]})


@require_POST
def write(request: HttpRequest) -> HttpResponse:
    """Take the question of a customer: one job for the agents."""
    customer, question = request.POST.get("customer", "").strip()[:100], request.POST.get("question", "").strip()[:2000]
    if customer and question:
        publish(QUESTIONS, {"customer": customer, "question": question})
    return redirect("page")
