"""A WebSocket connection: its handshake, its life, its frames in and out, and what its commands see of the process."""
