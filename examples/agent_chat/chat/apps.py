"""Configuration of the app ``chat``."""

from __future__ import annotations

from django.apps import AppConfig


class ChatConfig(AppConfig):
    """The app with the page of the chat, and the agent that answers."""

    name = "chat"
