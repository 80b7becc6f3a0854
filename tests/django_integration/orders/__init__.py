"""An app with a family of models."""

from __future__ import annotations
