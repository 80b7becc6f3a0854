"""What Django projects get: signals, test helpers, mirrored models, and the apps in a project of their own."""

from __future__ import annotations
