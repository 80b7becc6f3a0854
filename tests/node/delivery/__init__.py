"""Tests of the delivery of messages to the members of a process."""

from __future__ import annotations
