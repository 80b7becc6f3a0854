"""Tests of the adapters of ASGI servers, and of starting and stopping servers."""

from __future__ import annotations
