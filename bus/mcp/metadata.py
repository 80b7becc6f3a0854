"""OAuth 2.0 Protected Resource Metadata (RFC 9728): who issues the tokens that `POST /mcp` takes.

There is such a document where the bus takes JWTs of one issuer (ARQONBUS_JWT_ISSUER). The bus itself issues no OAuth tokens. Its
access tokens are made by `manage.py create_token`, and need no document.
"""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from ..api.errors import plain_answer
from ..auth import jwts
from ..auth.permissions import ACTIONS
from ..conf.settings import config
from ..db.faults import without_transaction
from ..protocol.errors import BusError, ErrorCode


def _issuer() -> str:
    """The address of the issuer of JWTs; empty without one."""
    issuer = config().jwt_issuer
    return issuer if jwts.enabled() and issuer.startswith(("https://", "http://")) else ""


def document(request: HttpRequest) -> dict[str, Any] | None:
    """The document for the host that the request came to. None without an issuer of tokens."""
    issuer = _issuer()
    if not issuer:
        return None
    about: dict[str, Any] = {
        "resource": request.build_absolute_uri(reverse("bus:mcp")),
        "resource_name": "ArqonBus",
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "resource_documentation": request.build_absolute_uri(reverse("bus:docs-page", args=["mcp"])),
    }
    if config().jwt_scope_claim:
        about["scopes_supported"] = sorted(ACTIONS)
    return about


def challenge(request: HttpRequest) -> dict[str, str]:
    """The header of an answer with status 401. It names the document, if there is one."""
    value = 'Bearer realm="arqonbus"'
    if _issuer():
        value += f', resource_metadata="{request.build_absolute_uri(reverse("bus:mcp-metadata"))}"'
    return {"WWW-Authenticate": value}


@without_transaction
def page(request: HttpRequest) -> HttpResponse:
    """The view of the document. Everybody may read it, and pages of any origin too."""
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        error = BusError(ErrorCode.METHOD_NOT_ALLOWED, f'Method "{request.method}" is not allowed.')
        return plain_answer(error, request, Allow="GET, HEAD, OPTIONS")
    about = document(request)
    if about is None:
        text = "This server takes access tokens of its own, and no issuer of tokens is configured."
        return plain_answer(BusError(ErrorCode.NOT_FOUND, text), request)
    headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "max-age=300"}
    return HttpResponse(msgspec.json.encode(about), content_type="application/json", headers=headers)


page.csrf_exempt = True  # type: ignore[attr-defined] # it changes nothing
