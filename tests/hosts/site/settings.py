"""An ordinary project, and the choices of one (`HOST`) on top of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STATE = Path(os.environ["HOST_STATE"])
#: `tests.hosts.choices`; what is not named is the usual.
CHOICE: dict[str, str] = json.loads(os.environ.get("HOST", "{}"))
#: Settings as they stand, over everything else.
OVERRIDES: dict[str, Any] = json.loads(os.environ.get("HOST_SETTINGS", "{}"))

DEBUG = True
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.hosts.site.urls"
ASGI_APPLICATION = "tests.hosts.site.asgi.application"
STATIC_URL = "static/"
STATIC_ROOT = STATE / "static"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others take their time, as they should

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "bus",
    "telemetry",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
WHITENOISE_USE_FINDERS = True
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
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


def database(name: str) -> dict[str, Any]:
    """A database file of the project, with the options that the bus wants."""
    options = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": STATE / f"{name}.sqlite3", "OPTIONS": options}


DATABASES = {"default": database("default")}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}}
ARQONBUS: dict[str, Any] = {"anonymous": False}

if CHOICE.get("apps") == "few":
    without = (
        "daphne",
        "django.contrib.admin",
        "django.contrib.messages",
        "channels",
        "rest_framework",
        "django_filters",
    )
    INSTALLED_APPS = [app for app in INSTALLED_APPS if app not in (*without, "drf_spectacular", "telemetry")]
    MIDDLEWARE.remove("django.contrib.messages.middleware.MessageMiddleware")
    TEMPLATES[0]["OPTIONS"] = {}

if CHOICE.get("users", "django") != "django":
    INSTALLED_APPS.append("tests.hosts.people")
    AUTH_USER_MODEL = f"people.{CHOICE['users'].capitalize()}User"
    DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

match CHOICE.get("databases"):
    case "replica":
        DATABASES["replica"] = database("replica")
        DATABASE_ROUTERS = ["bus.routers.BusRouter", "tests.hosts.site.routers.Replica"]
    case "own":
        DATABASES["bus"] = database("bus")
        DATABASE_ROUTERS = ["bus.routers.BusRouter", "tests.hosts.site.routers.OwnDatabase"]

if CHOICE.get("transactions") == "atomic":
    for each in DATABASES.values():
        each["ATOMIC_REQUESTS"] = True

match CHOICE.get("doors"):
    case "hidden":
        CSRF_COOKIE_HTTPONLY = True
        SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
        SESSION_COOKIE_NAME = "sid"
        INSTALLED_APPS.remove("django.contrib.sessions")
    case "sessions":
        CSRF_USE_SESSIONS = True
        SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    case "named":
        CSRF_COOKIE_NAME, CSRF_HEADER_NAME = "XSRF-TOKEN", "HTTP_X_XSRF_TOKEN"
        CSRF_FAILURE_VIEW = "tests.hosts.site.urls.stranger"
        SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

match CHOICE.get("country"):
    case "german":
        LANGUAGE_CODE, TIME_ZONE, USE_THOUSAND_SEPARATOR = "de", "Europe/Berlin", True
    case "nepalese":
        TIME_ZONE = "Asia/Kathmandu"  # 5:45 from UTC
        USE_I18N = False
        DATABASES["default"]["TIME_ZONE"] = "America/St_Johns"

match CHOICE.get("prefix"):
    case "languages":
        MIDDLEWARE.insert(3, "django.middleware.locale.LocaleMiddleware")
        USE_I18N = True
    case "script" if CHOICE.get("server") == "runbus":
        FORCE_SCRIPT_NAME = "/app"

match CHOICE.get("odds"):
    case "production":
        DEBUG = False
        STORAGES = {
            "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
            "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
        }
        WHITENOISE_USE_FINDERS = False
    case "eccentric":
        MIDDLEWARE.insert(1, "django.middleware.gzip.GZipMiddleware")
        APPEND_SLASH = False
        LOGGING_CONFIG = None
        LOGIN_URL = "/nowhere/"
        if CHOICE.get("doors") not in ("sessions", "named"):
            CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}

globals().update(OVERRIDES)
