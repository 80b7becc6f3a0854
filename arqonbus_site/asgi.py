"""The ASGI application: ``daphne arqonbus_site.asgi:application``."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arqonbus_site.settings")

from django.core.asgi import get_asgi_application

from arqonbus_site.refusals import one_line

with one_line():
    django_application = get_asgi_application()

# Django is set up now, so its models can be imported.
from arqonbus_site.routing import websocket_application
from bus.asgi import bus_application

with one_line():
    application = bus_application(django_application, websocket_application)
