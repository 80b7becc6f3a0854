"""The decisions that a visitor of a page may make: ``{% include "bus/decisions.html" %}``, and where its forms go.

The forms work without a script. The script ``arqonbus/decisions.js`` sends them without a new page, and looks for new
decisions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from .. import shapes
from ..auth import identity
from ..auth.permissions import Actor
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import parse_address
from ..services import decision_lists
from ..services import decisions as service
from ..services.decision_values import object_written, words_of
from ..sockets.origin import request_address

#: Name of these pages in the audit log.
DOOR = "page"
#: The header with which the script asks for the part of the page instead of a new page.
PART = "X-ArqonBus-Part"
#: So many decisions stand on a page.
SHOWN = 50
#: Where the session keeps what the next page says.
_NOTE = "arqonbus.decisions.note"
#: Longest address of a part that is kept, in characters.
LONGEST_PLACE = 200
#: What a page says about each answer that counted.
SAID = {"approve": "Approved.", "edit": "Approved with your changes.", "reject": "Rejected.", "respond": "Answered."}


@dataclass(frozen=True, slots=True)
class Asked:
    """One decision as the template shows it."""

    decision: shapes.Decision
    #: The args as indented JSON; empty if there are none.
    args: str
    expires_at: datetime

    @property
    def id(self) -> str:
        """The name of the decision."""
        return self.decision.decision


def actor_of(request: HttpRequest) -> Actor:
    """Return the visitor. Raises ``BusError`` for wrong credentials."""
    return msgspec.structs.replace(identity.from_request(request), address=request_address(request))


def pending(actor: Actor, place: str = "") -> list[Asked]:
    """Return the decisions that ``actor`` may make now, in the channel or room ``place``, or everywhere.

    Raises ``BusError`` VALIDATION_ERROR for a ``place`` that is no address.
    """
    address = parse_address(place) if place else None
    if place and address is None:
        raise BusError(ErrorCode.VALIDATION_ERROR, f"{place!r} is no address such as `desk:approvals`.")
    wanted = decision_lists.Wanted(place=address, to_decide=True)
    found, _ = decision_lists.list_decisions(actor, wanted, limit=SHOWN)
    return [
        Asked(
            decision=each,
            args=json.dumps(each.args, indent=2, ensure_ascii=False) if each.args else "",
            expires_at=datetime.fromisoformat(each.expires_at),
        )
        for each in found
    ]


def context(request: HttpRequest, place: str = "", **more: Any) -> dict[str, Any]:
    """Return what the template of the part needs. A stranger sees nothing, not even the part."""
    try:
        actor = actor_of(request)
        asked = pending(actor, place) if actor.principal else []
    except BusError as problem:
        return {"known": False, "asked": [], "said": "", "problem": words_of(problem), **more}
    source = reverse("bus:pending-decisions")
    return {
        "known": bool(actor.principal),
        "asked": asked,
        "place": place,
        "source": f"{source}?{urlencode({'in': place})}" if place else source,
        "next": request.get_full_path(),
        "said": "",
        "problem": "",
        **more,
    }


def note_for(request: HttpRequest, place: str = "") -> dict[str, str]:
    """Take what the page says about the form that its visitor sent before, for the part of ``place``: once."""
    session = getattr(request, "session", None)
    note: dict[str, str] | None = session.get(_NOTE) if session is not None else None
    if session is None or note is None or note["in"] != place:
        return {}
    del session[_NOTE]
    return {"said": note["said"], "problem": note["problem"]}


def _keep_note(request: HttpRequest, *, said: str, problem: str) -> None:
    """Keep what the next page says. A visitor who may decide has a session."""
    if getattr(getattr(request, "user", None), "is_authenticated", False) and hasattr(request, "session"):
        place = request.POST.get("in", "")[:LONGEST_PLACE]
        request.session[_NOTE] = {"in": place, "said": said, "problem": problem}


@never_cache
@require_safe
def pending_decisions(request: HttpRequest) -> HttpResponse:
    """Answer the part of the page, as the script asks for it."""
    return render(request, "bus/decisions_list.html", context(request, request.GET.get("in", "")))


@never_cache
@require_POST
@csrf_protect
def decide(request: HttpRequest, decision: str) -> HttpResponse:
    """Decide with the form of the page. The script gets the part again, and other browsers the page that they came from."""
    said, problem = "", ""
    try:
        said = _decide(request, decision)
    except BusError as refused:
        problem = words_of(refused)
    if PART in request.headers:
        place = request.POST.get("in", "")
        status = 400 if problem else 200
        shown = context(request, place, said=said, problem=problem)
        return render(request, "bus/decisions_list.html", shown, status=status)
    _keep_note(request, said=said, problem=problem)
    return HttpResponseRedirect(_way_back(request))


def _decide(request: HttpRequest, decision: str) -> str:
    """Decide as the form says. Raises ``BusError``."""
    answer = request.POST.get("answer", "")
    args = object_written(request.POST.get("args", ""), "args") if answer == "edit" else None
    comment = request.POST.get("comment", "").strip()
    service.decide(decision, answer, args=args, comment=comment, actor=actor_of(request), door=DOOR, same=True)
    return SAID.get(answer, "")


def _way_back(request: HttpRequest) -> str:
    """Return the page that the form came from, and never one of another site."""
    there = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(there, {request.get_host()}, require_https=request.is_secure()):
        return there
    return "/"
