"""An ordinary Django project. What the bus needs is marked with `bus:`."""

from __future__ import annotations

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = Path(os.environ.get("SHOP_STATE", BASE_DIR))
DEBUG = os.environ.get("DEBUG", "1") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "for development only")
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "daphne",  # bus: serves sockets under `runserver` too; it stands first
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",  # bus: REST and its description
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",  # bus: the layer
    "bus",  # bus: rooms, channels, messages, sockets
    "telemetry",  # bus: telemetry and activity
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "shop_site.urls"
ASGI_APPLICATION = "shop_site.asgi.application"  # bus: sockets need ASGI
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE_DIR / "shop.sqlite3",
        # bus: on SQLite it needs WAL and immediate transactions together (PostgreSQL needs nothing special)
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        # bus: tests with a live bus need a file, since it works in threads
        "TEST": {"NAME": STATE_DIR / "shop.test.sqlite3"},
    }
}
# bus: in memory for one process; Redis (channels_redis.core.RedisChannelLayer) for several
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}}
# bus: its settings, by the names of docs/configuration.md in lower case
ARQONBUS = {"auto_create": True, "presence": True}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
