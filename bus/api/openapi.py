"""drf-spectacular's settings for the bus's OpenAPI document; a project may use them as its own, but need not."""

from __future__ import annotations

from typing import Any

OPENAPI: dict[str, Any] = {
    "TITLE": "ArqonBus",
    "DESCRIPTION": (
        "Rooms, channels, history and publishing over HTTP; the same rules, names and errors as on the socket. "
        "Identify yourself with `Authorization: Bearer <access token>`, or with the session cookie and its CSRF token."
    ),
    "VERSION": "1.0",
    "LICENSE": {"name": "Apache-2.0"},
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "TAGS": [
        {"name": "messages", "description": "Publish, and look through history."},
        {"name": "events", "description": "Follow a channel without a socket."},
        {"name": "channels", "description": "Channels, and who is in them."},
        {"name": "rooms", "description": "Rooms hold channels."},
        {"name": "clients", "description": "Who is connected."},
        {"name": "tokens", "description": "Access tokens of your own."},
        {"name": "grants", "description": "Who may do what where; for admins."},
        {"name": "server", "description": "Figures, processes, the audit log, and who you are."},
    ],
    "COMPONENT_SPLIT_REQUEST": True,
    "PREPROCESSING_HOOKS": ["bus.api.schema.only_the_bus"],
    "ENUM_NAME_OVERRIDES": {
        "GrantSubject": "bus.models.Grant.Subject",
        "GrantAction": "bus.models.Grant.Action",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "persistAuthorization": False, "displayRequestDuration": True},
}
