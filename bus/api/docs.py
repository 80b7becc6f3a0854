"""The OpenAPI document, and the page that shows it with nothing from other hosts."""

from __future__ import annotations

import threading
from typing import Any

from django.http import HttpResponse
from django.templatetags.static import static
from django.urls import reverse_lazy
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView, SpectacularYAMLAPIView

from .openapi import OPENAPI

# The settings of somebody else's project are about its own document. drf-spectacular puts ours into a global for the time
# of one answer, so one is made at a time.
_one_at_a_time = threading.Lock()
#: The document in each form that was asked for.
_made: dict[str, tuple[bytes, dict[str, str]]] = {}


class JSONDocument(SpectacularJSONAPIView):
    """The document as JSON."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []
    schema = None
    custom_settings = OPENAPI

    def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Make it, once: strangers may ask for it as often as they like, and it takes a twentieth of a second."""
        renderer = request.accepted_renderer
        made = _made.get(renderer.media_type)
        if made is None:
            with _one_at_a_time:
                answer = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
            kind = f"{renderer.media_type}; charset={renderer.charset}" if renderer.charset else renderer.media_type
            headers = {"Content-Type": kind, "Content-Disposition": answer.headers["Content-Disposition"]}
            made = _made[renderer.media_type] = renderer.render(answer.data, renderer.media_type, {}), headers
        return HttpResponse(made[0], headers=made[1])


class YAMLDocument(JSONDocument):
    """The document as YAML."""

    renderer_classes = SpectacularYAMLAPIView.renderer_classes


class DocsPage(SpectacularSwaggerSplitView):
    """Swagger UI under the site's Content-Security-Policy: the script that starts it is an address of its own."""

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
