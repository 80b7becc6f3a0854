"""ASGI application: HTTP goes to Django, sockets go to the bus."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "desk_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # This call sets Django up, so it comes before the imports below.

from channels.routing import URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from bus.asgi import bus_application  # noqa: E402
from bus.consumers import BusConsumer  # noqa: E402
from telemetry.consumers import TelemetryConsumer  # noqa: E402

sockets = URLRouter(
    [
        # The console looks for the sockets below the prefix of its pages (urls.py).
        path("bus/", BusConsumer.as_asgi()),
        path("bus/telemetry/", TelemetryConsumer.as_asgi()),
    ]
)
application = bus_application(django_application, sockets)
