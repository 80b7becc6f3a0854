"""The WebSocket protocol itself, by Autobahn's suite (`make compliance`)."""
