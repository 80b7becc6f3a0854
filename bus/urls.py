"""The bus's addresses; a project includes them at its root (contract §1)."""

from __future__ import annotations

from django.urls import path

from .api import operations

app_name = "bus"

urlpatterns = [
    path("health", operations.health, name="health"),
    path("ready", operations.ready, name="ready"),
    path("version", operations.version, name="version"),
    path("metrics", operations.metrics_page, name="metrics"),
]
