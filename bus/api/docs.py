"""The page that shows the OpenAPI document, with nothing from other hosts."""

from __future__ import annotations

from typing import Any

from django.urls import reverse_lazy
from drf_spectacular.views import SpectacularSwaggerSplitView


class DocsPage(SpectacularSwaggerSplitView):
    """Swagger UI under the site's Content-Security-Policy: the script that starts it is an address of its own."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []
    template_name = "bus/api_docs.html"
    url = reverse_lazy("bus:api:openapi-json")  # type: ignore[assignment] # text by the time it is used
