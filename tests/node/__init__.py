"""Tests of the parts of a node, each without a socket."""

from __future__ import annotations
