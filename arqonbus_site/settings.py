"""Settings of the ready-made project, all of them from the environment (docs/configuration.md).

Without any variable this is development mode: DEBUG, SQLite and a generated key under ``var/``, and anonymous clients are
admitted. Production is ``DEBUG=0`` with ``SECRET_KEY`` and ``ALLOWED_HOSTS``.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import django
import environ
from django.core.exceptions import ImproperlyConfigured

from arqonbus_site import environment
from arqonbus_site.secret import development_key, prepare_sqlite
from bus.api.openapi import OPENAPI
from bus.conf import settings as conf

BASE_DIR = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (BASE_DIR / "manage.py").exists()
#: The folder of the development database and key: in the checkout, or in the working directory of an installed package.
STATE_DIR = (BASE_DIR if IN_CHECKOUT else Path.cwd()) / "var"
site = environment.read()
if not site.redis_prefix:
    raise ImproperlyConfigured("REDIS_PREFIX is empty. It must be a text that marks the bus's keys.")
for _host in site.allowed_hosts:
    if "/" in _host:
        raise ImproperlyConfigured(
            f"ALLOWED_HOSTS contains {_host!r}; each item must be a host name only, such as bus.example.com."
        )
for _origin in site.csrf_trusted_origins:
    if "://" not in _origin:
        raise ImproperlyConfigured(f"CSRF_TRUSTED_ORIGINS contains {_origin!r}; each item must be scheme://host.")
DEBUG = site.debug

# Database: SQLite in WAL mode with immediate transactions, or PostgreSQL through a pool.
DATABASE_URL = site.database_url or f"sqlite:///{STATE_DIR / 'arqonbus.sqlite3'}"
try:
    with warnings.catch_warnings():
        # The library's warning about an unknown engine shows the whole URL with the password.
        warnings.simplefilter("ignore")
        _database: dict[str, Any] = dict(environ.Env.db_url_config(DATABASE_URL))
except (ValueError, KeyError, environ.ImproperlyConfigured):
    _database = {}
if not _database.get("NAME"):
    _database = {}  # The URL has no name of a database.
if _database.get("ENGINE") == "django.db.backends.sqlite3":
    prepare_sqlite(_database["NAME"], STATE_DIR)
    # With WAL alone, a reader that begins to write fails at once with "database is locked". IMMEDIATE prevents that. With
    # synchronous=NORMAL a killed process loses nothing, but a power cut may lose the last commits (docs/reliability.md).
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; "
            "PRAGMA busy_timeout=5000; PRAGMA cache_size=-32000; PRAGMA wal_autocheckpoint=4000;"
        ),
    }
    # pytest uses a file too, because threads and live servers cannot share an in-memory database.
    _database["TEST"] = {"NAME": str(Path(_database["NAME"]).with_suffix(".test.sqlite3"))}
elif _database.get("ENGINE") == "django.db.backends.postgresql":
    _database["CONN_MAX_AGE"] = 0
    # After a restart of the database, Django finds a dead connection before it uses it.
    _database["CONN_HEALTH_CHECKS"] = True
    _database["OPTIONS"] = {
        # Of several hosts, connect to the one that accepts writes, and never to a standby: the bus cannot work without writes.
        "target_session_attrs": "read-write",
        **_database.get("OPTIONS", {}),
        "pool": {
            "min_size": 1,
            "max_size": site.database_pool,
            "timeout": 1.5,
            # The pool waits longer after each failed try. Our calls try too, and find the database again at once.
            "reconnect_timeout": 0.5,
        },
        "connect_timeout": 2,
        # These values detect a machine that vanished, within seconds.
        "tcp_user_timeout": 2000,
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        # A process may freeze, or lose its network, inside a transaction. Its locks must not block the others for long.
        "options": "-c idle_in_transaction_session_timeout=5000",
    }
else:
    raise ImproperlyConfigured(
        "DATABASE_URL must look like sqlite:////path/to/file.sqlite3 or postgres://user:password@host:5432/name."
    )
DATABASES = {"default": _database}
if site.history_database_url:
    # A read replica. Only pages of history come from it (docs/scaling.md).
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _replica: dict[str, Any] = dict(environ.Env.db_url_config(site.history_database_url))
    except (ValueError, KeyError, environ.ImproperlyConfigured):
        _replica = {}
    if not _replica.get("NAME") or _replica.get("ENGINE") != _database["ENGINE"]:
        raise ImproperlyConfigured(
            "HISTORY_DATABASE_URL must look like DATABASE_URL, and name the same kind of database."
        )
    _replica["OPTIONS"] = {**_database["OPTIONS"], **_replica.get("OPTIONS", {})}
    if "pool" in _replica["OPTIONS"]:
        _replica["OPTIONS"]["target_session_attrs"] = "any"
    # Tests make no second database: it has the rows of the first.
    DATABASES["history"] = {**_database, **_replica, "TEST": {"MIRROR": "default"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The channel layer carries notifications between processes. Without Redis there is one process, with a layer in memory.
REDIS_URL = site.redis_url
if REDIS_URL and not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    raise ImproperlyConfigured("REDIS_URL must look like redis://host:6379/0 (or rediss://, unix://).")
CHANNEL_LAYERS: dict[str, Any] = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [REDIS_URL],
            "prefix": site.redis_prefix,
            "capacity": site.redis_capacity,
            # Messages for a frozen or dead process fill Redis's memory, so they expire, and so does its membership.
            "expiry": site.redis_expiry,
            "group_expiry": site.redis_group_expiry,
        },
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
}

SECRET_KEY = site.secret_key
SECRET_KEY_FALLBACKS = list(site.secret_key_fallbacks)
ALLOWED_HOSTS = list(site.allowed_hosts)
#: Whether the key is the generated one. The bus's notice of development mode mentions it.
DEVELOPMENT_KEY = DEBUG and not SECRET_KEY
if DEBUG:
    SECRET_KEY = SECRET_KEY or development_key(
        Path(_database["NAME"]).parent if "sqlite3" in _database["ENGINE"] else STATE_DIR
    )
    ALLOWED_HOSTS = ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]", "testserver"]
elif not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set. With DEBUG=0, set it to a long random text, and keep it secret.")
elif not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is not set. With DEBUG=0, set it to the host names of this site.")

_history = {"history_database": "history"} if "history" in DATABASES else {}
ARQONBUS = {"science_room": True, **_history, **conf.from_environment(os.environ)}
_bus = conf.build(ARQONBUS)

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "bus",
    "telemetry",
]
#: The policy forbids inline code, and files from other hosts except pictures over https.
_CSP = {
    "default-src": ["'self'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "data:", "https:"],
    "connect-src": ["'self'", "ws:", "wss:"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
if django.VERSION >= (6, 0):
    _CSP_MIDDLEWARE = "django.middleware.csp.ContentSecurityPolicyMiddleware"
    SECURE_CSP = _CSP
else:
    _CSP_MIDDLEWARE = "csp.middleware.CSPMiddleware"
    CONTENT_SECURITY_POLICY = {"DIRECTIVES": _CSP}
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    _CSP_MIDDLEWARE,
    "bus.middleware.OperationsMiddleware",
    "bus.middleware.CrossOriginMiddleware",
    "bus.middleware.PlainRequestMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "arqonbus_site.urls"
ASGI_APPLICATION = "arqonbus_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [(BASE_DIR if IN_CHECKOUT else BASE_DIR / "arqonbus_site") / "templates"],
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
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "bus:console"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = STATE_DIR / "static"
# Serve the apps' static files even without a collectstatic step.
WHITENOISE_USE_FINDERS = True
warnings.filterwarnings("ignore", "No directory at", UserWarning)

# The bus's own views set their policies themselves (bus/api/views/base.py).
REST_FRAMEWORK = {"TEST_REQUEST_DEFAULT_FORMAT": "json"}
SPECTACULAR_SETTINGS = OPENAPI

# Security: relaxed in development, strict in production. Production expects a proxy with HTTPS, unless INSECURE_HTTP is set.
_https = not DEBUG and not site.insecure_http
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SECURE_SSL_REDIRECT = _https and site.ssl_redirect
SECURE_HSTS_SECONDS = site.hsts_seconds if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https and site.hsts_subdomains
BEHIND_PROXY = site.behind_proxy
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_TRUSTED_ORIGINS = list(site.csrf_trusted_origins)
SECURE_REDIRECT_EXEMPT = [r"^(health|ready|version|metrics|metrics/cluster)$"]
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"bus": {"()": "bus.monitoring.log_lines.formatter", "form": _bus.log_format}},
    "filters": {"strangers": {"()": "bus.monitoring.log_lines.Strangers"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "bus", "filters": ["strangers"]}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "arqonbus": {"level": _bus.log_level, "handlers": ["stderr"], "propagate": False},
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "daphne.server": {"level": "ERROR"},
        # The bus logs once that the database is unavailable. The pool would log each try.
        "psycopg.pool": {"level": "ERROR"},
    },
}
