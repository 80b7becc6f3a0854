"""HTTP to Django, sockets to the bus, as docs/django.md has it."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.hosts.site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # sets Django up, so it stands before the imports below

from channels.routing import URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from bus.asgi import bus_application  # noqa: E402
from bus.consumers import BusConsumer  # noqa: E402
from telemetry.consumers import TelemetryConsumer  # noqa: E402
from tests.hosts.site.settings import CHOICE  # noqa: E402

prefix = "" if CHOICE.get("prefix") == "root" else "bus/"
telemetry: Any = TelemetryConsumer.as_asgi()
consumer: Any = BusConsumer.as_asgi()
application = bus_application(
    django_application, URLRouter([path(prefix, consumer), path(f"{prefix}telemetry/", telemetry)])
)
