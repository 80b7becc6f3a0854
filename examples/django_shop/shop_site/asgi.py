"""HTTP to Django, sockets to the bus."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # sets Django up, so it stands before the imports below

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from bus.consumers import BusConsumer  # noqa: E402
from telemetry.consumers import TelemetryConsumer  # noqa: E402

# Under the same prefix as its pages (urls.py), where the console looks for them.
# The bus checks origin, session and token of every handshake itself: no AuthMiddlewareStack, no OriginValidator around it.
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter(
            [
                path("bus/", BusConsumer.as_asgi()),
                path("bus/telemetry/", TelemetryConsumer.as_asgi()),
            ]
        ),
    }
)
