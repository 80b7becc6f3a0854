"""Tokens of other packages, known to the bus. Take the function that you need into your project, and name it in the settings.

``ARQONBUS_IDENTIFY = "identify.identify"`` asks all three, one after another.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.http import HttpRequest

from bus.auth.own import Identified


def by_knox(bearer: str) -> Identified:
    """Return the user of a token of django-rest-knox. The sockets end with the token."""
    from knox.auth import TokenAuthentication

    user, token = TokenAuthentication().authenticate_credentials(bearer.encode())
    return Identified(user, expires_at=token.expiry)


def by_simplejwt(bearer: str) -> Identified:
    """Return the user of an access token of djangorestframework-simplejwt. The sockets end with it."""
    from rest_framework_simplejwt.authentication import JWTAuthentication

    check = JWTAuthentication()
    token = check.get_validated_token(bearer.encode())
    return Identified(check.get_user(token), expires_at=datetime.fromtimestamp(token["exp"], UTC))


def by_allauth(bearer: str) -> Identified | None:
    """Return the user of a session token of allauth headless, as an app has it after the log-in."""
    from allauth.headless.contrib.rest_framework.authentication import XSessionTokenAuthentication

    request = HttpRequest()
    request.META["HTTP_X_SESSION_TOKEN"] = bearer
    found = XSessionTokenAuthentication().authenticate(request)
    return Identified(found[0]) if found else None


def identify(bearer: str) -> Identified | None:
    """Return the user of a token of any of the three."""
    if bearer.count(".") == 2:
        return by_simplejwt(bearer)
    # A token of knox has 64 characters by default. The key of a session has 32.
    return by_knox(bearer) if len(bearer) == 64 else by_allauth(bearer)
