"""Live pages: a project whose rows change while browsers look at them."""

from __future__ import annotations
