"""A page with live rows in three versions of scripts, and views that change the rows."""

from __future__ import annotations

import json
import random
import threading
import time

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt

from bus.live import position
from bus.services import publish

from .models import Row, row_on_the_bus

#: The scripts of a page, by the name in its query.
SCRIPTS = {
    "own": ["arqonbus/live.js"],
    "htmx2": ["npm/htmx2/htmx.min.js", "npm/sse2/sse.js", "arqonbus/live.js"],
    "htmx4": ["npm/htmx4/htmx.min.js", "npm/htmx4/ext/hx-sse.min.js"],
}


def page(request: HttpRequest) -> HttpResponse:
    """The rows, as the mirror's snapshot has them."""
    found = row_on_the_bus.snapshot()
    scripts = SCRIPTS[request.GET.get("by", "own")]
    return render(request, "live/rows.html", {"rows": found.state, "at": found.position, "scripts": scripts})


def rows(request: HttpRequest) -> JsonResponse:
    """The rows of the table now."""
    return JsonResponse({str(row.pk): row.text for row in Row.objects.all()})


def talk(request: HttpRequest) -> HttpResponse:
    """A page about the messages of any channel, with any template: those that the query names."""
    wanted = request.GET
    with position(wanted["channel"]) as at, translation.override(wanted.get("language", "en")):
        context = {**wanted.dict(), "at": at, "scripts": SCRIPTS[wanted.get("by", "own")]}
        return render(request, "live/talk.html", context)


#: Ends the changes.
STOP = threading.Event()


@csrf_exempt
def churn(request: HttpRequest) -> HttpResponse:
    """Begin to change rows, ``rate`` times a second for some ``seconds``; or write rows with the ``texts`` of the body."""
    wanted = json.loads(request.body)
    for text in wanted.get("texts", ()):
        Row.objects.create(text=text)
    for channel, payload in wanted.get("publish", ()):
        publish(channel, payload)
    if wanted.get("stop"):
        STOP.set()
    if wanted.get("rate"):
        STOP.clear()
        threading.Thread(target=_change, args=(wanted["rate"], wanted["seconds"]), daemon=True).start()
    return HttpResponse()


def _change(rate: float, seconds: float) -> None:
    """Create, change and delete rows; about 40 are there at a time."""
    try:
        begun = time.monotonic()
        for number in range(int(rate * seconds)):
            if STOP.wait(max(0.0, begun + number / rate - time.monotonic())):
                break
            known = list(Row.objects.values_list("pk", flat=True))
            chance = random.random()
            # A row and its message are committed together.
            with transaction.atomic():
                if len(known) < 20 or (chance < 0.3 and len(known) < 60):
                    Row.objects.create(text=f"made {number}")
                elif chance < 0.55:
                    Row.objects.get(pk=random.choice(known)).delete()
                else:
                    row = Row.objects.get(pk=random.choice(known))
                    row.text = f"changed {number}"
                    row.save()
        Row.objects.create(text="the end")
    finally:
        connection.close()
