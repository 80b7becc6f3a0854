"""Telemetry and activity of the bus (contract §7)."""
