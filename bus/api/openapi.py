"""drf-spectacular's settings for the OpenAPI document of the bus. A project may also use them for its own document."""

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
        {"name": "messages", "description": "Publish messages and read history."},
        {"name": "events", "description": "Stream the messages of a channel without a socket."},
        {"name": "work", "description": "Work channels, which hand each message to one worker."},
        {"name": "streams", "description": "Messages that grow, such as the answers of language models."},
        {"name": "channels", "description": "Channels and their members."},
        {"name": "rooms", "description": "Rooms and their settings. A room contains channels."},
        {"name": "clients", "description": "Connected clients."},
        {"name": "tokens", "description": "Your own access tokens."},
        {"name": "grants", "description": "Permissions in rooms and channels, for admins."},
        {"name": "server", "description": "Figures, processes, the audit log, and your identity."},
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
