"""The REST API in a browser: DRF's own pages for requests that accept ``text/html``, under the site's policy.

The pages need no exception from the Content-Security-Policy. Their forms use the session and its CSRF token, like all pages.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from django.utils.html import escape, linebreaks
from django.utils.safestring import SafeString, mark_safe
from rest_framework.renderers import BrowsableAPIRenderer

from ..protocol.errors import BusError
from .bodies import JSONRenderer

#: The most characters of an answer that a page shows. The search for links in them takes time.
MOST_SHOWN = 64 * 1024


class PageRenderer(BrowsableAPIRenderer):
    """Renders an answer as a page, with a form for each method that the address supports."""

    template = "bus/api_page.html"

    def get_content(self, renderer: Any, data: Any, media_type: Any, context: Any) -> str:
        """The JSON of the answer, with indents."""
        raw = JSONRenderer().render(data)
        text = msgspec.json.format(raw, indent=2).decode() if raw else ""
        if len(text) > MOST_SHOWN:
            return f"{text[:MOST_SHOWN]}\n… and more: ask for application/json, or for fewer with `limit`."
        return text

    def show_form_for_method(self, view: Any, method: str, request: Any, obj: Any) -> bool:
        """Whether the address supports the method, and the caller has access."""
        try:
            return bool(super().show_form_for_method(view, method, request, obj))
        except BusError:
            return False

    def get_name(self, view: Any) -> str:
        """The address, from the version on."""
        return str(view.request.path[view.request.path.rfind("/v1") :])

    def get_description(self, view: Any, status_code: Any) -> SafeString:
        """The description of the method in the OpenAPI document."""
        handler = getattr(view, str(view.request.method).lower(), None)
        text = escape(getattr(handler, "__doc__", None) or "")
        code = re.sub(r"`([^`]+)`", r"<code>\1</code>", re.sub(r"\n +", "\n", text))
        return mark_safe(linebreaks(mark_safe(code)))  # noqa: S308 - escaped above

    def get_context(self, data: Any, accepted_media_type: Any, renderer_context: Any) -> dict[str, Any]:
        """The values for the template."""
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        # The policy forbids an inline style, and lists would refuse a query with the choice of a format.
        return {**context, "code_style": "", "api_settings": {}}
