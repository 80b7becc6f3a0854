"""The settings of examples/django_shop, with three packages that issue tokens."""

from __future__ import annotations

import os

from shop_site.settings import *  # noqa: F403
from shop_site.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "knox", "rest_framework_simplejwt", "allauth", "allauth.account", "allauth.headless"]
MIDDLEWARE = [*MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ROOT_URLCONF = "urls"
ACCOUNT_EMAIL_VERIFICATION = "none"

ARQONBUS_IDENTIFY = "identify.identify"
# How soon a token that was withdrawn ends its sockets, in seconds.
ARQONBUS_REVALIDATE = float(os.environ.get("REVALIDATE", "60"))
