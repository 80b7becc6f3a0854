"""The ASGI application: ``daphne arqonbus_site.asgi:application``."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arqonbus_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from arqonbus_site.routing import websocket_application  # noqa: E402 - Django must be set up before
from bus.asgi import bus_application  # noqa: E402

application = bus_application(django_application, websocket_application)
