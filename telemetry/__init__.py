"""Telemetry and activity of the bus."""
