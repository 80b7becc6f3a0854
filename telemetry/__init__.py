"""Telemetry: events of clients and of the server as a stream, and the activity of clients."""
