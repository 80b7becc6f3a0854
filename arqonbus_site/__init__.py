"""The project: settings and wiring, no behaviour."""
