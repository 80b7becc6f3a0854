"""Configuration of the app ``desk``."""

from __future__ import annotations

from django.apps import AppConfig


class DeskConfig(AppConfig):
    """The app with the page of the desk, the agent that drafts, and the handler that writes tickets."""

    name = "desk"
