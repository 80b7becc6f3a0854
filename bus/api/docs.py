"""The OpenAPI document, and the page that shows it without files from other hosts."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from django.http import HttpResponse
from django.templatetags.static import static
from django.urls import reverse_lazy
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView, SpectacularYAMLAPIView

from .openapi import OPENAPI

# A project's settings of drf-spectacular are for the project's own document. Ours replace them in a global while the document
# is made, so only one is made at a time.
_one_at_a_time = threading.Lock()


# The document is made once, because that takes a twentieth of a second and anybody may request it. So it must not depend on
# the request; drf-spectacular's own view would include the requested `version`.
@cache
def rendered(renderer: Any) -> bytes:
    """The document as bytes. ``renderer`` is one of the view's renderer classes."""
    with _one_at_a_time, patched_settings(OPENAPI):
        document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
        text: bytes = renderer().render(document, renderer.media_type, {})
    return text


class JSONDocument(SpectacularJSONAPIView):
    """The document as JSON."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []
    schema = None

    def get(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """The document in the requested form."""
        form = request.accepted_renderer
        kind = f"{form.media_type}; charset={form.charset}" if form.charset else form.media_type
        name = f'inline; filename="{OPENAPI["TITLE"]}.{form.format}"'
        return HttpResponse(rendered(form.__class__), headers={"Content-Type": kind, "Content-Disposition": name})


class YAMLDocument(JSONDocument):
    """The document as YAML."""

    renderer_classes = SpectacularYAMLAPIView.renderer_classes


class DocsPage(SpectacularSwaggerSplitView):
    """Swagger UI under the site's Content-Security-Policy. Its start script has an address of its own."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []
    schema = None
    template_name = "bus/api_docs.html"
    url = reverse_lazy("bus:api:openapi-json")  # type: ignore[assignment] # text by the time it is used

    @staticmethod
    def _swagger_ui_resource(filename: str) -> str:
        return static(f"drf_spectacular_sidecar/swagger-ui-dist/{filename}")

    @classmethod
    def _swagger_ui_favicon(cls) -> str:
        return cls._swagger_ui_resource("favicon-32x32.png")
