"""The tutorial's project in one module: settings, routing and the application that daphne serves.

`BENCH_TEXTBOOK_DB` names the SQLite file; it has the same options as the bus (WAL, immediate
transactions), so that what differs is the way of the message and nothing else.
"""

from __future__ import annotations

import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="benchmark-only",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["bench.peers.textbook"],
    USE_TZ=True,
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["BENCH_TEXTBOOK_DB"],
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 5,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    },
)
django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.db import connection  # noqa: E402
from django.urls import path  # noqa: E402

from bench.peers.textbook.consumers import ChatConsumer  # noqa: E402
from bench.peers.textbook.models import Message  # noqa: E402

if Message._meta.db_table not in connection.introspection.table_names():
    with connection.schema_editor() as editor:
        editor.create_model(Message)
connection.close()

application = ProtocolTypeRouter(
    {"websocket": URLRouter([path("ws/chat/<room_name>/", ChatConsumer.as_asgi())])}  # type: ignore[list-item,arg-type]
)
