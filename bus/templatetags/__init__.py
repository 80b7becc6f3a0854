"""Filters for the bus's pages."""
