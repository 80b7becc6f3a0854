"""A WebSocket connection: its handshake, its life, and what its commands see of the process."""
