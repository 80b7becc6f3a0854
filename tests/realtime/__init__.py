"""Tests of how frames get onto sockets and off them."""

from __future__ import annotations
