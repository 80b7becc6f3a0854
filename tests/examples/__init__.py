"""The examples, run as their README files say."""

from __future__ import annotations
